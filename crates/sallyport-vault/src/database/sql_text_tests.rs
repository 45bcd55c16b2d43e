//! Quoting and reading SQL as text: what is one token stays one, and what could be read in two ways is refused.

use proptest::prelude::*;

use super::*;

const VALUES: Values<'_> = Values {
    user: "o\"b`r'ien",
    expires_at: "2026-01-01T00:00:00.000Z",
    database: "shop",
};

fn filled(dialect: Dialect, text: &str) -> Vec<String> {
    let statements = dialect.statements(text).unwrap();
    statements.iter().map(|one| one.fill(&VALUES)).collect()
}

/// VA-3, D5
#[test]
fn given_creation_statements_then_placeholders_become_tokens_and_statements_are_told_apart() {
    let text = "GRANT SELECT ON \"a;b\" TO {{user}}; -- it's fine;\n\
                ALTER ROLE {{ user }} VALID UNTIL {{expires_at}} ;\n\
                DO $x$ BEGIN; PERFORM 1; END $x$; ;";
    assert_eq!(
        filled(Dialect::Postgres, text),
        [
            "GRANT SELECT ON \"a;b\" TO \"o\"\"b`r'ien\"",
            " -- it's fine;\nALTER ROLE \"o\"\"b`r'ien\" VALID UNTIL '2026-01-01T00:00:00.000Z' ",
            "\nDO $x$ BEGIN; PERFORM 1; END $x$",
        ]
    );
    assert_eq!(
        filled(Dialect::Mysql, "GRANT SELECT ON {{database}}.* TO {{user}}"),
        ["GRANT SELECT ON `shop`.* TO 'o\"b`r''ien'@'%'"]
    );
}

/// VA-3, D5
#[test]
fn given_statements_that_could_be_read_in_two_ways_then_they_are_refused() {
    use SqlTextError::{Forbidden, QuotedPlaceholder, Transaction, Unfinished, UnknownPlaceholder};
    for (text, expected) in [
        ("GRANT x TO '{{user}}'", QuotedPlaceholder),
        ("GRANT x TO \"{{user}}\"", QuotedPlaceholder),
        ("-- {{user}}", QuotedPlaceholder),
        ("/* {{user}} */ SELECT 1", QuotedPlaceholder),
        ("DO $$ {{user}} $$", QuotedPlaceholder),
        ("GRANT x TO {{password}}", UnknownPlaceholder),
        ("GRANT x TO {{user}", Unfinished),
        ("SELECT 'a", Unfinished),
        ("SELECT $a$ b $c$", Unfinished),
        ("/* a", Unfinished),
        ("SELECT E'\\''", Forbidden),
        ("/*! DROP USER x */", Forbidden),
        ("/* /* */ */", Forbidden),
        ("SELECT \0", Forbidden),
        ("GRANT x TO {{user}}; COMMIT", Transaction),
        ("/* a */ -- b\n  rollback", Transaction),
        ("PREPARE TRANSACTION 'x'", Transaction),
    ] {
        assert_eq!(Dialect::Postgres.statements(text), Err(expected), "{text}");
    }
}

/// VA-3, D5
#[test]
fn given_a_list_of_names_then_each_is_read_as_sql_would() {
    let read = |text: &str| Dialect::Postgres.name_list(text);
    assert_eq!(
        read(" ReadOnly , \"we,ird \"\"one\"\"\",\"Größe\"").unwrap(),
        ["readonly", "we,ird \"one\"", "Größe"]
    );
    assert_eq!(read("").unwrap(), Vec::<String>::new());
    assert_eq!(read(&"a".repeat(63)).unwrap().len(), 1);
    assert_eq!(read(&"a".repeat(64)), Err(SqlTextError::NameLength));
    assert_eq!(read("\"\""), Err(SqlTextError::NameLength));
    for text in ["a b", "a,", ",a", "\"a", "1a", "a;b", "ä"] {
        assert_eq!(read(text), Err(SqlTextError::NameList), "{text}");
    }
}

/// Reads a quoted token back as a server would, and demands that nothing follows it.
fn unquoted(quoted: &str, quote: char, escapes: bool) -> Option<String> {
    let mut chars = quoted.strip_prefix(quote)?.chars().peekable();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\\' if escapes => text.push(chars.next()?),
            c if c == quote => match chars.next() {
                Some(next) if next == quote => text.push(quote),
                Some(_) => return None,
                None => return Some(text),
            },
            c => text.push(c),
        }
    }
}

proptest! {
    /// VA-3, D5
    #[test]
    fn whatever_a_name_or_value_holds_it_is_one_token(text in "[^\0]{0,40}|['\"`\\\\;a]{0,20}") {
        let (postgres, mysql) = (Dialect::Postgres, Dialect::Mysql);
        prop_assert_eq!(unquoted(&postgres.name(&text), '"', false), Some(text.clone()));
        prop_assert_eq!(unquoted(&postgres.value(&text), '\'', false), Some(text.clone()));
        prop_assert_eq!(unquoted(&mysql.name(&text), '`', false), Some(text.clone()));
        prop_assert_eq!(unquoted(&mysql.value(&text), '\'', true), Some(text));
    }

    /// VA-3, D5
    #[test]
    fn reading_any_statements_never_panics_and_loses_nothing(text in "([a-z ;'\"$/*{}-]|\\PC){0,60}") {
        for dialect in [Dialect::Postgres, Dialect::Mysql] {
            if let Ok(statements) = dialect.statements(&text) {
                let all: String = statements.iter().flat_map(|one| &one.parts).map(|part| match part {
                    Part::Text(text) => text.as_str(),
                    _ => "",
                }).collect();
                prop_assert!(all.len() <= text.len());
            }
            let _ = dialect.name_list(&text);
        }
    }
}
