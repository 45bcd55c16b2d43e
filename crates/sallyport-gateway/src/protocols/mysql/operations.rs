//! What a client asks, as operations: pure, so that each case is one line of a test.
//!
//! INVARIANT: what stands in an operation is what the target gets, its beginning where it is long, and then
//! with the hash of all of it; nothing is left out silently.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use sallyport_core::session::{
    OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind, StatementFacts, StatementRecord,
};

use super::{
    values::Parameters,
    words::{self, Asked},
};
use crate::statement::{self, Backslash, Built, Dialect, DoubleQuotes, Place};

/// What the variables begin with by which a session could hide from the gateway in which set of characters it
/// speaks, and of which database.
const TRACKER: &[u8] = b"session_track_";
/// What a longer text ends with.
pub(super) const CUT: &str = "…";

/// The text of a statement, as evidence keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// The text, or its beginning.
    detail: Arc<str>,
    /// Of the whole text, when `detail` is its beginning.
    sha256: Option<[u8; 32]>,
    /// What it asks of the gateway itself.
    pub(super) asked: Asked,
    /// What it does.
    facts: Arc<StatementFacts>,
    /// How it is built, where that matters.
    built: Option<Arc<Built>>,
    /// Whether it could hide in which set of characters later statements are.
    pub(super) hides: bool,
}

impl Text {
    /// Text as the client sent it; invalid UTF-8 is replaced in the evidence. `has_escapes` says how its
    /// strings read, `database` where names without one are looked for.
    pub(super) fn of(sql: &[u8], has_escapes: bool, database: Option<&str>) -> Self {
        let text = String::from_utf8_lossy(sql);
        let asked = words::asked(sql, has_escapes);
        let facts = Arc::new(facts(sql, backslash(has_escapes), database));
        let hides = contains(sql, TRACKER);
        if text.len() <= OPERATION_DETAIL_BYTES_MAX {
            return Self {
                detail: text.into(),
                sha256: None,
                facts,
                built: None,
                asked,
                hides,
            };
        }
        let end = text.floor_char_boundary(OPERATION_DETAIL_BYTES_MAX.saturating_sub(CUT.len()));
        let mut beginning = text.get(..end).unwrap_or_default().to_owned();
        beginning.push_str(CUT);
        let mut sha256 = [0; 32];
        for (slot, byte) in sha256.iter_mut().zip(digest(&SHA256, sql).as_ref()) {
            *slot = *byte;
        }
        Self {
            detail: beginning.into(),
            sha256: Some(sha256),
            facts,
            built: None,
            asked,
            hides,
        }
    }

    /// The same, with how it is built: for sessions with masks.
    pub(super) fn looked_at(self, sql: &[u8], has_escapes: bool, database: Option<&str>) -> Self {
        let place = place(backslash(has_escapes), database);
        Self {
            built: Some(Arc::new(statement::built(sql, place))),
            ..self
        }
    }

    /// How it is built; not known where nobody looked.
    pub(super) fn built(&self) -> Option<&Built> {
        self.built.as_deref()
    }

    /// What it does.
    pub(super) fn what(&self) -> &StatementFacts {
        &self.facts
    }

    /// A command that lists the columns of a table, as the statement that does the same. Its body is the
    /// table's name and a pattern.
    pub(super) fn of_field_list(body: &[u8], database: Option<&str>) -> Self {
        let mut parts = body.splitn(2, |byte| *byte == 0);
        let mut part = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (table, pattern) = (part().replace('`', "``"), part().replace('\'', "''"));
        let like = match pattern.is_empty() {
            true => String::new(),
            false => format!(" LIKE '{pattern}'"),
        };
        let sql = format!("SHOW FIELDS FROM `{table}`{like}");
        Self {
            built: Some(Arc::new(Built::listing())),
            ..Self::of(sql.as_bytes(), false, database)
        }
    }

    fn facts(&self) -> Option<Box<StatementFacts>> {
        Some(Box::new(StatementFacts::clone(&self.facts)))
    }

    /// Bytes of memory it takes.
    pub(super) fn len(&self) -> usize {
        self.detail.len()
    }

    pub(super) fn operation(&self) -> Operation {
        Operation {
            kind: OperationKind::Statement,
            detail: self.detail.to_string(),
            facts: self.facts(),
        }
    }

    /// The statement with its values, for other people to agree to. Nothing when not all of it can be shown.
    pub(super) fn operation_with(&self, parameters: &Parameters) -> Option<Operation> {
        let mut detail = self.detail.to_string();
        for (position, value) in (1_u32..).zip(&parameters.values) {
            let value = value
                .as_deref()
                .map_or("NULL".to_owned(), |value| format!("{value:?}"));
            detail.push_str(&format!("\n-- ?{position} = {value}"));
        }
        let is_whole = self.sha256.is_none()
            && !parameters.is_cut
            && parameters.count.is_none()
            && detail.len() <= OPERATION_DETAIL_BYTES_MAX;
        is_whole.then_some(Operation {
            kind: OperationKind::Statement,
            detail,
            facts: self.facts(),
        })
    }

    /// The beginning of its evidence.
    pub(super) fn record(&self, parameters: &Parameters) -> StatementRecord {
        StatementRecord {
            parameters: parameters.values.clone(),
            parameter_count: parameters.count,
            text_sha256: self.sha256.map(hex::encode),
            ..StatementRecord::default()
        }
    }
}

const fn backslash(has_escapes: bool) -> Backslash {
    match has_escapes {
        true => Backslash::Escapes,
        false => Backslash::Plain,
    }
}

const fn place(backslash: Backslash, database: Option<&str>) -> Place<'_> {
    // What stands between double quotes is a setting that no server reports.
    let quotes = DoubleQuotes::Unsure;
    Place {
        dialect: Dialect::MySql { backslash, quotes },
        database,
        shapes: None,
    }
}

/// What a text does. `database` is where names without one are looked for.
pub(super) fn facts(sql: &[u8], backslash: Backslash, database: Option<&str>) -> StatementFacts {
    statement::read(sql, place(backslash, database))
}

/// Whether `text` holds `word`, in whatever case.
fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

/// Use of a database.
pub(super) fn database(name: &str) -> Operation {
    Operation {
        kind: OperationKind::Database,
        detail: name.to_owned(),
        facts: None,
    }
}

/// A file of the client's that the target asks for.
pub(super) fn local_file(name: &[u8]) -> Operation {
    Operation {
        kind: OperationKind::LocalFile,
        detail: String::from_utf8_lossy(name).into_owned(),
        facts: None,
    }
}

/// A command that is never passed on.
pub(super) fn unsupported(name: &str) -> Operation {
    Operation {
        kind: OperationKind::Unsupported,
        detail: name.to_owned(),
        facts: None,
    }
}

/// Whether a statement names the file that the target asks for, and no longer one that begins or ends so: the
/// text right behind `INFILE`, as it is or with its backslashes doubled.
pub(super) fn names_file(sql: &[u8], file: &[u8]) -> bool {
    const WORD: &[u8] = b"INFILE";
    let doubled = String::from_utf8_lossy(file).replace('\\', "\\\\");
    !file.is_empty()
        && sql
            .windows(WORD.len())
            .enumerate()
            .filter(|(_, window)| window.eq_ignore_ascii_case(WORD))
            .filter_map(|(at, _)| sql.get(at.saturating_add(WORD.len())..))
            .filter_map(|rest| quoted(rest.trim_ascii_start()))
            .any(|name| name == file || name == doubled.as_bytes())
}

/// What stands between quotes at the beginning of this.
fn quoted(rest: &[u8]) -> Option<&[u8]> {
    let (quote, rest) = rest.split_first()?;
    if !matches!(quote, b'\'' | b'"') {
        return None;
    }
    let end = rest.iter().position(|byte| byte == quote)?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RE-3, PO-3: padding neither hides a statement nor loses it.
    #[test]
    fn given_a_text_that_is_too_long_then_its_beginning_and_the_hash_of_all_are_kept() {
        let sql = format!("SELECT 1 /*{}*/", "x".repeat(OPERATION_DETAIL_BYTES_MAX));
        let text = Text::of(sql.as_bytes(), true, None);
        let operation = text.operation();
        assert!(operation.detail.len() <= OPERATION_DETAIL_BYTES_MAX);
        assert!(operation.detail.starts_with("SELECT 1 /*xx") && operation.detail.ends_with(CUT));
        let expected = hex::encode(digest(&SHA256, sql.as_bytes()));
        let record = text.record(&Parameters::default());
        assert_eq!(record.text_sha256, Some(expected));
        assert_eq!(text.operation_with(&Parameters::default()), None);
    }

    #[test]
    fn given_a_list_of_fields_then_it_is_the_statement_that_lists_them() {
        let text = Text::of_field_list(b"it`em\0na'me\0", None);
        let expected = "SHOW FIELDS FROM `it``em` LIKE 'na''me\0'";
        assert_eq!(text.operation().detail, expected);
        let text = Text::of_field_list(b"item\0", None);
        assert_eq!(text.operation().detail, "SHOW FIELDS FROM `item`");
    }

    /// G8: a target gets the file that the statement names, and no other.
    #[test]
    fn given_a_file_that_is_asked_for_then_the_statement_names_it_or_it_is_another() {
        let sql = b"LOAD DATA LOCAL INFILE '/tmp/a.csv' INTO TABLE t";
        assert!(names_file(sql, b"/tmp/a.csv"));
        assert!(names_file(
            br"LOAD DATA LOCAL INFILE 'C:\\a' INTO TABLE t",
            br"C:\a"
        ));
        assert!(names_file(
            b"load data local infile\n \"/tmp/a.csv\" into table t",
            b"/tmp/a.csv"
        ));
        for other in [
            &b"/etc/passwd"[..],
            b"",
            b"/tmp/a.csv2",
            b"/tmp/a",
            b"a.csv",
            b"t",
        ] {
            assert!(!names_file(sql, other));
        }
    }

    /// PO-2, G4
    #[test]
    fn given_a_statement_then_its_facts_name_the_database_that_the_session_uses() {
        use sallyport_core::session::Verb;
        let facts = |sql: &[u8]| Text::of(sql, true, Some("shop")).operation().facts.unwrap();
        let delete = facts(b"DELETE FROM item");
        assert!(delete.verbs.contains(&Verb::Write), "{delete:?}");
        assert!(delete.is_unfiltered, "{delete:?}");
        assert!(delete.relations.contains("shop.item"), "{delete:?}");
        let hidden = facts(b"SELECT 1 /*! ; DROP TABLE item */");
        assert!(
            !hidden.verbs.iter().all(|verb| *verb == Verb::Read),
            "{hidden:?}"
        );
    }

    /// G4
    #[test]
    fn given_sql_that_would_hide_the_set_of_characters_then_it_is_known() {
        assert!(Text::of(b"SET Session_Track_System_Variables=''", true, None).hides);
        assert!(!Text::of(b"SET NAMES utf8mb4", true, None).hides);
    }
}
