//! Pages of lists: limits, cursors, and whether there is more.

use sallyport_api::rest::page::{Page, PageQuery};

use super::problem::{Fault, HttpProblem};

/// Items on a page when nobody says.
const LIMIT_DEFAULT: u32 = 50;
/// Most items on a page.
const LIMIT_MAX: u32 = 500;

/// One page to load: `limit` items after `cursor`, and one more to see whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Items on the page.
    pub limit: u32,
    /// Where it begins; empty for the first.
    pub cursor: String,
}

impl Wanted {
    /// Reads a query.
    ///
    /// # Errors
    /// A problem naming `limit` or `cursor`.
    pub fn from_query(query: &PageQuery) -> Result<Self, HttpProblem> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(HttpProblem::of(Fault::field("limit", "is 1 to 500")));
        }
        let cursor = query.cursor.clone().unwrap_or_default();
        if cursor.len() > 64
            || !cursor
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        {
            return Err(HttpProblem::of(Fault::field(
                "cursor",
                "is not one that a page gave as `next`",
            )));
        }
        Ok(Self { limit, cursor })
    }

    /// How many to load: one more than shown.
    #[must_use]
    pub const fn load(&self) -> u32 {
        self.limit.saturating_add(1)
    }

    /// The page of what was loaded; `cursor_of` names an item.
    #[must_use]
    pub fn page<T>(&self, mut items: Vec<T>, cursor_of: impl Fn(&T) -> String) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = if has_more {
            items.last().map(cursor_of)
        } else {
            None
        };
        Page { items, next }
    }
}
