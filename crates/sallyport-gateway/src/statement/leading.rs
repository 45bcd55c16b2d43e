//! Statements by their first words: how grave each is, and what it wraps.
//!
//! Queries and changes of rows go on to `structure`; what wraps one (`EXPLAIN`, `PREPARE`, `COPY (…)`, a
//! cursor) is as grave as what it wraps.
//!
//! INVARIANT: a statement whose first words are not listed is unclear. Settings are harmless only if they
//! are listed.
//!
//! Not here: where a statement ends (`lexer`).

use sallyport_core::session::{StatementFacts, Verb};

use super::{
    Dialect, Place, about_anything,
    lexer::{Kind, Token, Unclear},
    only, structure,
};

/// How often a statement may wrap another.
const WRAPPING_MAX: usize = 4;

/// Facts of one statement.
pub(super) fn facts(tokens: &[Token<'_>], place: Place<'_>) -> Result<StatementFacts, Unclear> {
    wrapped(tokens, place, WRAPPING_MAX)
}

fn wrapped(
    tokens: &[Token<'_>],
    place: Place<'_>,
    wrapping: usize,
) -> Result<StatementFacts, Unclear> {
    let wrapping = wrapping.checked_sub(1).ok_or(Unclear)?;
    let first = tokens.first().ok_or(Unclear)?;
    if first.is_symbol("(") {
        return structure::facts(tokens, place);
    }
    if first.kind != Kind::Word {
        return Err(Unclear);
    }
    let words = Words(tokens);
    match place.dialect {
        Dialect::Postgres => postgres(words, place, wrapping),
        Dialect::MySql { .. } => mysql(words, place, wrapping),
    }
}

/// The tokens of a statement, asked for words.
#[derive(Clone, Copy)]
struct Words<'t, 'a>(&'t [Token<'a>]);

impl<'t, 'a> Words<'t, 'a> {
    /// The word at a place in capitals; empty where there is none.
    fn at(self, index: usize) -> String {
        self.0
            .get(index)
            .filter(|token| token.kind == Kind::Word)
            .map(|token| token.text.to_ascii_uppercase())
            .unwrap_or_default()
    }

    fn has(self, word: &str) -> bool {
        self.0.iter().any(|token| token.is_word(word))
    }

    /// Whether these words follow each other somewhere.
    fn has_both(self, one: &str, two: &str) -> bool {
        self.0.windows(2).any(|pair| match pair {
            [a, b] => a.is_word(one) && b.is_word(two),
            _ => false,
        })
    }

    fn from(self, index: usize) -> &'t [Token<'a>] {
        self.0.get(index..).unwrap_or_default()
    }

    /// The first place of a word outside brackets.
    fn find(self, word: &str) -> Option<usize> {
        let mut depth = 0_usize;
        for (index, token) in self.0.iter().enumerate() {
            if token.is_symbol("(") {
                depth = depth.saturating_add(1);
            } else if token.is_symbol(")") {
                depth = depth.saturating_sub(1);
            } else if depth == 0 && token.is_word(word) {
                return Some(index);
            }
        }
        None
    }

    /// What a definition defines: the first word behind its verb that does not only say how.
    fn kind(self) -> String {
        const HOW: [&str; 9] = [
            "OR",
            "REPLACE",
            "TEMP",
            "TEMPORARY",
            "UNLOGGED",
            "UNIQUE",
            "MATERIALIZED",
            "RECURSIVE",
            "CONSTRAINT",
        ];
        (1..7)
            .map(|index| self.at(index))
            .find(|word| !HOW.contains(&word.as_str()))
            .unwrap_or_default()
    }
}

/// Where reading and writing is decided for transactions.
fn with_mode(words: Words<'_, '_>, mut facts: StatementFacts) -> StatementFacts {
    facts.sets_access_mode |= words.has_both("READ", "WRITE");
    facts
}

fn postgres(
    words: Words<'_, '_>,
    place: Place<'_>,
    wrapping: usize,
) -> Result<StatementFacts, Unclear> {
    let second = words.at(1);
    Ok(match words.at(0).as_str() {
        "SELECT" | "WITH" | "VALUES" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" => {
            structure::facts(words.0, place)?
        }
        "TABLE" => structure::table(words.from(1), place)?,
        "EXPLAIN" => explain(words, place, wrapping)?,
        "BEGIN" | "START" | "SAVEPOINT" | "RELEASE" | "END" | "ABORT" | "COMMIT" | "ROLLBACK" => {
            match second.as_str() {
                "PREPARED" => about_anything(Verb::Write),
                _ => with_mode(words, only(Verb::Session)),
            }
        }
        "PREPARE" if second == "TRANSACTION" => about_anything(Verb::Write),
        "PREPARE" => {
            let body = words.find("AS").ok_or(Unclear)?;
            wrapped(words.from(body.saturating_add(1)), place, wrapping)?
        }
        "DECLARE" => {
            let body = words.find("FOR").ok_or(Unclear)?;
            let mut facts = wrapped(words.from(body.saturating_add(1)), place, wrapping)?;
            facts.verbs.insert(Verb::Session);
            facts
        }
        "FETCH" | "MOVE" => StatementFacts {
            fetches: true,
            ..only(Verb::Read)
        },
        "CLOSE" | "DEALLOCATE" | "LISTEN" | "UNLISTEN" | "DISCARD" => only(Verb::Session),
        "SHOW" => only(Verb::Read),
        "SET" => postgres_set(words)?,
        "RESET" => match second.as_str() {
            "ROLE" | "SESSION" => about_anything(Verb::Admin),
            // Back to what the connection began with, which was looked at.
            "ALL" => about_anything(Verb::Session),
            _ => match name_at(words, 1)?.as_str() {
                "client_encoding" => only(Verb::Session),
                name => setting(name),
            },
        },
        "COPY" => copy(words, place, wrapping)?,
        "TRUNCATE" => StatementFacts {
            is_unfiltered: true,
            ..structure::definition(words.0, place, Verb::Write)
        },
        // As a question does. Backups take it for all of them.
        "LOCK" if words.has_both("ACCESS", "SHARE") => about_anything(Verb::Read),
        "LOCK" | "NOTIFY" => about_anything(Verb::Write),
        "GRANT" | "REVOKE" | "REASSIGN" | "SECURITY" => about_anything(Verb::Dcl),
        "COMMENT" | "REFRESH" => about_anything(Verb::Ddl),
        "CREATE" | "ALTER" | "DROP" => postgres_definition(words, place),
        "VACUUM" | "ANALYZE" | "ANALYSE" | "CLUSTER" | "REINDEX" | "CHECKPOINT" => {
            about_anything(Verb::Admin)
        }
        "LOAD" | "IMPORT" | "DO" => StatementFacts {
            // Code may take rows from any cursor.
            fetches: true,
            reaches_server: true,
            sets_access_mode: true,
            is_unfiltered: true,
            ..about_anything(Verb::Admin)
        },
        // EXECUTE runs what a name stands for, CALL what a procedure does.
        _ => return Err(Unclear),
    })
}

fn explain(
    words: Words<'_, '_>,
    place: Place<'_>,
    wrapping: usize,
) -> Result<StatementFacts, Unclear> {
    let mut body = 1_usize;
    let mut runs = false;
    loop {
        match words.at(body).as_str() {
            "ANALYZE" | "ANALYSE" => runs = true,
            "VERBOSE" | "EXTENDED" | "PARTITIONS" => {}
            "FORMAT" => body = body.saturating_add(2),
            _ => break,
        }
        body = body.saturating_add(1);
    }
    let is_list = words.from(body).first().is_some_and(|t| t.is_symbol("("))
        && ["SELECT", "WITH", "VALUES"]
            .iter()
            .all(|word| words.at(body.saturating_add(1)) != **word)
        && !words
            .from(body.saturating_add(1))
            .first()
            .is_some_and(|t| t.is_symbol("("));
    if is_list {
        let end = words.0.iter().position(|token| token.is_symbol(")"));
        let end = end.ok_or(Unclear)?;
        let list = words.0.get(body..end).unwrap_or_default();
        // An option in quotes is the same option.
        if list.iter().any(|token| token.kind == Kind::Name) {
            return Err(Unclear);
        }
        runs |= Words(list).has("ANALYZE") || Words(list).has("ANALYSE");
        body = end.saturating_add(1);
    }
    let mut facts = wrapped(words.from(body), place, wrapping)?;
    if !runs && facts.verb() <= Verb::Write {
        // It is planned, not run.
        facts.verbs = [Verb::Read].into();
        facts.is_unfiltered = false;
    }
    Ok(facts)
}

/// The name of a setting: words with dots, or one in quotes.
fn name_at(words: Words<'_, '_>, index: usize) -> Result<String, Unclear> {
    let mut name = String::new();
    for token in words.from(index) {
        match token.kind {
            Kind::Word | Kind::Name if name.is_empty() || name.ends_with('.') => {
                name.push_str(&token.text.to_ascii_lowercase());
            }
            Kind::Symbol if token.text == "." => name.push('.'),
            _ => break,
        }
    }
    (!name.is_empty()).then_some(name).ok_or(Unclear)
}

fn postgres_set(words: Words<'_, '_>) -> Result<StatementFacts, Unclear> {
    let start = match words.at(1).as_str() {
        "LOCAL" => 2,
        "SESSION" if !matches!(words.at(2).as_str(), "AUTHORIZATION" | "CHARACTERISTICS") => 2,
        _ => 1,
    };
    Ok(
        match (
            words.at(start).as_str(),
            words.at(start.saturating_add(1)).as_str(),
        ) {
            ("ROLE", _) | ("SESSION", "AUTHORIZATION") => about_anything(Verb::Admin),
            ("TRANSACTION", _) | ("SESSION", "CHARACTERISTICS") => {
                with_mode(words, only(Verb::Session))
            }
            ("CONSTRAINTS", _) => only(Verb::Session),
            ("TIME", "ZONE") => only(Verb::Session),
            ("NAMES", _) => encoding(words.from(start.saturating_add(1)))?,
            ("SCHEMA", _) => about_anything(Verb::Session),
            ("XML", "OPTION") => only(Verb::Session),
            _ => match name_at(words, start)?.as_str() {
                "client_encoding" => encoding(words.from(start.saturating_add(2)))?,
                name => setting(name),
            },
        },
    )
}

/// Another encoding, with which what follows would be read by other rules before the server's answer tells:
/// only one that reads the same is clear.
fn encoding(value: &[Token<'_>]) -> Result<StatementFacts, Unclear> {
    match value {
        [] => Ok(only(Verb::Session)),
        [name] if name.is_word("DEFAULT") || is_plain_encoding(&name.text) => {
            Ok(only(Verb::Session))
        }
        _ => Err(Unclear),
    }
}

/// Settings of PostgreSQL that change how a session reads, shows and plans, and nothing else.
const HARMLESS_SETTINGS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "cursor_tuple_fraction",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "effective_cache_size",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "maintenance_work_mem",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "row_security",
    "seq_page_cost",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "work_mem",
    "xmloption",
];

/// What setting this is: a harmless one, one that says what names mean or whether transactions write, or
/// one of the server's.
pub(super) fn setting(name: &str) -> StatementFacts {
    match name {
        "search_path" => about_anything(Verb::Session),
        "transaction_read_only" | "default_transaction_read_only" => StatementFacts {
            sets_access_mode: true,
            ..only(Verb::Session)
        },
        // Policies for rows may depend on settings that extensions and people make up.
        name if HARMLESS_SETTINGS.contains(&name) || name.starts_with("enable_") => {
            only(Verb::Session)
        }
        _ => about_anything(Verb::Admin),
    }
}

/// Encodings in which every byte below 128 is the ASCII character: what a reader of SQL here takes for a
/// quote is one to the server, too.
const ENCODINGS: [&str; 8] = [
    "utf8", "unicode", "sqlascii", "latin1", "latin9", "win1250", "win1252", "iso88591",
];

/// Whether an encoding is one in which SQL reads the same here and at the server. As servers do, only
/// letters and digits of its name count.
pub(crate) fn is_plain_encoding(name: &str) -> bool {
    let canonical: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    ENCODINGS.contains(&canonical.as_str())
}

fn copy(
    words: Words<'_, '_>,
    place: Place<'_>,
    wrapping: usize,
) -> Result<StatementFacts, Unclear> {
    let direction = |word: &str| words.find(word).filter(|at| *at > 1);
    let (at, verb) = match (direction("FROM"), direction("TO")) {
        (Some(at), None) => (at, Verb::Write),
        (None, Some(at)) => (at, Verb::Read),
        _ => return Err(Unclear),
    };
    let body = words.0.get(1..at).ok_or(Unclear)?;
    let mut facts = match body {
        [open, inner @ .., close] if open.is_symbol("(") && close.is_symbol(")") => {
            let mut facts = wrapped(inner, place, wrapping)?;
            facts.verbs.insert(verb);
            facts
        }
        relation => StatementFacts {
            relations: [structure::relation_of(relation, place)?].into(),
            ..only(verb)
        },
    };
    let here = words.at(at.saturating_add(1));
    if !matches!(here.as_str(), "STDIN" | "STDOUT") {
        facts.reaches_server = true;
        facts.verbs.insert(Verb::Admin);
    }
    // A condition on what comes in may call anything.
    if words.from(at).iter().any(|token| token.is_word("WHERE")) {
        return Err(Unclear);
    }
    Ok(facts)
}

fn postgres_definition(words: Words<'_, '_>, place: Place<'_>) -> StatementFacts {
    let is_one_language = words
        .0
        .iter()
        .filter(|token| token.is_word("LANGUAGE"))
        .count()
        == 1;
    let is_plain_code = is_one_language
        && (words.has_both("LANGUAGE", "SQL") || words.has_both("LANGUAGE", "PLPGSQL"));
    match words.kind().as_str() {
        "TABLE" | "VIEW" | "INDEX" => structure::definition(words.0, place, Verb::Ddl),
        "SEQUENCE" | "SCHEMA" | "TYPE" | "DOMAIN" | "AGGREGATE" | "COLLATION" | "STATISTICS"
        | "RULE" | "TRIGGER" | "POLICY" => about_anything(Verb::Ddl),
        "USER" if words.has_both("USER", "MAPPING") => about_anything(Verb::Admin),
        "ROLE" | "USER" | "GROUP" | "OWNED" | "DEFAULT" => about_anything(Verb::Dcl),
        "FUNCTION" | "PROCEDURE" | "ROUTINE" if is_plain_code || words.at(0) == "DROP" => {
            about_anything(Verb::Ddl)
        }
        // Extensions, languages and code in them, servers, databases, the server's own settings.
        _ => StatementFacts {
            reaches_server: true,
            ..about_anything(Verb::Admin)
        },
    }
}

fn mysql(
    words: Words<'_, '_>,
    place: Place<'_>,
    wrapping: usize,
) -> Result<StatementFacts, Unclear> {
    let second = words.at(1);
    Ok(match words.at(0).as_str() {
        "SELECT" | "WITH" | "VALUES" | "INSERT" | "UPDATE" | "DELETE" | "REPLACE" => {
            structure::facts(words.0, place)?
        }
        "TABLE" => structure::table(words.from(1), place)?,
        "EXPLAIN" | "DESCRIBE" | "DESC" => {
            let is_statement = [
                "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "TABLE",
            ]
            .iter()
            .any(|word| words.has(word));
            match is_statement {
                true => explain(words, place, wrapping)?,
                false => about_anything(Verb::Read),
            }
        }
        // It may have a condition, and that may call something.
        "SHOW" | "HELP" if !words.0.iter().any(|token| token.is_symbol("(")) => only(Verb::Read),
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE"
            if !matches!(
                second.as_str(),
                "SLAVE" | "REPLICA" | "GROUP_REPLICATION" | "NOT" | "ALL"
            ) =>
        {
            with_mode(words, only(Verb::Session))
        }
        "UNLOCK" | "DEALLOCATE" => only(Verb::Session),
        // What names without a database mean from now on.
        "USE" => about_anything(Verb::Session),
        "SET" => mysql_set(words),
        "TRUNCATE" => StatementFacts {
            is_unfiltered: true,
            ..structure::definition(words.0, place, Verb::Write)
        },
        "LOCK" => about_anything(Verb::Write),
        "GRANT" | "REVOKE" => about_anything(Verb::Dcl),
        "RENAME" if second == "TABLE" => about_anything(Verb::Ddl),
        "RENAME" => about_anything(Verb::Dcl),
        "CREATE" | "ALTER" | "DROP" => mysql_definition(words, place),
        "LOAD" => StatementFacts {
            reaches_server: true,
            ..about_anything(Verb::Admin)
        },
        "ANALYZE" | "OPTIMIZE" | "CHECK" | "REPAIR" | "FLUSH" | "PURGE" | "KILL" | "CACHE"
        | "CHANGE" | "STOP" | "RESET" | "BINLOG" | "XA" => about_anything(Verb::Admin),
        "INSTALL" | "UNINSTALL" | "SHUTDOWN" | "RESTART" | "CLONE" | "IMPORT" => StatementFacts {
            reaches_server: true,
            ..about_anything(Verb::Admin)
        },
        // PREPARE runs a text, EXECUTE and CALL what stands behind a name, HANDLER goes past queries.
        _ => return Err(Unclear),
    })
}

/// Settings of MySQL that change how a session reads, shows and plans, and nothing else.
const HARMLESS_VARIABLES: &[&str] = &[
    "autocommit",
    "character_set_results",
    "collation_connection",
    "foreign_key_checks",
    "group_concat_max_len",
    "innodb_lock_wait_timeout",
    "interactive_timeout",
    "lock_wait_timeout",
    "max_execution_time",
    "max_statement_time",
    "net_read_timeout",
    "net_write_timeout",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_notes",
    "sql_quote_show_create",
    "sql_safe_updates",
    "sql_select_limit",
    "sql_warnings",
    "time_zone",
    "tx_isolation",
    "transaction_isolation",
    "unique_checks",
    "wait_timeout",
];

fn mysql_set(words: Words<'_, '_>) -> StatementFacts {
    let is_one = !words.0.iter().any(|token| token.is_symbol(","));
    match (words.at(1).as_str(), words.at(2).as_str()) {
        ("PASSWORD", _) | ("DEFAULT", "ROLE") if is_one => return about_anything(Verb::Dcl),
        ("NAMES", _) if is_one => return mysql_names(words.from(2)),
        ("NAMES" | "PASSWORD", _) | ("DEFAULT", "ROLE") => return StatementFacts::unknown(),
        ("TRANSACTION", _) | ("SESSION" | "LOCAL", "TRANSACTION") => {
            return with_mode(words, only(Verb::Session));
        }
        ("ROLE", _) => return about_anything(Verb::Admin),
        _ => {}
    }
    let mut facts = only(Verb::Session);
    // Assignments with commas between; each begins with the name of what it sets. A value may be a query.
    for assignment in words.from(1).split(|token| token.is_symbol(",")) {
        facts.add(mysql_assignment(Words(assignment)));
    }
    facts
}

/// `SET NAMES charset [COLLATE name]`, of which nothing is calculated.
fn mysql_names(words: &[Token<'_>]) -> StatementFacts {
    let is_name = |token: &Token<'_>| !matches!(token.kind, Kind::Symbol | Kind::Parameter);
    let is_plain = match words {
        [charset] => is_name(charset),
        [charset, collate, name] => is_name(charset) && collate.is_word("COLLATE") && is_name(name),
        _ => false,
    };
    match is_plain {
        true => only(Verb::Session),
        false => StatementFacts::unknown(),
    }
}

fn mysql_assignment(words: Words<'_, '_>) -> StatementFacts {
    // `@@session.name`, `SESSION name`, `name`.
    let is_variable = words.0.first().is_some_and(|token| token.is_symbol("@"))
        && !words
            .from(1)
            .first()
            .is_some_and(|token| token.is_symbol("@"));
    let calls = words.0.iter().any(|token| token.is_symbol("("));
    if calls {
        return StatementFacts::unknown();
    }
    if is_variable {
        return only(Verb::Session);
    }
    let mut names = words
        .0
        .iter()
        .filter(|t| matches!(t.kind, Kind::Word | Kind::Name));
    let mut name = names.next().map(|token| token.text.to_ascii_lowercase());
    while let Some("session" | "local") = name.as_deref() {
        name = names.next().map(|token| token.text.to_ascii_lowercase());
    }
    match name.as_deref() {
        Some("transaction_read_only" | "tx_read_only") => StatementFacts {
            sets_access_mode: true,
            ..only(Verb::Session)
        },
        Some(name) if HARMLESS_VARIABLES.contains(&name) => only(Verb::Session),
        // Said by clients when they connect; what is read differently then is told by the server, or unsure.
        Some("sql_mode" | "character_set_client" | "character_set_connection") => {
            about_anything(Verb::Session)
        }
        _ => about_anything(Verb::Admin),
    }
}

/// Words of `SET` that are not the name of a variable.
const SETTING_WORDS: &[&str] = &[
    "committed",
    "default",
    "false",
    "isolation",
    "level",
    "local",
    "off",
    "on",
    "only",
    "read",
    "repeatable",
    "serializable",
    "session",
    "transaction",
    "true",
    "uncommitted",
    "write",
];

/// Whether what follows in the same message may be read by other rules.
pub(super) fn changes_reading(tokens: &[Token<'_>]) -> bool {
    let words = Words(tokens);
    match words.at(0).as_str() {
        // Whatever is not known to leave reading alone: a name may be in quotes, and has synonyms.
        "SET" => !words.0.iter().enumerate().skip(1).all(|(index, token)| {
            let name = token.text.to_ascii_lowercase();
            let before = |back: usize| {
                let at = index.checked_sub(back);
                at.and_then(|at| words.0.get(at))
                    .is_some_and(|token| token.is_symbol("@"))
            };
            !matches!(token.kind, Kind::Word | Kind::Name)
                || SETTING_WORDS.contains(&name.as_str())
                || HARMLESS_VARIABLES.contains(&name.as_str())
                || (before(1) && !before(2))
        }),
        "CALL" | "EXECUTE" => true,
        _ => false,
    }
}

fn mysql_definition(words: Words<'_, '_>, place: Place<'_>) -> StatementFacts {
    match words.kind().as_str() {
        "TABLE" | "VIEW" | "INDEX" => structure::definition(words.0, place, Verb::Ddl),
        "DATABASE" | "SCHEMA" | "SEQUENCE" => about_anything(Verb::Ddl),
        "USER" | "ROLE" => about_anything(Verb::Dcl),
        // Code that runs later, and as somebody else.
        _ => StatementFacts {
            reaches_server: true,
            ..about_anything(Verb::Admin)
        },
    }
}
