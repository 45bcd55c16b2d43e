//! Masked columns: which columns of a result hold values that are not shown, and the rows without them.
//!
//! Where a session has masks, `serve` asks the target what they mean there before the client's first statement
//! (`catalog`); `relay` has a statement judged before it runs, and where it touches masked columns, each of its
//! fields by the definition that the target sends. docs/adr/0028-masked-columns-of-mysql.md says why it is done so.
//!
//! INVARIANT: a value passes only from a statement that touches nothing masked, or if it is a column of a table
//! that one query names itself, that the catalogue knew when the session began and that is not masked.
//!
//! Not here: what a statement touches and how it is built (`crate::statement`), sending (`relay`).

mod catalog;
mod questions;

use std::sync::Arc;

use bytes::BytesMut;
use sallyport_core::policy::Mask;

pub(super) use self::{
    catalog::{Catalog, Touch},
    questions::{Asking, CatalogError, ask},
};
use super::{
    super::masking::{Unmaskable, stand_in},
    codec::{Body, CodecError, put_packet, put_string},
};

/// NULL in a row of the text protocol.
const NULL: u8 = 0xfb;
/// The number of the set of characters of what is no text.
const BINARY: u16 = 63;
/// Bits before those of the first column in a binary row that say what is NULL.
const NULL_BITS_BEFORE: usize = 2;

/// Types of columns, by the protocol's numbers.
mod kind {
    pub(super) const TINY: u8 = 0x01;
    pub(super) const SHORT: u8 = 0x02;
    pub(super) const LONG: u8 = 0x03;
    pub(super) const FLOAT: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const NULL: u8 = 0x06;
    pub(super) const TIMESTAMP: u8 = 0x07;
    pub(super) const LONGLONG: u8 = 0x08;
    pub(super) const INT24: u8 = 0x09;
    pub(super) const DATE: u8 = 0x0a;
    pub(super) const TIME: u8 = 0x0b;
    pub(super) const DATETIME: u8 = 0x0c;
    pub(super) const YEAR: u8 = 0x0d;
    pub(super) const VARCHAR: u8 = 0x0f;
    pub(super) const BIT: u8 = 0x10;
    pub(super) const JSON: u8 = 0xf5;
    pub(super) const DECIMAL: u8 = 0xf6;
    pub(super) const TINY_BLOB: u8 = 0xf9;
    pub(super) const BLOB: u8 = 0xfc;
    pub(super) const VAR_STRING: u8 = 0xfd;
    pub(super) const STRING: u8 = 0xfe;
    pub(super) const GEOMETRY: u8 = 0xff;
}

/// In which protocol rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Text,
    /// Of prepared statements.
    Binary,
}

/// A field of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    kind: u8,
    /// How it is shown, and the column's own name, whole: what its tokens are made with.
    masked: Option<(Mask, Arc<str>)>,
}

/// How the rows of one result are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    rows: Rows,
    fields: Vec<Field>,
    /// One of its fields cannot be shown.
    is_unmaskable: bool,
}

impl Shape {
    /// Of a result whose fields are to come.
    pub(super) const fn new(rows: Rows) -> Self {
        Self {
            rows,
            fields: Vec::new(),
            is_unmaskable: false,
        }
    }

    /// Forgets the fields of the result before.
    pub(super) fn begin(&mut self) {
        *self = Self::new(self.rows);
    }

    /// Notes one more field, by its definition.
    pub(super) fn define(&mut self, definition: &[u8], catalog: &Catalog) {
        match field(definition, catalog) {
            Ok(field) => self.fields.push(field),
            Err(Unmaskable) => self.is_unmaskable = true,
        }
    }

    /// Whether its rows can be shown.
    pub(super) const fn can_be_shown(&self) -> bool {
        !self.is_unmaskable
    }

    /// Whether its rows are rewritten.
    pub(super) fn is_masked(&self) -> bool {
        self.fields.iter().any(|field| field.masked.is_some())
    }

    /// A row as it is shown: a whole packet of this number. `token` makes tokens from a column's name and a value.
    pub(super) fn row(
        &self,
        payload: &[u8],
        sequence: u8,
        token: impl Fn(&str, &[u8]) -> Option<String>,
    ) -> Result<BytesMut, Unmaskable> {
        let mut shown = BytesMut::with_capacity(payload.len());
        match self.rows {
            Rows::Text => self.text_row(payload, &mut shown, token)?,
            Rows::Binary => self.binary_row(payload, &mut shown, token)?,
        }
        let mut packet = BytesMut::with_capacity(shown.len().saturating_add(4));
        put_packet(&mut packet, sequence, |body| body.extend_from_slice(&shown))
            .map_err(|_: CodecError| Unmaskable)?;
        Ok(packet)
    }

    fn text_row(
        &self,
        payload: &[u8],
        shown: &mut BytesMut,
        token: impl Fn(&str, &[u8]) -> Option<String>,
    ) -> Result<(), Unmaskable> {
        let mut row = Body::new(payload);
        for field in &self.fields {
            let value = match row.rest().first() {
                Some(&NULL) => {
                    row.take(1).map_err(unread)?;
                    None
                }
                _ => Some(row.string().map_err(unread)?),
            };
            let instead = match &field.masked {
                Some((mask, column)) => stand_in(*mask, column, value, &token)?,
                None => {
                    put_text(shown, value);
                    continue;
                }
            };
            put_text(shown, instead.as_deref().map(str::as_bytes));
        }
        match row.is_empty() {
            true => Ok(()),
            false => Err(Unmaskable),
        }
    }

    fn binary_row(
        &self,
        payload: &[u8],
        shown: &mut BytesMut,
        token: impl Fn(&str, &[u8]) -> Option<String>,
    ) -> Result<(), Unmaskable> {
        let mut row = Body::new(payload);
        if row.byte().map_err(unread)? != 0 {
            return Err(Unmaskable);
        }
        let bits = self
            .fields
            .len()
            .saturating_add(NULL_BITS_BEFORE)
            .div_ceil(8);
        let mut nulls = row.take(bits).map_err(unread)?.to_vec();
        let mut values = BytesMut::with_capacity(payload.len());
        for (position, field) in self.fields.iter().enumerate() {
            let bit = position.saturating_add(NULL_BITS_BEFORE);
            let byte = nulls.get_mut(bit / 8).ok_or(Unmaskable)?;
            let bit = 1_u8.rotate_left(u32::try_from(bit % 8).map_err(|_| Unmaskable)?);
            if *byte & bit != 0 {
                continue;
            }
            let whole = value(&mut row, field.kind)?;
            let Some((mask, column)) = &field.masked else {
                values.extend_from_slice(whole);
                continue;
            };
            // Only texts have tokens and parts, and they stand behind their length.
            let text = match mask {
                Mask::Null => None,
                Mask::Partial | Mask::Token => Some(Body::new(whole).string().map_err(unread)?),
            };
            match stand_in(*mask, column, text, &token)? {
                Some(instead) => put_string(&mut values, instead.as_bytes()),
                None => *byte |= bit,
            }
        }
        if !row.is_empty() {
            return Err(Unmaskable);
        }
        shown.extend_from_slice(&[0]);
        shown.extend_from_slice(&nulls);
        shown.extend_from_slice(&values);
        Ok(())
    }
}

fn unread(_: CodecError) -> Unmaskable {
    Unmaskable
}

fn put_text(shown: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(value) => put_string(shown, value),
        None => shown.extend_from_slice(&[NULL]),
    }
}

/// The next value of a binary row, of this type, with its length where it has one.
fn value<'a>(row: &mut Body<'a>, kind: u8) -> Result<&'a [u8], Unmaskable> {
    let before = row.rest();
    let count = match kind {
        kind::TINY => 1,
        kind::SHORT | kind::YEAR => 2,
        kind::LONG | kind::INT24 | kind::FLOAT => 4,
        kind::LONGLONG | kind::DOUBLE => 8,
        kind::NULL => 0,
        kind::TIMESTAMP | kind::DATE | kind::TIME | kind::DATETIME => {
            let length = before.first().copied().ok_or(Unmaskable)?;
            usize::from(length).saturating_add(1)
        }
        kind::VARCHAR
        | kind::BIT
        | kind::JSON..=kind::DECIMAL
        | kind::TINY_BLOB..=kind::GEOMETRY => {
            row.string().map_err(unread)?;
            let count = before.len().saturating_sub(row.rest().len());
            return before.get(..count).ok_or(Unmaskable);
        }
        _ => return Err(Unmaskable),
    };
    row.take(count).map_err(unread)
}

/// A field by its definition: whose values it holds, and how they are shown.
fn field(definition: &[u8], catalog: &Catalog) -> Result<Field, Unmaskable> {
    const FIXED_BYTES: u64 = 12;
    let mut body = Body::new(definition);
    body.string().map_err(unread)?;
    let mut name = || -> Result<&str, Unmaskable> {
        std::str::from_utf8(body.string().map_err(unread)?).map_err(|_| Unmaskable)
    };
    let (database, _, table, _, column) = (name()?, name()?, name()?, name()?, name()?);
    if body.number().map_err(unread)? != FIXED_BYTES {
        return Err(Unmaskable);
    }
    let characters = body.u16().map_err(unread)?;
    body.take(4).map_err(unread)?;
    let kind = body.byte().map_err(unread)?;
    body.take(2 + 1 + 2).map_err(unread)?;
    if !body.is_empty() || database.is_empty() || table.is_empty() || column.is_empty() {
        return Err(Unmaskable);
    }
    let masked = catalog.column(database, table, column)?;
    let is_text = characters != BINARY
        && matches!(
            kind,
            kind::VARCHAR | kind::TINY_BLOB..=kind::BLOB | kind::VAR_STRING | kind::STRING
        );
    // A token is no number and no date: a client would not understand it as one.
    match masked {
        Some((mask, _)) if mask != Mask::Null && !is_text => Err(Unmaskable),
        masked => Ok(Field { kind, masked }),
    }
}

#[cfg(test)]
mod tests;
