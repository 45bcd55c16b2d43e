//! How the statements of a text are built, as far as it matters to whoever shows their rows: MySQL's and MariaDB's.
//!
//! Servers of this dialect say of each field of a result which column of which table it is. For tables that a query
//! names itself this is so; a query within a query can have them say of a value what it likes. So what is built of
//! one query alone is told from everything else, by its words.
//!
//! INVARIANT: what is not plainly one of the other forms is [`Form::Other`].
//!
//! Not here: what a statement does (`leading`, `structure`).

use std::collections::BTreeSet;

use super::{
    Place,
    lexer::{self, Kind, Token, Unclear},
};

/// How a text is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// One query that names its tables itself, has no other in it, and keeps nothing of what it finds.
    OneQuery,
    /// It says which tables, columns and settings there are.
    Listing,
    /// It may tell what other statements came across.
    Telling,
    /// Anything else.
    #[default]
    Other,
}

/// A text, as it is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) form: Form,
    /// Every name and word in it, and the database in use, in lower case, where its form is [`Form::Other`].
    pub(crate) names: BTreeSet<String>,
    /// What may be called in it: names before a bracket, in lower case.
    pub(crate) calls: BTreeSet<String>,
}

impl Built {
    /// The command that lists columns.
    pub(crate) fn listing() -> Self {
        Self {
            form: Form::Listing,
            ..Self::default()
        }
    }
}

/// Words of queries within queries, of queries that are joined, and of what keeps or makes values otherwise.
const NOT_ALONE: [&str; 13] = [
    "EXCEPT",
    "INTERSECT",
    "INTO",
    "JSON_TABLE",
    "LAST_INSERT_ID",
    "MINUS",
    "PROCEDURE",
    "RETURNING",
    "TABLE",
    "UNION",
    "VALUES",
    "WITH",
    "XMLTABLE",
];

/// What `SHOW` may list.
const LISTS: [&str; 21] = [
    "CHARACTER",
    "CHARSET",
    "COLLATION",
    "COLUMNS",
    "CREATE",
    "DATABASES",
    "ENGINES",
    "EVENTS",
    "FIELDS",
    "GRANTS",
    "INDEX",
    "INDEXES",
    "KEYS",
    "PLUGINS",
    "PRIVILEGES",
    "SCHEMAS",
    "STATUS",
    "TABLE",
    "TABLES",
    "TRIGGERS",
    "VARIABLES",
];

/// How this text is built.
pub(crate) fn built(sql: &[u8], place: Place<'_>) -> Built {
    read(sql, place).unwrap_or_default()
}

fn read(sql: &[u8], place: Place<'_>) -> Result<Built, Unclear> {
    if sql.len() > super::TEXT_BYTES_MAX {
        return Err(Unclear);
    }
    let text = std::str::from_utf8(sql).map_err(|_| Unclear)?;
    let tokens = lexer::tokens(text, place.dialect)?;
    let statements = lexer::statements(&tokens)?;
    let form = match statements.as_slice() {
        [statement] => of(statement),
        several if several.iter().any(|one| of(one) == Form::Telling) => Form::Telling,
        _ => Form::Other,
    };
    let names = tokens
        .iter()
        .filter(|token| form == Form::Other && matches!(token.kind, Kind::Word | Kind::Name));
    let calls = tokens.windows(2).filter_map(|pair| match pair {
        [name, bracket] if bracket.is_symbol("(") => Some(name.text.to_lowercase()),
        _ => None,
    });
    Ok(Built {
        form,
        names: names
            .map(|token| token.text.to_lowercase())
            .chain(place.database.map(str::to_lowercase))
            .collect(),
        calls: calls.collect(),
    })
}

fn of(statement: &[Token<'_>]) -> Form {
    let Some((first, rest)) = statement.split_first() else {
        return Form::Other;
    };
    if first.is_word("SELECT") {
        return query(rest);
    }
    if first.is_word("SHOW") {
        let kind = rest.iter().find(|token| {
            !["FULL", "EXTENDED", "SESSION", "LOCAL", "GLOBAL"]
                .iter()
                .any(|how| token.is_word(how))
        });
        let lists = kind.is_some_and(|kind| LISTS.iter().any(|list| kind.is_word(list)));
        return match lists && !rest.iter().any(calculates) {
            true => Form::Listing,
            false => Form::Telling,
        };
    }
    if first.is_word("DESCRIBE") || first.is_word("DESC") {
        return describes(rest);
    }
    Form::Other
}

fn query(rest: &[Token<'_>]) -> Form {
    let is_alone = !rest.iter().any(|token| {
        token.is_word("SELECT")
            || NOT_ALONE.iter().any(|word| token.is_word(word))
            || token.is_symbol(":")
    });
    match is_alone {
        true => Form::OneQuery,
        false => Form::Other,
    }
}

/// `DESCRIBE table [column]`, and nothing that could be a statement.
fn describes(rest: &[Token<'_>]) -> Form {
    const MOST: usize = 5;
    let is_name = |token: &Token<'_>| match token.kind {
        Kind::Word => !["ANALYZE", "EXTENDED", "FOR", "FORMAT", "PARTITIONS"]
            .iter()
            .any(|word| token.is_word(word)),
        Kind::Name | Kind::Text => true,
        _ => token.is_symbol("."),
    };
    match rest.len() <= MOST && rest.iter().all(is_name) {
        true => Form::Listing,
        false => Form::Other,
    }
}

/// Whether a condition of a list could do more than compare.
fn calculates(token: &Token<'_>) -> bool {
    token.is_symbol("(") || token.is_symbol(":") || token.is_symbol("@")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Backslash, Dialect, DoubleQuotes};

    fn form_of(sql: &str) -> Form {
        let dialect = Dialect::MySql {
            backslash: Backslash::Escapes,
            quotes: DoubleQuotes::Unsure,
        };
        let place = Place {
            dialect,
            database: Some("shop"),
            shapes: None,
        };
        built(sql.as_bytes(), place).form
    }

    /// PO-2, G4: only a query that stands alone is one.
    #[test]
    fn given_queries_then_only_those_that_stand_alone_are_one_query() {
        for alone in [
            "SELECT email FROM customer",
            "select /* all */ c.email AS `select` FROM shop.customer c JOIN item USING (id) WHERE c.id IN (1, 2);",
            "SELECT id FROM customer WHERE email = 'SELECT' ORDER BY id LIMIT 1",
        ] {
            assert_eq!(form_of(alone), Form::OneQuery, "{alone}");
        }
        for other in [
            "SELECT name FROM (SELECT email AS name FROM customer) AS item",
            "SELECT (sElEcT 1)",
            "WITH item AS (SELECT email AS name FROM customer) SELECT name FROM item",
            "SELECT name FROM item UNION SELECT email FROM customer",
            "(SELECT email FROM customer)",
            "TABLE customer",
            "SELECT email INTO @x FROM customer",
            "SELECT @x := email FROM customer",
            "SELECT @x:=email FROM customer",
            "SELECT id FROM customer WHERE last_insert_id(ord(email)) > 0",
            "SELECT email FROM customer PROCEDURE ANALYSE()",
            "SELECT j.name FROM customer, JSON_TABLE(email, '$' COLUMNS (name int PATH '$')) j",
            "SELECT 1; SELECT email FROM customer",
            "SELECT email /*! , 1 */ FROM customer",
            "HANDLER customer OPEN",
            "EXPLAIN SELECT email FROM customer",
            "DESCRIBE FORMAT=JSON SELECT email FROM customer",
            "DESC SELECT email FROM customer WHERE email > ''",
            "",
        ] {
            assert_eq!(form_of(other), Form::Other, "{other}");
        }
    }

    /// PO-2, G4: what tells of other statements is no list.
    #[test]
    fn given_lists_then_those_of_tables_and_settings_are_and_others_are_not() {
        for list in [
            "SHOW TABLES",
            "SHOW FULL TABLES FROM shop LIKE 'c%'",
            "SHOW SESSION VARIABLES LIKE 'sql_mode'",
            "SHOW FIELDS FROM `customer`",
            "DESCRIBE customer",
            "desc shop.customer email",
        ] {
            assert_eq!(form_of(list), Form::Listing, "{list}");
        }
        for telling in [
            "SHOW WARNINGS",
            "SHOW COUNT(*) ERRORS",
            "SHOW ENGINE INNODB STATUS",
            "SHOW BINLOG EVENTS",
            "SHOW EXPLAIN FOR 1",
            "SHOW PROFILE",
            "SHOW TABLES WHERE @x := (SELECT 1)",
            "SELECT 1; SHOW WARNINGS",
        ] {
            assert_eq!(form_of(telling), Form::Telling, "{telling}");
        }
    }
}
