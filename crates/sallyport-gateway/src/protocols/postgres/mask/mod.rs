//! Masked columns: which columns of a result hold values that are not shown, and the rows without them.
//!
//! Where a session has masks, `serve` asks the target what they mean in its database before the client's first
//! statement (`catalog`); `relay` has every result judged by its description before its first row passes, and
//! rows rewritten. docs/adr/0026-masked-columns.md says why it is done so.
//!
//! INVARIANT: a value passes only if its field is a column of a relation that the catalogue knew when the session
//! began and that is not masked, or if it was computed by a statement that touches nothing but such relations.
//! Everything else is an error: the statement is refused.
//!
//! Not here: what a statement touches (`crate::statement`), sending (`relay`).

mod catalog;
mod questions;

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use sallyport_core::policy::Mask;

pub(super) use self::{
    catalog::Catalog,
    questions::{CatalogError, ask},
};
pub(super) use super::super::masking::Unmaskable;
use super::{
    super::masking::stand_in,
    codec::{self, Body, CodecError},
};

/// Types whose values are the characters that they are written with, in text and in binary: `text`, `varchar`,
/// `bpchar`, `name`.
const CHARACTER_TYPES: [u32; 4] = [25, 1043, 1042, 19];

/// A field of a result that is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MaskedField {
    position: usize,
    mask: Mask,
    /// The column's own name, whole: what its tokens are made with.
    column: Arc<str>,
}

/// How the rows of one result are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    fields: usize,
    masked: Vec<MaskedField>,
}

/// Where the values of a field come from, as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    relation: u32,
    column: i16,
    kind: u32,
}

impl Shape {
    /// Whether rows are to be rewritten.
    pub(super) fn is_masked(&self) -> bool {
        !self.masked.is_empty()
    }

    /// How a result is shown that the server describes so. `is_clear` says that its statement touches nothing
    /// that is masked.
    pub(super) fn of(
        description: Body<'_>,
        is_clear: bool,
        catalog: &Catalog,
    ) -> Result<Self, Unmaskable> {
        let fields = fields(description).map_err(|_: CodecError| Unmaskable)?;
        let mut masked = Vec::new();
        for (position, field) in fields.iter().enumerate() {
            if field.relation == 0 {
                if !is_clear || catalog.computes_unseen() {
                    return Err(Unmaskable);
                }
                continue;
            }
            let Some((mask, column)) = catalog.column(field.relation, field.column)? else {
                continue;
            };
            // A token is no number and no date: a client would not understand it as one.
            if mask != Mask::Null && !CHARACTER_TYPES.contains(&field.kind) {
                return Err(Unmaskable);
            }
            masked.push(MaskedField {
                position,
                mask,
                column,
            });
        }
        Ok(Self {
            fields: fields.len(),
            masked,
        })
    }

    /// A row as it is shown: the whole message. `token` makes tokens from a column's name and a value.
    pub(super) fn row(
        &self,
        message: &[u8],
        token: impl Fn(&str, &[u8]) -> Option<String>,
    ) -> Result<BytesMut, Unmaskable> {
        let values = values(Body::of(message)).map_err(|_: CodecError| Unmaskable)?;
        if values.len() != self.fields {
            return Err(Unmaskable);
        }
        let mut masked = self.masked.iter().peekable();
        let mut shown = BytesMut::with_capacity(message.len());
        for (position, value) in values.into_iter().enumerate() {
            let Some(field) = masked.next_if(|field| field.position == position) else {
                put_value(&mut shown, value)?;
                continue;
            };
            let instead = stand_in(field.mask, &field.column, value, &token)?;
            put_value(&mut shown, instead.as_ref().map(|text| text.as_bytes()))?;
        }
        let count = u16::try_from(self.fields).map_err(|_| Unmaskable)?;
        let mut row = BytesMut::with_capacity(shown.len().saturating_add(codec::HEADER_BYTES));
        codec::message(&mut row, b'D', |body| {
            body.put_u16(count);
            body.extend_from_slice(&shown);
        })
        .map_err(|_: CodecError| Unmaskable)?;
        Ok(row)
    }
}

fn put_value(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), Unmaskable> {
    match value {
        Some(value) => {
            out.put_i32(i32::try_from(value.len()).map_err(|_| Unmaskable)?);
            out.put_slice(value);
        }
        None => out.put_i32(-1),
    }
    Ok(())
}

/// The fields of a description of rows.
fn fields(mut body: Body<'_>) -> Result<Vec<Field>, CodecError> {
    let count = body.u16()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        body.text()?;
        let relation = body.u32()?;
        let column = body.i16()?;
        let kind = body.u32()?;
        body.take(2 + 4 + 2)?;
        fields.push(Field {
            relation,
            column,
            kind,
        });
    }
    match body.is_empty() {
        true => Ok(fields),
        false => Err(CodecError::Body),
    }
}

/// The values of a row.
fn values(mut body: Body<'_>) -> Result<Vec<Option<&[u8]>>, CodecError> {
    let count = body.u16()?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = body.i32()?;
        values.push(match usize::try_from(length) {
            Ok(length) => Some(body.take(length)?),
            Err(_) if length == -1 => None,
            Err(_) => return Err(CodecError::Length),
        });
    }
    match body.is_empty() {
        true => Ok(values),
        false => Err(CodecError::Body),
    }
}

#[cfg(test)]
mod tests;
