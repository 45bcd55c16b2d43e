//! What protocols of databases share that mask columns: what stands in the place of a value, and how masked columns
//! are reached through views.
//!
//! Each protocol finds out by itself whose values a field holds, and asks a target's catalogue in its own way.
//! docs/adr/0026-masked-columns.md and docs/adr/0028-masked-columns-of-mysql.md say why it is done so.
//!
//! INVARIANT: what cannot be masked is [`Unmaskable`], never shown.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use sallyport_core::policy::Mask;

/// What stands for characters that are not shown.
const HIDDEN: &str = "****";
/// Characters of a value that a partial mask shows, and how long a value is at least of which any is shown.
const SHOWN_CHARS: usize = 4;
const SHOWN_OF_CHARS_MIN: usize = 8;

/// What the person reads in place of the target's words about a statement that may show masked columns.
pub(super) const KEPT_BACK: &str =
    "sallyport: the target's error is shown by its code alone, because columns are masked";

/// A result that cannot be shown: it may hold values of masked columns in a form that cannot be masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unmaskable;

/// What a relation has to do with masked columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing.
    Clear,
    /// It has them.
    Holds,
    /// It may show them, or what was made of them.
    Shows,
}

/// Follows views: each shows what is behind it, through as many as there are. `asks` has a view and a relation
/// that it asks; one that asks what is not known is not known.
pub(super) fn spread<K: Clone + Eq + Hash>(reaches: &mut HashMap<K, Reach>, asks: &[(K, K)]) {
    let mut views_of: HashMap<&K, HashSet<&K>> = HashMap::new();
    for (view, asked) in asks {
        views_of.entry(asked).or_default().insert(view);
    }
    let mut rest: Vec<K> = reaches
        .iter()
        .filter(|(_, reach)| **reach != Reach::Clear)
        .map(|(relation, _)| relation.clone())
        .collect();
    let unknown = views_of
        .keys()
        .filter(|relation| !reaches.contains_key(**relation));
    rest.extend(unknown.map(|relation| (*relation).clone()));
    while let Some(relation) = rest.pop() {
        for view in views_of.get(&relation).into_iter().flatten() {
            if reaches.insert((*view).clone(), Reach::Shows) != Some(Reach::Shows) {
                rest.push((*view).clone());
            }
        }
    }
}

/// What stands in the place of a value of this column; nothing for NULL. `token` makes tokens from a column's name
/// and a value.
pub(super) fn stand_in(
    mask: Mask,
    column: &str,
    value: Option<&[u8]>,
    token: impl Fn(&str, &[u8]) -> Option<String>,
) -> Result<Option<String>, Unmaskable> {
    match (value, mask) {
        (None, _) | (_, Mask::Null) => Ok(None),
        (Some(value), Mask::Partial) => Ok(Some(partly(value))),
        (Some(value), Mask::Token) => token(column, value).map(Some).ok_or(Unmaskable),
    }
}

/// The last characters of a value that has enough of them. What is not UTF-8 shows nothing.
fn partly(value: &[u8]) -> String {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let chars = text.chars().count();
    let shown: String = match chars >= SHOWN_OF_CHARS_MIN {
        true => text
            .chars()
            .skip(chars.saturating_sub(SHOWN_CHARS))
            .collect(),
        false => String::new(),
    };
    format!("{HIDDEN}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-2
    #[test]
    fn given_a_value_then_what_stands_for_it_shows_its_end_its_token_or_nothing() {
        let token = |column: &str, _: &[u8]| Some(format!("tok_{column}"));
        let shown = |mask, value: Option<&[u8]>| stand_in(mask, "c", value, token).unwrap();
        for (value, expected) in [
            (&b"1234567"[..], "****"),
            (b"12345678", "****5678"),
            ("ümläutß!".as_bytes(), "****utß!"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", "****"),
        ] {
            assert_eq!(shown(Mask::Partial, Some(value)).as_deref(), Some(expected));
        }
        assert_eq!(shown(Mask::Token, Some(b"x")).as_deref(), Some("tok_c"));
        for mask in [Mask::Partial, Mask::Token, Mask::Null] {
            assert_eq!(shown(mask, None), None);
        }
        assert_eq!(shown(Mask::Null, Some(b"x")), None);
        let none = stand_in(Mask::Token, "c", Some(b"x"), |_, _| None);
        assert_eq!(none, Err(Unmaskable), "no token");
    }

    /// PO-2, G4
    #[test]
    fn given_views_of_views_then_all_show_what_is_behind_them_and_what_is_unknown_is_not_clear() {
        let mut reaches = HashMap::from([
            ("customer", Reach::Holds),
            ("item", Reach::Clear),
            ("view", Reach::Clear),
            ("view of view", Reach::Clear),
            ("view of item", Reach::Clear),
            ("view of nothing", Reach::Clear),
        ]);
        let asks = [
            ("view of view", "view"),
            ("view", "customer"),
            ("view of item", "item"),
            ("view of nothing", "nothing"),
        ];
        spread(&mut reaches, &asks);
        for (relation, expected) in [
            ("customer", Reach::Holds),
            ("item", Reach::Clear),
            ("view", Reach::Shows),
            ("view of view", Reach::Shows),
            ("view of item", Reach::Clear),
            ("view of nothing", Reach::Shows),
        ] {
            assert_eq!(reaches[relation], expected, "{relation}");
        }
    }
}
