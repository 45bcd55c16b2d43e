//! What a client asks, as operations: pure, so that each case is one line of a test.
//!
//! INVARIANT: what stands in an operation is what the target gets, its beginning where it is long, and then
//! with the hash of all of it; nothing is left out silently.
//!
//! Every text is read once, at [`Text::of`], into what it does (`crate::statement`): a prepared statement is
//! not read again when it is executed.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use sallyport_core::session::{
    OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind, PARAMETER_BYTES_MAX, PARAMETERS_MAX,
    StatementFacts, StatementRecord,
};

use super::codec::{Body, CodecError};
use crate::statement::{self, Dialect, Place, Shapes};

/// Words in SQL by which prepared statements of a session change their meaning unseen by the protocol.
const REDEFINING: [&[u8]; 3] = [b"prepare", b"deallocate", b"discard"];
/// What is added to the text of a statement whose name may have another meaning by now.
const IN_DOUBT: &str = "-- sallyport: as it was prepared; SQL may have redefined the name since";
/// Longest value that is shown whole, whatever its bytes are.
const WHOLE_VALUE_BYTES_MAX: usize = 480;
/// What a longer text ends with.
const CUT: &str = "…";

/// The text of a statement, as evidence keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// The text, or its beginning.
    detail: Arc<str>,
    /// Of the whole text, when `detail` is its beginning.
    sha256: Option<[u8; 32]>,
    /// What it does.
    facts: Arc<StatementFacts>,
    /// Whether it may change what names of prepared statements mean.
    pub(super) redefines: bool,
}

impl Text {
    /// Text as the client sent it; invalid UTF-8 is replaced in the evidence.
    /// `shapes` are those of its session.
    pub(super) fn of(sql: &[u8], database: &str, shapes: &Shapes) -> Self {
        let place = Place {
            dialect: Dialect::Postgres,
            database: Some(database),
            shapes: Some(shapes),
        };
        Self::new(sql, statement::read(sql, place))
    }

    fn new(sql: &[u8], facts: StatementFacts) -> Self {
        let facts = Arc::new(facts);
        let text = String::from_utf8_lossy(sql);
        let redefines = is_redefining(sql);
        if text.len() <= OPERATION_DETAIL_BYTES_MAX {
            return Self {
                detail: text.into(),
                sha256: None,
                facts,
                redefines,
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
            redefines,
        }
    }

    /// What a name stands for that no message of the protocol defined.
    pub(super) fn of_name(what: &str, name: &[u8]) -> Self {
        let name = format!("{what} {}", String::from_utf8_lossy(name));
        let mut text = Self::new(name.as_bytes(), StatementFacts::unknown());
        text.redefines = false;
        text
    }

    /// The same text under a name that SQL may have given another meaning since.
    pub(super) fn in_doubt(&self) -> Self {
        let text = format!("{}\n{IN_DOUBT}", self.detail);
        Self {
            sha256: self.sha256,
            ..Self::new(text.as_bytes(), StatementFacts::unknown())
        }
    }

    /// What it does.
    pub(super) fn facts(&self) -> &StatementFacts {
        &self.facts
    }

    fn boxed(&self) -> Option<Box<StatementFacts>> {
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
            facts: self.boxed(),
        }
    }

    /// The statement with its values, for other people to agree to. Nothing when not all of it can be shown.
    pub(super) fn operation_with(&self, parameters: &Parameters) -> Option<Operation> {
        let mut detail = self.detail.to_string();
        for (position, value) in (1_u32..).zip(&parameters.values) {
            let value = value
                .as_deref()
                .map_or("NULL".to_owned(), |value| format!("{value:?}"));
            detail.push_str(&format!("\n-- ${position} = {value}"));
        }
        let is_whole = self.sha256.is_none()
            && !parameters.is_cut
            && parameters.count.is_none()
            && detail.len() <= OPERATION_DETAIL_BYTES_MAX;
        is_whole.then_some(Operation {
            kind: OperationKind::Statement,
            detail,
            facts: self.boxed(),
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

fn is_redefining(sql: &[u8]) -> bool {
    sql.iter().enumerate().any(|(at, first)| {
        // Looked at in every statement: nearly all that begins here begins otherwise.
        matches!(first, b'p' | b'P' | b'd' | b'D')
            && REDEFINING.iter().any(|word| {
                sql.get(at..at.saturating_add(word.len()))
                    .is_some_and(|here| here.eq_ignore_ascii_case(word))
            })
    })
}

/// Use of a database.
pub(super) fn database(name: &str) -> Operation {
    Operation {
        kind: OperationKind::Database,
        detail: name.to_owned(),
        facts: None,
    }
}

/// A connection that follows changes.
pub(super) fn replication(value: &str) -> Operation {
    Operation {
        kind: OperationKind::Replication,
        detail: value.to_owned(),
        facts: None,
    }
}

/// A call of a function by its number.
pub(super) fn function_call(mut body: Body<'_>) -> Result<Operation, CodecError> {
    Ok(Operation {
        kind: OperationKind::FunctionCall,
        detail: format!("oid {}", body.u32()?),
        facts: None,
    })
}

/// Values bound to a statement's parameters, as evidence keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    values: Vec<Option<String>>,
    /// How many there are, when not all are in `values`.
    count: Option<u32>,
    /// Not all of what was bound is in `values`.
    is_cut: bool,
}

/// What a message that binds says, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    pub(super) parameters: Parameters,
}

/// Reads the beginning of a Bind message; `is_whole` says whether it is all of it.
pub(super) fn bind(mut body: Body<'_>, is_whole: bool) -> Result<Bind<'_>, CodecError> {
    let portal = body.text()?;
    let statement = body.text()?;
    let parameters = match parameters(&mut body) {
        Ok(parameters) => parameters,
        Err(error) if is_whole => return Err(error),
        // Only its beginning is here, and the names are what matters.
        Err(_) => Parameters {
            is_cut: true,
            ..Parameters::default()
        },
    };
    Ok(Bind {
        portal,
        statement,
        parameters,
    })
}

fn parameters(body: &mut Body<'_>) -> Result<Parameters, CodecError> {
    let formats = body.u16()?;
    let mut is_binary = Vec::new();
    for _ in 0..formats {
        is_binary.push(body.u16()? != 0);
    }
    let count = body.u16()?;
    let (mut values, mut is_cut) = (Vec::new(), false);
    for position in 0..usize::from(count) {
        let binary = match is_binary.as_slice() {
            [] => false,
            [all] => *all,
            each => each.get(position).copied().unwrap_or_default(),
        };
        let length = body.i32()?;
        let value = match usize::try_from(length) {
            Ok(length) => Some(body.take(length)?),
            Err(_) if length == -1 => None,
            Err(_) => return Err(CodecError::Length),
        };
        is_cut |= value.is_some_and(|bytes| bytes.len() > WHOLE_VALUE_BYTES_MAX);
        if values.len() < PARAMETERS_MAX {
            values.push(value.map(|bytes| shown(bytes, binary)));
        }
    }
    let is_all = values.len() == usize::from(count);
    Ok(Parameters {
        values,
        count: (!is_all).then_some(u32::from(count)),
        is_cut,
    })
}

/// A value as evidence shows it.
fn shown(bytes: &[u8], is_binary: bool) -> String {
    let text = std::str::from_utf8(bytes).ok().filter(|_| !is_binary);
    match text {
        Some(text) if text.len() <= PARAMETER_BYTES_MAX => text.to_owned(),
        Some(text) => {
            let end = text.floor_char_boundary(PARAMETER_BYTES_MAX.saturating_sub(CUT.len()));
            format!("{}{CUT}", text.get(..end).unwrap_or_default())
        }
        None => {
            let room = PARAMETER_BYTES_MAX.saturating_sub(2 + CUT.len()) / 2;
            match bytes.get(..room) {
                Some(beginning) if bytes.len() > room => {
                    format!("\\x{}{CUT}", hex::encode(beginning))
                }
                _ => format!("\\x{}", hex::encode(bytes)),
            }
        }
    }
}

/// Rows that a command tag counts: the last number in it.
pub(super) fn rows_of(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(
        portal: &[u8],
        statement: &[u8],
        formats: &[u16],
        values: &[Option<&[u8]>],
    ) -> Vec<u8> {
        let mut out = [portal, b"\0", statement, b"\0"].concat();
        out.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
        for format in formats {
            out.extend(format.to_be_bytes());
        }
        out.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            match value {
                Some(value) => {
                    out.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                    out.extend(*value);
                }
                None => out.extend((-1_i32).to_be_bytes()),
            }
        }
        out.extend([0, 0]);
        out
    }

    /// RE-3
    #[test]
    fn given_bound_values_then_each_is_in_the_evidence_bounded() {
        let long = "é".repeat(PARAMETER_BYTES_MAX);
        let bytes = message(
            b"p",
            b"s",
            &[0, 0, 1, 0, 0],
            &[
                Some(b"7"),
                None,
                Some(&[1, 0xff]),
                Some(long.as_bytes()),
                Some(b"\xff"),
            ],
        );
        let bind = bind(Body::new(&bytes), true).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        let values = &bind.parameters.values;
        assert_eq!(
            values[..3],
            [Some("7".into()), None, Some("\\x01ff".into())]
        );
        let cut = values[3].as_ref().unwrap();
        assert!(cut.len() <= PARAMETER_BYTES_MAX && cut.ends_with(CUT));
        assert_eq!(values[4].as_deref(), Some("\\xff"));
        assert_eq!(bind.parameters.count, None);

        let many = vec![Some(&b"x"[..]); PARAMETERS_MAX + 1];
        let bytes = message(b"", b"", &[], &many);
        let many = super::bind(Body::new(&bytes), true).unwrap().parameters;
        assert_eq!(many.values.len(), PARAMETERS_MAX);
        assert_eq!(many.count, Some(u32::try_from(PARAMETERS_MAX + 1).unwrap()));
    }

    /// G3: a value whose length is negative or beyond its message is no value.
    #[test]
    fn given_a_value_of_an_impossible_length_then_the_message_is_refused() {
        for length in [-2_i32, i32::MIN, 5, i32::MAX] {
            let mut bytes = b"\0\0\0\0\0\x01".to_vec();
            bytes.extend(length.to_be_bytes());
            bytes.extend(b"four");
            assert!(bind(Body::new(&bytes), true).is_err(), "{length}");
            assert!(
                bind(Body::new(&bytes), false).is_ok(),
                "its names can be read"
            );
        }
        assert!(bind(Body::new(b"portal"), false).is_err());
    }

    /// RE-3, PO-3: padding neither hides a statement nor loses it.
    #[test]
    fn given_a_text_that_is_too_long_then_its_beginning_and_the_hash_of_all_are_kept() {
        let sql = format!("SELECT 1 /*{}*/", "x".repeat(OPERATION_DETAIL_BYTES_MAX));
        let text = Text::of(sql.as_bytes(), "shop", &Shapes::default());
        let operation = text.operation();
        assert!(operation.detail.len() <= OPERATION_DETAIL_BYTES_MAX);
        assert!(operation.detail.starts_with("SELECT 1 /*xx") && operation.detail.ends_with(CUT));
        let expected = hex::encode(digest(&SHA256, sql.as_bytes()));
        let record = text.record(&Parameters::default());
        assert_eq!(record.text_sha256, Some(expected));
        let short =
            Text::of(b"SELECT 1", "shop", &Shapes::default()).record(&Parameters::default());
        assert_eq!(short.text_sha256, None);
    }

    /// G4
    #[test]
    fn given_sql_that_names_preparing_then_names_may_mean_something_else_afterwards() {
        for sql in [
            "PREPARE a AS SELECT 1",
            "dEaLlOcAtE ALL",
            "/**/discard all",
            "DO 'prepare'",
        ] {
            assert!(
                Text::of(sql.as_bytes(), "shop", &Shapes::default()).redefines,
                "{sql}"
            );
        }
        assert!(!Text::of(b"SELECT 1", "shop", &Shapes::default()).redefines);
    }

    #[test]
    fn rows_are_counted_by_the_last_word_of_a_tag() {
        assert_eq!(rows_of("SELECT 3"), Some(3));
        assert_eq!(rows_of("INSERT 0 12"), Some(12));
        assert_eq!(rows_of("COPY 1000000"), Some(1_000_000));
        assert_eq!(rows_of("CREATE TABLE"), None);
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), whole: bool) {
            let _ = bind(Body::new(&bytes), whole);
            let _ = function_call(Body::new(&bytes));
            let _ = Text::of(&bytes, "shop", &Shapes::default());
        }
    }
}
