//! What the text of a client's message does, for policies: its statements with their verbs, the relations
//! they touch, and what else makes them grave. Pure: bytes in, [`StatementFacts`] out.
//!
//! Protocols of databases call [`read`] once for each text, and put what it says into the operation they
//! ask about. `docs/plugins/protocol/postgres.md` says what policies can rely on, and
//! `docs/adr/0023-statements.md` why it is done so.
//!
//! A text goes through three readers, and each may give up:
//!
//! 1. `lexer` splits it into tokens by the server's own rules for comments and quotes. Where these depend
//!    on a setting that the gateway does not know, it gives up.
//! 2. `leading` knows statements by their first words, and how grave each is.
//! 3. `structure` has queries and changes of rows parsed, from tokens in which comments are gone and
//!    texts are neutral, and walks through what came out.
//!
//! INVARIANT: what one of them does not understand, or two of them understand differently, is
//! [`StatementFacts::unknown`]. Work and depth are bounded; nothing here panics.
//!
//! Not here: what is permitted (policies), keeping a session from writing (the server, told by the
//! protocol).

mod form;
mod functions;
mod leading;
mod lexer;
mod shapes;
mod structure;

use std::collections::BTreeSet;

use sallyport_core::session::{ANY_RELATION, StatementFacts, Verb};

use self::lexer::Unclear;
pub use self::shapes::Shapes;
pub(crate) use self::{
    form::{Built, Form, built},
    leading::is_plain_encoding,
};

/// Longest text that is read.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Statements of one message that are read.
const STATEMENTS_MAX: usize = 1_000;
/// Most relations that facts name, and most bytes of their names together; with more, any may be meant.
const RELATIONS_MAX: usize = 64;
const RELATION_BYTES_MAX: usize = 4 * 1024;

/// What a backslash means in a text between single quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslash {
    /// It keeps the next character from ending the text.
    Escapes,
    /// Nothing.
    Plain,
    /// One or the other: texts that end elsewhere by either are not read.
    Unsure,
}

/// What stands between double quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubleQuotes {
    /// A text.
    Text,
    /// A name (`ANSI_QUOTES`).
    Name,
    /// One or the other.
    Unsure,
}

/// By whose rules a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL's. Whether backslashes escape is the client's to set at any time, so that texts in which
    /// it matters are not read.
    Postgres,
    /// MySQL's and MariaDB's.
    MySql {
        /// By `NO_BACKSLASH_ESCAPES`, which the server's status flags tell.
        backslash: Backslash,
        /// By `ANSI_QUOTES`.
        quotes: DoubleQuotes,
    },
}

/// Where a text is executed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose rules.
    pub dialect: Dialect,
    /// The database that names without one mean. PostgreSQL: the connection's. MySQL: the one in use, if
    /// that is certain.
    pub database: Option<&'a str>,
    /// What is remembered of statements that were read before in the same session.
    pub shapes: Option<&'a Shapes>,
}

/// What the statements of a client's message do. `sql` is its text, as the client sent it.
#[must_use]
pub fn read(sql: &[u8], place: Place<'_>) -> StatementFacts {
    try_read(sql, place).unwrap_or_else(|Unclear| StatementFacts::unknown())
}

/// A relation of PostgreSQL's as facts spell it, where a statement names it with this schema, or with none.
#[must_use]
pub fn relation_name(database: &str, schema: Option<&str>, relation: &str) -> String {
    let shown = structure::shown;
    let schema = schema.map_or("*".to_owned(), shown);
    format!("{}.{schema}.{}", shown(database), shown(relation))
}

/// A table of MySQL's or MariaDB's as facts spell it.
#[must_use]
pub fn table_name(database: &str, table: &str) -> String {
    let shown = structure::shown;
    format!("{}.{}", shown(database), shown(table))
}

fn try_read(sql: &[u8], place: Place<'_>) -> Result<StatementFacts, Unclear> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(Unclear);
    }
    let text = std::str::from_utf8(sql).map_err(|_| Unclear)?;
    let tokens = lexer::tokens(text, place.dialect)?;
    let statements = lexer::statements(&tokens)?;
    if statements.len() > STATEMENTS_MAX {
        return Err(Unclear);
    }
    let mut facts = StatementFacts::default();
    let mut may_read_differently = false;
    for statement in statements {
        // What stands behind it was read by rules that it may have changed: servers of this dialect read
        // one statement after the other.
        if may_read_differently {
            return Err(Unclear);
        }
        may_read_differently =
            matches!(place.dialect, Dialect::MySql { .. }) && leading::changes_reading(statement);
        facts.add(leading::facts(statement, place)?);
    }
    let bytes: usize = facts.relations.iter().map(String::len).sum();
    if facts.relations.len() > RELATIONS_MAX || bytes > RELATION_BYTES_MAX {
        facts.relations = BTreeSet::from([ANY_RELATION.to_owned()]);
    }
    Ok(facts)
}

/// Facts of one verb, about nothing in particular.
fn only(verb: Verb) -> StatementFacts {
    StatementFacts {
        verbs: BTreeSet::from([verb]),
        ..StatementFacts::default()
    }
}

/// Facts of one verb, about any relation.
fn about_anything(verb: Verb) -> StatementFacts {
    StatementFacts {
        relations: BTreeSet::from([ANY_RELATION.to_owned()]),
        ..only(verb)
    }
}

/// A body for the fuzzer: reading never panics, and what is not plainly a question never passes for one.
pub fn fuzz(bytes: &[u8]) {
    let dialects = [
        Dialect::Postgres,
        Dialect::MySql {
            backslash: Backslash::Escapes,
            quotes: DoubleQuotes::Text,
        },
        Dialect::MySql {
            backslash: Backslash::Unsure,
            quotes: DoubleQuotes::Unsure,
        },
    ];
    for dialect in dialects {
        let place = Place {
            dialect,
            database: Some("shop"),
            shapes: None,
        };
        let facts = read(bytes, place);
        // What is remembered is what was read.
        let shapes = Shapes::default();
        let remembering = Place {
            shapes: Some(&shapes),
            ..place
        };
        assert!(read(bytes, remembering) == facts && read(bytes, remembering) == facts);
        // Whatever stands before it, a statement behind a border is seen, or nothing is understood.
        let both = [bytes, b"\n;DROP TABLE t"].concat();
        let verb = read(&both, place).verb();
        let is_ended = facts.verb() != Verb::Unknown;
        assert!(
            !is_ended || verb >= Verb::Ddl,
            "a statement behind was lost"
        );
    }
}

#[cfg(test)]
mod tests;
