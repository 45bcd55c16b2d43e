//! Where columns are masked: what the rows of the statement that answers now are like.
//!
//! INVARIANT: a row of a statement whose rows were not described, or cannot be masked, is not passed on.
//!
//! Not here: judging a description and rewriting a row (`mask`).

use bytes::BytesMut;

use super::{
    super::super::mask::{Shape, Unmaskable},
    Asked, Pipeline, Running,
};

impl Pipeline {
    /// Notes a description of rows, judged by whether its statement touches nothing that is masked. One that
    /// the client asked for says nothing: it is asked for again before anything runs.
    pub(in super::super) fn describe(
        &mut self,
        judge: impl FnOnce(bool) -> Result<Shape, Unmaskable>,
    ) {
        match self.asked.front_mut() {
            Some(Asked::OwnDescribe { is_clear }) => self.described = Some(judge(*is_clear)),
            Some(Asked::Query(running)) => running.shape = Some(judge(running.is_clear)),
            // Of the portal that a statement fetches from.
            Some(Asked::Execute(running)) => running.shape = Some(judge(running.is_clear)),
            _ => {}
        }
    }

    /// Whether this is the answer to a description that we asked for.
    pub(in super::super) fn own_described(&mut self) -> bool {
        let is_own = matches!(self.asked.front(), Some(Asked::OwnDescribe { .. }));
        if is_own {
            self.pop();
        }
        is_own
    }

    /// The statement that answers now, with what is known of its rows.
    fn showing(&mut self) -> Option<&mut Running> {
        let described = match self.asked.front() {
            Some(Asked::Execute(_)) => self.described.take(),
            _ => None,
        };
        let running = self.running()?;
        if described.is_some() {
            running.shape = described;
        }
        Some(running)
    }

    /// Whether a message of this kind belongs to a statement whose rows cannot be shown.
    pub(in super::super) fn is_unmaskable(&mut self, kind: u8) -> bool {
        let Some(running) = self.showing().filter(|running| running.cut.is_none()) else {
            return false;
        };
        let is_hidden = matches!(running.shape, Some(Err(Unmaskable)));
        match kind {
            b'D' => is_hidden || running.shape.is_none(),
            b'T' | b'C' | b's' => is_hidden,
            // What is copied is not described.
            b'H' | b'W' | b'V' => !running.is_clear,
            _ => false,
        }
    }

    /// Whether rows of the statement that answers now are rewritten.
    pub(in super::super) fn masks_rows(&mut self) -> bool {
        self.showing().is_some_and(|running| {
            running.cut.is_none() && matches!(&running.shape, Some(Ok(shape)) if shape.is_masked())
        })
    }

    /// A row of the statement that answers now, as it is shown.
    pub(in super::super) fn shown(
        &mut self,
        show: impl FnOnce(&Shape) -> Result<BytesMut, Unmaskable>,
    ) -> Result<BytesMut, Unmaskable> {
        match self.showing().and_then(|running| running.shape.as_ref()) {
            Some(Ok(shape)) => show(shape),
            _ => Err(Unmaskable),
        }
    }

    /// Whether what the target says of the statement that answers now may hold values that are not shown.
    pub(in super::super) fn keeps_back(&mut self) -> bool {
        self.running().is_some_and(|running| !running.is_clear)
    }
}
