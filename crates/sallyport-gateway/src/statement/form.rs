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
    /// It calls something that may be given values of its tables.
    pub(crate) computes: bool,
    /// Every name and text that may stand beside an operator other than `=`, in lower case.
    pub(crate) compared: BTreeSet<String>,
    /// It leaves results in a set of characters whose texts are read here as a client reads them.
    pub(crate) keeps_results_plain: bool,
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

/// Words before a bracket that call nothing.
const NOT_CALLED: [&str; 18] = [
    "ALL", "AND", "BY", "CASE", "DISTINCT", "ELSE", "FROM", "HAVING", "IN", "JOIN", "NOT", "ON",
    "OR", "SELECT", "THEN", "USING", "WHEN", "WHERE",
];
/// What may be called without being given anything.
const GIVEN_NOTHING: [&str; 6] = [
    "CURDATE",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "CURTIME",
    "NOW",
    "UTC_TIMESTAMP",
];
/// Words of operators that tell more of a value than whether it is another.
const OPERATORS: [&str; 10] = [
    "AGAINST", "BETWEEN", "BINARY", "COLLATE", "DIV", "LIKE", "MOD", "REGEXP", "RLIKE", "SOUNDS",
];
/// Symbols that are no such operator.
const NO_OPERATORS: [&str; 8] = [".", ",", "(", ")", "=", "?", "@", ";"];
/// What comes after the conditions of a query, and may name what it shows by the names that it gave.
const AFTER_CONDITIONS: [&str; 5] = ["GROUP", "HAVING", "LIMIT", "ORDER", "WINDOW"];
/// Sets of characters of results whose texts are read here as a client reads them.
const PLAIN: [&str; 7] = [
    "ascii", "binary", "latin1", "null", "utf8", "utf8mb3", "utf8mb4",
];
/// What `DESCRIBE` may be followed by that is no table.
const NOT_DESCRIBED: [&str; 13] = [
    "ANALYZE",
    "DELETE",
    "EXTENDED",
    "FOR",
    "FORMAT",
    "INSERT",
    "PARTITIONS",
    "REPLACE",
    "SELECT",
    "TABLE",
    "UPDATE",
    "VALUES",
    "WITH",
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
        computes: computes(&tokens),
        compared: compared(&tokens),
        keeps_results_plain: statements.iter().all(|one| keeps_results_plain(one)),
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
        token.is_word("SELECT") || is_one_of(token, &NOT_ALONE) || token.is_symbol(":")
    });
    // A function is called by its name in quotes as well.
    let calls_none = !rest.windows(2).any(|pair| match pair {
        [name, bracket] if bracket.is_symbol("(") => NOT_ALONE
            .iter()
            .any(|word| name.text.eq_ignore_ascii_case(word)),
        _ => false,
    });
    match is_alone && calls_none {
        true => Form::OneQuery,
        false => Form::Other,
    }
}

/// `DESCRIBE table [column]`, and nothing that could be a statement.
fn describes(rest: &[Token<'_>]) -> Form {
    const MOST: usize = 5;
    let is_name = |token: &Token<'_>| match token.kind {
        Kind::Word => !is_one_of(token, &NOT_DESCRIBED),
        Kind::Name | Kind::Text => true,
        _ => token.is_symbol("."),
    };
    match rest.len() <= MOST && rest.iter().all(is_name) {
        true => Form::Listing,
        false => Form::Other,
    }
}

fn is_one_of(token: &Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is_word(word))
}

/// Whether anything is called that may be given values.
fn computes(tokens: &[Token<'_>]) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let follows = |by: usize, symbol: &str| {
            let next = tokens.get(at.saturating_add(by));
            next.is_some_and(|next| next.is_symbol(symbol))
        };
        let is_empty = is_one_of(token, &GIVEN_NOTHING) && follows(2, ")");
        token.kind != Kind::Symbol && follows(1, "(") && !is_one_of(token, &NOT_CALLED) && !is_empty
    })
}

/// What may stand beside an operator that tells more than whether two values are equal. An operator among a query's
/// conditions is beside what follows the word `FROM`; any other may be beside whatever the query holds, because what
/// is shown has names of its own there.
fn compared(tokens: &[Token<'_>]) -> BTreeSet<String> {
    let from = tokens.iter().position(|token| token.is_word("FROM"));
    let (shown, rest) = tokens
        .split_at_checked(from.unwrap_or_default())
        .unwrap_or_default();
    let end = rest
        .iter()
        .position(|token| is_one_of(token, &AFTER_CONDITIONS));
    let (conditions, last) = rest
        .split_at_checked(end.unwrap_or(rest.len()))
        .unwrap_or_default();
    // All columns, and no product.
    let shown_operates = shown
        .iter()
        .any(|token| operates(token) && !token.is_symbol("*"));
    let scope = match (
        shown_operates || last.iter().any(operates),
        conditions.iter().any(operates),
    ) {
        (true, _) => tokens,
        (false, true) => rest,
        (false, false) => &[],
    };
    let names = scope
        .iter()
        .filter(|token| matches!(token.kind, Kind::Word | Kind::Name | Kind::Text));
    names.map(|token| token.text.to_lowercase()).collect()
}

fn operates(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Symbol => !NO_OPERATORS.contains(&token.text.as_ref()),
        _ => is_one_of(token, &OPERATORS),
    }
}

/// Whether a statement leaves the set of characters of results plain.
fn keeps_results_plain(statement: &[Token<'_>]) -> bool {
    if !statement.first().is_some_and(|first| first.is_word("SET")) {
        return true;
    }
    let is = |token: &Token<'_>, name: &str| token.text.eq_ignore_ascii_case(name);
    statement.iter().enumerate().all(|(at, token)| {
        let mut rest = statement.iter().skip(at.saturating_add(1));
        if is(token, "CHARACTER") {
            rest.next();
        } else if !["CHARACTER_SET_RESULTS", "CHARSET", "NAMES"]
            .iter()
            .any(|name| is(token, name))
        {
            return true;
        }
        let value = rest.find(|token| !token.is_symbol("=") && !token.is_symbol(":"));
        value.is_some_and(|value| PLAIN.iter().any(|plain| is(value, plain)))
    })
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
        built_of(sql).form
    }

    fn built_of(sql: &str) -> Built {
        let dialect = Dialect::MySql {
            backslash: Backslash::Escapes,
            quotes: DoubleQuotes::Unsure,
        };
        let place = Place {
            dialect,
            database: Some("shop"),
            shapes: None,
        };
        built(sql.as_bytes(), place)
    }

    /// PO-2, G4: what can read a value out of a condition is known, however it is written.
    #[test]
    fn given_conditions_then_calls_and_what_is_compared_other_than_by_equality_are_known() {
        for calls in [
            "SELECT id FROM c WHERE ord(email) = 1",
            "SELECT id FROM c WHERE `ord` (email) = 1",
            "SELECT id FROM c WHERE \"ord\"(email) = 1",
            "SELECT id FROM c WHERE left(email, 1) = 'a'",
            "SELECT id FROM c WHERE now(email) = 1",
        ] {
            assert!(built_of(calls).computes, "{calls}");
        }
        for none in [
            "SELECT (id) FROM c JOIN d USING (id) WHERE (a = 1 OR (b = 2)) AND id IN (1) AND NOT (d < now())",
            "SELECT id FROM c WHERE a = '(' ",
        ] {
            assert!(!built_of(none).computes, "{none}");
        }
        for (sql, is_compared) in [
            (
                "SELECT id, email FROM c WHERE id < 4 ORDER BY id LIMIT 1",
                false,
            ),
            ("SELECT c.*, email FROM c WHERE id = 4", false),
            ("SELECT id FROM c WHERE email = 'a' AND id IN (1, 2)", false),
            ("SELECT id FROM c WHERE email LIKE 'a%'", true),
            ("SELECT id FROM c WHERE c.`EMAIL` >= 'a'", true),
            ("SELECT id FROM c WHERE \"email\" rlike 'a'", true),
            ("SELECT id FROM c WHERE email BETWEEN 'a' AND 'b'", true),
            ("SELECT id FROM c JOIN d ON d.id = email + 0", true),
            ("SELECT id FROM c JOIN d ON d.id = email DIV 10", true),
            ("SELECT email AS e FROM c HAVING e > 'a'", true),
            ("SELECT email e FROM c ORDER BY e < 'b'", true),
            ("SELECT email > 'a' FROM c", true),
        ] {
            assert_eq!(
                built_of(sql).compared.contains("email"),
                is_compared,
                "{sql}"
            );
        }
    }

    /// PO-2, G4: the set of characters of results stays one that is read here as a client reads it.
    #[test]
    fn given_settings_then_only_plain_sets_of_characters_keep_results_plain() {
        for plain in [
            "SET NAMES utf8mb4",
            "SET NAMES 'latin1' COLLATE latin1_bin",
            "SET character_set_results = NULL",
            "SET @@session.character_set_results := binary, autocommit = 1",
            "SET CHARACTER SET utf8",
            "SELECT names FROM c",
            "BEGIN",
        ] {
            assert!(built_of(plain).keeps_results_plain, "{plain}");
        }
        for other in [
            "SET NAMES utf16",
            "SET NAMES DEFAULT",
            "SET character_set_results = filename",
            "SET autocommit = 1, `character_set_results` = 'utf32'",
            "SET SESSION character_set_results = @@character_set_system",
            "SET CHARACTER SET ucs2",
            "SET CHARSET ucs2",
            "SELECT 1; SET NAMES utf16",
            "SET STATEMENT character_set_results = utf16 FOR SELECT 1",
            "SET NAMES 'utf16",
        ] {
            assert!(!built_of(other).keeps_results_plain, "{other}");
        }
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
            "SELECT id FROM customer WHERE `last_insert_id`(ord(email)) > 0",
            "SELECT id FROM customer WHERE \"LAST_INSERT_ID\" (ord(email)) > 0",
            "SELECT email FROM customer PROCEDURE ANALYSE()",
            "SELECT j.name FROM customer, JSON_TABLE(email, '$' COLUMNS (name int PATH '$')) j",
            "SELECT 1; SELECT email FROM customer",
            "SELECT email /*! , 1 */ FROM customer",
            "HANDLER customer OPEN",
            "EXPLAIN SELECT email FROM customer",
            "DESCRIBE FORMAT=JSON SELECT email FROM customer",
            "DESC SELECT email FROM customer WHERE email > ''",
            "DESC SELECT email FROM customer",
            "DESCRIBE DELETE FROM customer",
            "DESC TABLE customer",
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
