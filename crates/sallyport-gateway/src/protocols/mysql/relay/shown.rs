//! Where columns are masked: what may run, whose values its rows hold, and the rows as they are shown.
//!
//! The packets that define a result wait here until it is known whether its rows can be shown: a client that has read
//! them reads rows next, and not every driver looks for an error there.
//!
//! INVARIANT: a row of a statement that touches masked columns is passed on only as [`Shape::row`] made it, or as it
//! came where none of its fields is masked; what the target says of such a statement is told by its code alone.
//!
//! Not here: what is masked (`mask`), cutting a statement off (`cut`).

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        super::masking::Unmaskable,
        codec::ServerError,
        mask::{Catalog, Rows, Shape, Touch},
        operations::Text,
        wording,
    },
    READ_BYTES, Relay, RelayError,
    answer::Answer,
};

/// Where in the description of a result an answer is, and was before its last packet.
pub(super) struct Describes {
    /// That packet defined a field.
    pub(super) was: bool,
    /// The next one does.
    pub(super) is: bool,
}

/// What is known of a result by now.
pub(super) enum Noted {
    /// Nothing that keeps it back.
    Known,
    /// Not enough yet.
    Open,
    /// That it cannot be shown.
    Hidden,
}

impl Describes {
    /// Notes what the last packet says of a result.
    pub(super) fn note(self, shape: &mut Shape, packet: &[u8], catalog: Option<&Catalog>) -> Noted {
        match (self.was, catalog) {
            (true, Some(catalog)) => shape.define(packet, catalog),
            (true, None) => return Noted::Hidden,
            (false, _) if self.is => shape.begin(),
            (false, _) => {}
        }
        match (self.is, shape.can_be_shown()) {
            (true, _) => Noted::Open,
            (false, true) => Noted::Known,
            (false, false) => Noted::Hidden,
        }
    }
}

impl<C, T> Relay<C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// A client's text, looked at as far as this session needs.
    pub(super) fn text(&self, sql: &[u8]) -> Text {
        let text = Text::of(sql, self.has_escapes(), self.database.as_deref());
        match self.setup.session.has_masks() {
            true => text.looked_at(sql, self.has_escapes(), self.database.as_deref()),
            false => text,
        }
    }

    /// How the rows of a statement are to be shown; nothing when it touches nothing that is masked.
    pub(super) fn shape(&self, text: &Text, rows: Rows) -> Result<Option<Shape>, Unmaskable> {
        let session = &self.setup.session;
        // What may write is refused because of that.
        if !session.has_masks() || !text.what().only_read() {
            return Ok(None);
        }
        let catalog = self.setup.catalog.as_deref().ok_or(Unmaskable)?;
        if !catalog.is_for(&session.masks()) {
            return Err(Unmaskable);
        }
        let built = text.built().ok_or(Unmaskable)?;
        Ok(match catalog.touch(text.what(), built)? {
            Touch::Nothing => None,
            Touch::Columns => Some(Shape::new(rows)),
        })
    }

    /// Whether the next packet has to be seen whole because of masks.
    pub(super) fn looks_at(&self, answer: &Answer, is_row: bool) -> bool {
        let shape = self.running.as_ref().and_then(|running| running.shape());
        shape.is_some_and(|shape| answer.is_describing() || (is_row && shape.is_masked()))
    }

    /// A row of the statement that answers now, as it is shown: a whole packet of this number.
    pub(super) fn row_as_shown(&self, row: &[u8], sequence: u8) -> Result<BytesMut, Unmaskable> {
        let shape = self.running.as_ref().and_then(|running| running.shape());
        let token = |column: &str, value: &[u8]| self.setup.session.token(column, value);
        shape.ok_or(Unmaskable)?.row(row, sequence, token)
    }

    /// Has this sent in the place of the target's next packet, which is nowhere on record.
    pub(super) async fn show(&mut self, instead: &[u8], wire: usize) -> Result<(), RelayError> {
        self.held = None;
        if self.passed > 0 {
            self.pass().await?;
        }
        self.masked.extend_from_slice(instead);
        let count = wire.min(self.setup.from_target.len());
        self.setup.from_target.advance(count);
        match self.masked.len() >= READ_BYTES {
            true => self.pass().await,
            false => Ok(()),
        }
    }

    /// What a client is told of an error in place of the target's words, where these may hold values.
    pub(super) fn kept_back(
        &self,
        error: &ServerError,
        sequence: u8,
    ) -> Result<Option<BytesMut>, RelayError> {
        let shape = self.running.as_ref().and_then(|running| running.shape());
        if shape.is_none() && !self.keeps_back {
            return Ok(None);
        }
        let mut out = BytesMut::new();
        wording::put_kept_back(&mut out, sequence, error).map_err(RelayError::Target)?;
        Ok(Some(out))
    }
}
