//! Asks a target's catalogue what masks mean in its database: once, when a session begins, on the session's own
//! connection before the client's first statement.
//!
//! INVARIANT: nothing that the session's role or its client set changes what is asked: names are the server's own,
//! and the search path is empty of others while it lasts. Without an answer there is no session.
//!
//! Not here: what follows from the answers (`catalog`).

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use bytes::{Buf as _, BytesMut};
use sallyport_core::policy::Masks;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    super::{
        codec::{self, Body, CodecError},
        limits::{CATALOG_BYTES_MAX, CATALOG_ROWS_MAX, TARGET_ANSWER_TIME},
    },
    catalog::{Answers, Catalog, FIRST_OWN, Relation},
};

/// Why it is not known what is masked.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum CatalogError {
    /// The connection broke.
    #[error("ask the target's catalogue")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("wait for the target's catalogue")]
    TimedOut,
    /// Its message is none, or says what was not asked.
    #[error("read the target's catalogue")]
    Message(#[from] CodecError),
    /// It has more than is looked at.
    #[error("read a catalogue of this size")]
    TooLarge,
    /// It refused.
    #[error("ask a catalogue that refuses with `{sqlstate}`")]
    Refused {
        /// Its code.
        sqlstate: String,
    },
}

/// The questions, in the order of their answers. `$columns` are names of columns.
const QUESTIONS: [&str; 7] = [
    // Relations.
    "SELECT c.oid, n.nspname, c.relname, c.relnatts, c.relkind IN ('v', 'm') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')",
    // Parts and heirs of tables.
    "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits",
    // What views ask.
    "SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
     ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
     WHERE r.ev_type = '1' AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     AND d.refobjid <> r.ev_class",
    // Views that compute by what did not come with the server.
    "SELECT DISTINCT r.ev_class FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
     ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid \
     WHERE r.ev_type = '1' AND d.refobjid >= $own AND d.refclassid IN \
     ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)",
    // What views are.
    "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c \
     WHERE c.relkind IN ('v', 'm') AND c.oid >= $own",
    // Columns of these names.
    "SELECT a.attrelid, a.attnum, a.attname FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     WHERE a.attname IN ($columns) AND a.attnum > 0 AND NOT a.attisdropped \
     AND c.relkind IN ('r', 'p', 'f')",
    // Code in SQL or the like behind an operator, a cast, or what looks like a column.
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
     WHERE o.oid >= $own AND p.prolang NOT IN (12, 13)) \
     OR EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc \
     WHERE c.oid >= $own AND p.prolang NOT IN (12, 13)) \
     OR EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0] \
     WHERE p.oid >= $own AND p.prolang NOT IN (12, 13) AND p.pronargs - p.pronargdefaults <= 1 \
     AND t.typtype IN ('c', 'p'))",
];

/// Asks what these masks mean in the database of this name. `rest` is what the target sent ahead.
///
/// # Errors
/// [`CatalogError`]; the session must not begin.
pub(in super::super) async fn ask<S>(
    stream: &mut S,
    rest: &mut BytesMut,
    masks: Arc<Masks>,
    database: &str,
) -> Result<Catalog, CatalogError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asking = async {
        let mut message = BytesMut::new();
        codec::message(&mut message, b'Q', |body| {
            codec::put_text(body, &text(&masks))
        })?;
        stream.write_all(&message).await?;
        stream.flush().await?;
        read(stream, rest).await
    };
    let answers = timeout(TARGET_ANSWER_TIME, asking)
        .await
        .map_err(|_| CatalogError::TimedOut)??;
    Ok(Catalog::new(masks, database, answers))
}

/// All questions as one message, in a transaction of their own.
fn text(masks: &Masks) -> String {
    let columns: BTreeSet<String> = masks
        .keys()
        .map(|name| format!("'{}'", name.column()))
        .collect();
    let columns = Vec::from_iter(columns).join(", ");
    let questions: Vec<String> = QUESTIONS
        .iter()
        .map(|question| {
            question
                .replace("$columns", &columns)
                .replace("$own", &FIRST_OWN.to_string())
        })
        .collect();
    format!(
        "/* sallyport: what is masked */ BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
         SET LOCAL search_path TO pg_catalog, pg_temp; {}; COMMIT",
        questions.join("; ")
    )
}

/// The answers to all questions, up to where the target is ready again.
async fn read<S>(stream: &mut S, rest: &mut BytesMut) -> Result<Answers, CatalogError>
where
    S: AsyncRead + Unpin,
{
    let mut answers = Answers::default();
    let (mut question, mut rows, mut bytes) = (None::<usize>, 0_usize, 0_usize);
    let mut refused = None;
    loop {
        let header = loop {
            if let Some(header) = codec::header(rest)? {
                if header.bytes > CATALOG_BYTES_MAX {
                    return Err(CatalogError::TooLarge);
                }
                if rest.len() >= header.bytes {
                    break header;
                }
            }
            if stream.read_buf(rest).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        };
        bytes = bytes.saturating_add(header.bytes);
        let message = rest.get(..header.bytes).unwrap_or_default();
        match header.kind {
            b'T' => question = Some(question.map_or(0, |number| number.saturating_add(1))),
            b'D' => {
                rows = rows.saturating_add(1);
                let question = question.ok_or(CodecError::Body)?;
                take(&mut answers, question, &super::values(Body::of(message))?)?;
            }
            b'E' => {
                refused = Some(CatalogError::Refused {
                    sqlstate: codec::server_error(Body::of(message)).sqlstate,
                });
            }
            b'Z' => {
                rest.advance(header.bytes);
                // With every question answered.
                let is_whole = question == Some(QUESTIONS.len().saturating_sub(1));
                return match refused {
                    Some(error) => Err(error),
                    None if is_whole => Ok(answers),
                    None => Err(CodecError::Body.into()),
                };
            }
            b'C' | b'N' | b'S' | b'A' => {}
            _ => return Err(CodecError::Body.into()),
        }
        rest.advance(header.bytes);
        if rows > CATALOG_ROWS_MAX || bytes > CATALOG_BYTES_MAX {
            return Err(CatalogError::TooLarge);
        }
    }
}

/// Notes one row of the answer to a question.
fn take(
    answers: &mut Answers,
    question: usize,
    values: &[Option<&[u8]>],
) -> Result<(), CodecError> {
    let texts: Vec<&str> = values
        .iter()
        .map(|value| std::str::from_utf8(value.unwrap_or_default()).map_err(|_| CodecError::Body))
        .collect::<Result<_, _>>()?;
    match (question, texts.as_slice()) {
        (0, [oid, schema, name, columns, is_view]) => answers.relations.push(Relation {
            number: number(oid)?,
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            columns: number(columns)?,
            is_view: *is_view != "f",
        }),
        (1, [heir, parent]) => answers.inheritance.push((number(heir)?, number(parent)?)),
        (2, [view, asked]) => answers.views.push((number(view)?, number(asked)?)),
        (3, [view]) => {
            answers.computing_views.insert(number(view)?);
        }
        (4, [view, text]) => answers
            .definitions
            .push((number(view)?, (*text).to_owned())),
        (5, [relation, column, name]) => {
            let column = (number(relation)?, number(column)?, (*name).to_owned());
            answers.columns.push(column);
        }
        (6, [is_there]) => answers.computes_unseen = *is_there != "f",
        _ => return Err(CodecError::Body),
    }
    Ok(())
}

fn number<T: FromStr>(text: &str) -> Result<T, CodecError> {
    text.parse().map_err(|_| CodecError::Body)
}
