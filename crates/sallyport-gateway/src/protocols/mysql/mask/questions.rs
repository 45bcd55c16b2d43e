//! Asks a target's catalogue what masks mean there: once, when a session begins, on the session's own connection
//! before the client's first statement.
//!
//! INVARIANT: what is asked depends on nothing that a client set. Without an answer there is no session.
//!
//! Not here: what follows from the answers (`catalog`).

use std::{collections::BTreeSet, sync::Arc};

use bytes::{BufMut as _, BytesMut};
use sallyport_core::policy::Masks;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    super::{
        codec::{self, Body, CodecError, END, ERROR, put_packet, take_packet},
        limits::{CATALOG_BYTES_MAX, CATALOG_ROWS_MAX, SERVER_WHOLE_BYTES_MAX, TARGET_ANSWER_TIME},
    },
    NULL,
    catalog::{Answers, Catalog, Table},
};

const QUERY: u8 = 0x03;

/// Why it is not known what is masked.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum CatalogError {
    /// The connection broke.
    #[error("ask the target's catalogue")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("wait for the target's catalogue")]
    TimedOut,
    /// Its packet is none, or says what was not asked.
    #[error("read the target's catalogue")]
    Packet(#[from] CodecError),
    /// It has more than is looked at.
    #[error("read a catalogue of this size")]
    TooLarge,
    /// The session could turn to another database or set of characters unnoticed.
    #[error("follow a session that does not tell its state")]
    Untold,
    /// It refused.
    #[error("ask a catalogue that refuses with {number}")]
    Refused {
        /// Its number for it.
        number: u16,
    },
}

/// The questions, in the order of their answers. `$tables` are names of tables in lower case.
const QUESTIONS: [&str; 5] = [
    // Tables and views.
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES \
     WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
    // What views are.
    "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS \
     WHERE TABLE_SCHEMA NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')",
    // Columns of tables of these names.
    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS \
     WHERE LOWER(TABLE_NAME) IN ($tables)",
    // Functions that came with no server.
    "SELECT ROUTINE_NAME FROM information_schema.ROUTINES \
     WHERE ROUTINE_TYPE <> 'PROCEDURE' AND ROUTINE_SCHEMA NOT IN ('mysql', 'sys')",
    // Whether the session tells its database, and which settings.
    "SELECT @@session.session_track_schema, @@session.session_track_system_variables",
];

/// What is asked, and of which connection.
pub(in super::super) struct Asking<'a, S> {
    pub(in super::super) stream: &'a mut S,
    /// What the target sent ahead.
    pub(in super::super) rest: &'a mut BytesMut,
    /// Definitions are not followed by a packet that ends them.
    pub(in super::super) has_no_end: bool,
    pub(in super::super) masks: Arc<Masks>,
}

/// Asks what these masks mean at the target.
///
/// # Errors
/// [`CatalogError`]; the session must not begin.
pub(in super::super) async fn ask<S>(asking: Asking<'_, S>) -> Result<Catalog, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let masks = Arc::clone(&asking.masks);
    let mut reader = Reader {
        asking,
        sequence: 0,
        rows: 0,
        bytes: 0,
    };
    let answers = timeout(TARGET_ANSWER_TIME, reader.ask_all())
        .await
        .map_err(|_| CatalogError::TimedOut)??;
    Ok(Catalog::new(masks, answers))
}

struct Reader<'a, S> {
    asking: Asking<'a, S>,
    /// The number that the next packet has.
    sequence: u8,
    rows: usize,
    bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<'_, S> {
    async fn ask_all(&mut self) -> Result<Answers, CatalogError> {
        let tables: BTreeSet<String> = self
            .asking
            .masks
            .keys()
            // No quotes and no backslash are in such a name.
            .map(|name| format!("'{}'", name.relation().to_lowercase()))
            .collect();
        let tables = Vec::from_iter(tables).join(", ");
        let mut answers = Answers::default();
        for (question, text) in QUESTIONS.iter().enumerate() {
            self.ask(&text.replace("$tables", &tables)).await?;
            self.answer(question, &mut answers).await?;
        }
        Ok(answers)
    }

    async fn ask(&mut self, text: &str) -> Result<(), CatalogError> {
        let mut out = BytesMut::new();
        put_packet(&mut out, 0, |body| {
            body.put_u8(QUERY);
            body.put_slice(b"/* sallyport: what is masked */ ");
            body.put_slice(text.as_bytes());
        })?;
        self.asking.stream.write_all(&out).await?;
        self.asking.stream.flush().await?;
        self.sequence = 1;
        Ok(())
    }

    /// One result, row by row.
    async fn answer(&mut self, question: usize, answers: &mut Answers) -> Result<(), CatalogError> {
        let first = self.next().await?;
        let mut body = Body::new(&first);
        let columns = body.number()?;
        if columns == 0 || !body.is_empty() {
            return Err(CodecError::Body.into());
        }
        for _ in 0..columns {
            self.next().await?;
        }
        if !self.asking.has_no_end && self.next().await?.first() != Some(&END) {
            return Err(CodecError::Body.into());
        }
        loop {
            let packet = self.next().await?;
            // So short a packet is no row that begins with a long value.
            if packet.first() == Some(&END) && packet.len() < SERVER_WHOLE_BYTES_MAX {
                return Ok(());
            }
            self.rows = self.rows.saturating_add(1);
            if self.rows > CATALOG_ROWS_MAX {
                return Err(CatalogError::TooLarge);
            }
            let values = values(&packet)?;
            match (question, values.as_slice()) {
                (TRACKED, values) if tells_state(values) => {}
                (TRACKED, _) => return Err(CatalogError::Untold),
                (question, values) => take(answers, question, values)?,
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<u8>, CatalogError> {
        loop {
            let taken = take_packet(self.asking.rest, self.sequence, CATALOG_BYTES_MAX)?;
            if let Some(packet) = taken {
                self.sequence = packet.sequence.wrapping_add(1);
                self.bytes = self.bytes.saturating_add(packet.wire.len());
                if self.bytes > CATALOG_BYTES_MAX {
                    return Err(CatalogError::TooLarge);
                }
                let payload = packet.payload();
                return match payload.first() {
                    Some(&ERROR) => Err(CatalogError::Refused {
                        number: codec::server_error(&payload).number,
                    }),
                    _ => Ok(payload.into_owned()),
                };
            }
            if self.asking.stream.read_buf(self.asking.rest).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// The values of a row. What is not UTF-8 cannot be compared with names of a policy's: there is no session then.
fn values(packet: &[u8]) -> Result<Vec<Option<String>>, CodecError> {
    let mut row = Body::new(packet);
    let mut values = Vec::new();
    while !row.is_empty() {
        if row.rest().first() == Some(&NULL) {
            row.byte()?;
            values.push(None);
            continue;
        }
        let text = std::str::from_utf8(row.string()?).map_err(|_| CodecError::Body)?;
        values.push(Some(text.to_owned()));
    }
    Ok(values)
}

/// The question of what the session tells.
const TRACKED: usize = 4;

/// Whether a session that is set so tells its database and its set of characters. Whether backslashes escape stands
/// in every status.
fn tells_state(values: &[Option<String>]) -> bool {
    let [Some(schema), Some(variables)] = values else {
        return false;
    };
    let mut variables = variables.split(',').map(str::trim);
    (schema == "1" || schema.eq_ignore_ascii_case("on"))
        && variables.any(|name| name == "*" || name.eq_ignore_ascii_case("character_set_client"))
}

/// Notes one row of the answer to a question.
fn take(
    answers: &mut Answers,
    question: usize,
    values: &[Option<String>],
) -> Result<(), CodecError> {
    match (question, values) {
        // Its name may have letters that the client's set of characters lacks: it cannot be told from others.
        (0, [Some(database), Some(name), ..]) if database.contains('?') || name.contains('?') => {
            return Err(CodecError::Body);
        }
        (0, [Some(database), Some(name), Some(kind), engine]) => answers.tables.push(Table {
            database: database.clone(),
            name: name.clone(),
            is_view: kind.contains("VIEW"),
            engine: engine.clone().unwrap_or_default(),
        }),
        (1, [Some(database), Some(name), Some(text)]) => {
            let key = (database.clone(), name.clone());
            answers.definitions.insert(key, text.clone());
        }
        // Whoever may not see what it is.
        (1, [Some(_), Some(_), None]) => {}
        (2, [Some(database), Some(table), Some(column)]) => {
            let column = (database.clone(), table.clone(), column.clone());
            answers.columns.push(column);
        }
        (3, [Some(name)]) => answers.functions.push(name.clone()),
        _ => return Err(CodecError::Body),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-2, G4: what the gateway believes of a session's state, the session has to tell.
    #[test]
    fn given_what_a_session_tells_then_it_is_enough_only_with_its_database_and_characters() {
        let values =
            |schema: &str, variables: &str| [schema, variables].map(|v| Some(v.to_owned()));
        for (schema, variables, expected) in [
            ("1", "autocommit,character_set_client,time_zone", true),
            ("ON", "time_zone, Character_Set_Client", true),
            ("1", "*", true),
            ("0", "*", false),
            ("1", "", false),
            ("1", "autocommit,character_set_client_x", false),
        ] {
            let is_told = tells_state(&values(schema, variables));
            assert_eq!(is_told, expected, "{schema} {variables}");
        }
        assert!(!tells_state(&[None, None]) && !tells_state(&[]));
    }

    /// PO-2, G4: a name that lost letters is not taken for another.
    #[test]
    fn given_a_table_whose_name_lost_letters_then_there_is_no_catalogue() {
        let row = |name: &str| ["shop", name, "BASE TABLE", "InnoDB"].map(|v| Some(v.to_owned()));
        let mut answers = Answers::default();
        assert!(take(&mut answers, 0, &row("item")).is_ok());
        assert!(take(&mut answers, 0, &row("k?rzel")).is_err());
    }
}
