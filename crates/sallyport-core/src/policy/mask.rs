//! Columns whose values are not shown as they are.
//!
//! INVARIANT: the stricter of two ways to show a column holds.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a column with everything in front of it, in bytes.
const NAME_BYTES_MAX: usize = 300;

/// How the values of a column are shown. Ordered: what is stricter comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// The last characters, if the value is long enough.
    Partial,
    /// A token in its place: the same for equal values.
    Token,
    /// Nothing.
    Null,
}

impl Mask {
    /// As policies spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::Token => "token",
            Self::Null => "null",
        }
    }
}

impl FromStr for Mask {
    type Err = ParseColumnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Partial, Self::Token, Self::Null]
            .into_iter()
            .find(|mask| mask.as_str() == text)
            .ok_or(ParseColumnError)
    }
}

/// A text that names no column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read `database.schema.relation.column`")]
pub struct ParseColumnError;

/// A column of a database, as policies name it: `database.schema.relation.column`. The database and the schema
/// may be `*`, for any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ColumnName {
    database: Option<String>,
    schema: Option<String>,
    relation: String,
    column: String,
}

impl ColumnName {
    /// Whether it may be in this database.
    #[must_use]
    pub fn is_in(&self, database: &str) -> bool {
        self.database.as_deref().is_none_or(|name| name == database)
    }

    /// Whether it is one of this relation's.
    #[must_use]
    pub fn is_of(&self, schema: &str, relation: &str) -> bool {
        self.relation == relation && self.schema.as_deref().is_none_or(|name| name == schema)
    }

    /// The database that it is in; nothing for any.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The relation that it is one of. No quotes, no backslash, nothing that ends a text of SQL.
    #[must_use]
    pub fn relation(&self) -> &str {
        &self.relation
    }

    /// Its own name. No quotes, no backslash, nothing that ends a text of SQL.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }
}

impl FromStr for ColumnName {
    type Err = ParseColumnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_named = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-'))
        };
        let parts: Vec<&str> = text.split('.').collect();
        let [database, schema, relation, column] = parts.as_slice() else {
            return Err(ParseColumnError);
        };
        let any_or_named = |part: &str| part == "*" || is_named(part);
        let is_name = any_or_named(database)
            && any_or_named(schema)
            && is_named(relation)
            && is_named(column)
            && text.len() <= NAME_BYTES_MAX;
        let known = |part: &str| (part != "*").then(|| part.to_owned());
        is_name
            .then(|| Self {
                database: known(database),
                schema: known(schema),
                relation: (*relation).to_owned(),
                column: (*column).to_owned(),
            })
            .ok_or(ParseColumnError)
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".to_owned());
        let (database, schema) = (part(&self.database), part(&self.schema));
        write!(f, "{database}.{schema}.{}.{}", self.relation, self.column)
    }
}

impl TryFrom<String> for ColumnName {
    type Error = ParseColumnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ColumnName> for String {
    fn from(name: ColumnName) -> Self {
        name.to_string()
    }
}

/// Columns that are not shown as they are, and how each is shown.
pub type Masks = BTreeMap<ColumnName, Mask>;

/// Adds masks to others; the stricter of two for the same column holds.
pub(super) fn add(masks: &mut Masks, others: &Masks) {
    for (column, mask) in others {
        let known = masks.entry(column.clone()).or_insert(*mask);
        *known = (*known).max(*mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-2
    #[test]
    fn given_names_of_columns_then_each_part_is_there_and_nothing_ends_a_text_of_sql() {
        for good in [
            "shop.public.customers.email",
            "*.*.customers.e-mail",
            "shop.*.Kunden.straße",
        ] {
            let name: ColumnName = good.parse().unwrap();
            assert_eq!(name.to_string(), good);
            let stored = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<ColumnName>(&stored).unwrap(), name);
        }
        for bad in [
            "",
            "customers.email",
            "a.b.c.d.e",
            "*.*.*.email",
            "*.*.customers.*",
            "shop.public.customers.",
            "shop.public.customers.e'mail",
            "shop.public.customers.e\\mail",
            "shop.public.cust\"omers.email",
            "shop.public.customers.e mail",
        ] {
            assert_eq!(bad.parse::<ColumnName>(), Err(ParseColumnError), "{bad}");
        }
        let name: ColumnName = "*.public.customers.email".parse().unwrap();
        assert!(name.is_in("shop") && name.is_of("public", "customers"));
        assert!(!name.is_of("other", "customers") && !name.is_of("public", "items"));
    }

    /// PO-2: of two ways to show a column, the one that shows less holds.
    #[test]
    fn given_two_masks_of_a_column_then_the_stricter_holds() {
        let column: ColumnName = "shop.public.customers.email".parse().unwrap();
        let one = |mask| Masks::from([(column.clone(), mask)]);
        for (first, second, expected) in [
            (Mask::Partial, Mask::Token, Mask::Token),
            (Mask::Null, Mask::Partial, Mask::Null),
            (Mask::Token, Mask::Null, Mask::Null),
        ] {
            let mut masks = one(first);
            add(&mut masks, &one(second));
            assert_eq!(masks, one(expected));
        }
    }
}
