//! What a client has asked in one session and the target has not answered: which answer belongs to which
//! message, what names stand for, and when an answer is ours.
//!
//! A refused statement is answered by the server itself: in its place goes a statement that cannot be
//! parsed, whose error is replaced by ours. So the state of the protocol and of the transaction is always
//! the server's own.
//!
//! INVARIANT: an answer that fits no message is an error, which ends the session; a name stands for the text
//! that the server has for it, or for no text at all.
//!
//! Not here: moving bytes (`relay`), deciding (`session`).

mod cut;
mod shown;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use self::cut::Cut;
pub(super) use self::cut::Spent;
use super::super::{
    codec::ServerError,
    limits::{NAMES_MAX, PREPARED_BYTES_MAX},
    mask::{Shape, Unmaskable},
    operations::{Parameters, Text, rows_of},
};
use crate::session::{OperationResult, RunningOperation};
use aws_lc_rs::digest::{Context, SHA256};
use bytes::BytesMut;
use sallyport_core::{
    session::{OperationOutcome, StatementRecord},
    time::Timestamp,
};

/// Tags of one message that the evidence keeps.
const TAGS_MAX: usize = 64;
/// Longest tag that the evidence keeps.
const TAG_CHARS_MAX: usize = 128;

/// A target's message that answers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("find what the target answers with `{}`", char::from(self.kind))]
pub(in super::super) struct Unasked {
    /// The kind of its message.
    pub(super) kind: u8,
}

/// A statement that the target has and has not finished.
pub(super) struct Running {
    operation: RunningOperation,
    record: StatementRecord,
    rows: u64,
    bytes: u64,
    tags: Vec<String>,
    copied: Option<Context>,
    /// The client sends what is copied.
    is_fed: bool,
    since: Timestamp,
    /// What its portal took before, and takes with it.
    spent: Arc<Spent>,
    cut: Option<Cut>,
    /// It touches nothing that is masked.
    is_clear: bool,
    /// How its rows are shown, once the target has said what they are.
    shape: Option<Result<Shape, Unmaskable>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("operation", &self.operation)
            .field("record", &self.record)
            .field("rows", &self.rows)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Running {
    pub(super) fn new(
        operation: RunningOperation,
        record: StatementRecord,
        spent: Arc<Spent>,
        since: Timestamp,
    ) -> Self {
        Self {
            since,
            is_fed: false,
            spent,
            cut: None,
            is_clear: true,
            shape: None,
            operation,
            record,
            rows: 0,
            bytes: 0,
            tags: Vec::new(),
            copied: None,
        }
    }

    /// The same, which touches nothing that is masked, or may.
    pub(super) fn clear(self, is_clear: bool) -> Self {
        Self { is_clear, ..self }
    }

    pub(super) const fn is_clear(&self) -> bool {
        self.is_clear
    }

    fn completed(&mut self, tag: &str) {
        if self.tags.len() < TAGS_MAX {
            let tag = tag.chars().filter(|c| !c.is_control());
            self.tags.push(tag.take(TAG_CHARS_MAX).collect());
        }
        if let Some(rows) = rows_of(tag) {
            let known = self.record.rows.unwrap_or(0);
            self.record.rows = Some(known.saturating_add(rows));
        }
    }

    fn finish(mut self) {
        let has_failed = self.record.sqlstate.is_some();
        if !self.tags.is_empty() {
            self.record.tag = Some(self.tags.join("; "));
        } else if self.rows > 0 {
            self.record.rows = Some(self.rows);
        }
        let mut sha256 = [0; 32];
        let is_hashed = self.copied.take().map(|copied| {
            for (slot, byte) in sha256.iter_mut().zip(copied.finish().as_ref()) {
                *slot = *byte;
            }
        });
        let result = OperationResult {
            exit_status: None,
            size_bytes: (self.bytes > 0).then_some(self.bytes),
            sha256: is_hashed.map(|()| sha256),
            statement: Some(self.record),
            reason: self.cut.as_ref().map(|cut| cut.reason),
        };
        let outcome = match (&self.cut, has_failed) {
            (Some(_), _) => OperationOutcome::Interrupted,
            (None, true) => OperationOutcome::FailedAtTarget,
            (None, false) => OperationOutcome::Completed,
        };
        self.operation.finish(outcome, result);
    }
}

/// A statement with the values bound to it.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) text: Option<Arc<Text>>,
    pub(super) statement: Vec<u8>,
    pub(super) parameters: Parameters,
    pub(super) spent: Arc<Spent>,
}

/// What a message defines or undefines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Statement,
    Portal,
}

/// A message that the target has not answered.
#[derive(Debug)]
pub(super) enum Asked {
    Parse {
        name: Vec<u8>,
        text: Arc<Text>,
    },
    Bind {
        portal: Vec<u8>,
        bound: Arc<Bound>,
    },
    Describe,
    /// A description of a portal that we ask for, of which the client hears nothing.
    OwnDescribe {
        /// What comes of the portal touches nothing that is masked.
        is_clear: bool,
    },
    Close(Named, Vec<u8>),
    Execute(Box<Running>),
    /// Refused by us; the target has got something in its place that it cannot parse.
    Refused {
        report: BytesMut,
        is_simple: bool,
    },
    Sync,
    /// A simple query, or a function call.
    Query(Box<Running>),
}

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Pass,
    /// Send this in its place.
    Replace(BytesMut),
    /// Send this, and then what came.
    Before(BytesMut),
    /// Send nothing.
    Drop,
    /// Send this in its place, and keep what came to nobody.
    Instead(BytesMut),
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// This, or nothing that was defined by a message.
    Is(Option<T>),
    /// It depends on an answer that is still to come.
    Unsettled,
}

/// Everything that is asked and not answered, and what names stand for.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    asked: VecDeque<Asked>,
    /// Of `asked`, those that define or undefine names.
    defining: usize,
    statements: HashMap<Vec<u8>, Arc<Text>>,
    statement_bytes: usize,
    portals: HashMap<Vec<u8>, Arc<Bound>>,
    /// The target ignores everything until the next synchronisation.
    is_skipping: bool,
    /// SQL may have given names of statements another meaning.
    is_redefined: bool,
    /// The target takes rows of a `COPY`, and the client has not said that it has no more.
    pub(super) is_fed: bool,
    /// The target has said that it closes the connection.
    pub(super) is_over: bool,
    /// Something is to be sent to the target that it cannot parse; whether by the simple protocol.
    to_fail: Option<bool>,
    /// What rows of the portal that answers next are like.
    described: Option<Result<Shape, Unmaskable>>,
}

impl Pipeline {
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Notes that a message goes to the target. What it will ignore is on record as interrupted.
    pub(super) fn push(&mut self, asked: Asked) {
        if self.is_skipping {
            match asked {
                Asked::Sync => self.is_skipping = false,
                _ => return,
            }
        }
        self.defining = self
            .defining
            .saturating_add(usize::from(is_defining(&asked)));
        self.asked.push_back(asked);
    }

    /// Notes that SQL goes to the target which may change what names of statements mean.
    pub(super) fn redefined(&mut self) {
        self.is_redefined = true;
    }

    /// Whether one more statement of this size may be prepared under this name.
    pub(super) fn has_room_for(&self, name: &[u8], text: &Text) -> bool {
        name.is_empty()
            || (self.statements.len().saturating_add(self.defining) < NAMES_MAX
                && self.statement_bytes.saturating_add(text.len()) < PREPARED_BYTES_MAX)
    }

    /// The text of a prepared statement.
    pub(super) fn statement(&self, name: &[u8]) -> Known<Arc<Text>> {
        let pending = self.pending(|asked| match asked {
            Asked::Parse { name: known, text } if known == name => Some(Some(Arc::clone(text))),
            Asked::Close(Named::Statement, known) if known == name => Some(None),
            _ => None,
        });
        match pending {
            Known::Is(None) => Known::Is(self.statements.get(name).map(|text| self.sure(text))),
            Known::Is(Some(text)) => Known::Is(text.map(|text| self.sure(&text))),
            Known::Unsettled => Known::Unsettled,
        }
    }

    /// Whether messages have made a portal with a name, which SQL can fetch from as from a cursor.
    pub(super) fn has_named_portal(&self) -> bool {
        self.portals.keys().any(|name| !name.is_empty())
            || self
                .asked
                .iter()
                .any(|asked| matches!(asked, Asked::Bind { portal, .. } if !portal.is_empty()))
    }

    /// What is bound to a portal.
    pub(super) fn portal(&self, name: &[u8]) -> Known<Arc<Bound>> {
        let pending = self.pending(|asked| match asked {
            Asked::Bind { portal, bound } if portal == name => Some(Some(Arc::clone(bound))),
            Asked::Close(Named::Portal, known) if known == name => Some(None),
            _ => None,
        });
        match pending {
            Known::Is(None) => Known::Is(self.portals.get(name).map(Arc::clone)),
            Known::Is(Some(bound)) => Known::Is(bound),
            Known::Unsettled => Known::Unsettled,
        }
    }

    /// The newest message that defines something, if the target will only come to ask for it if that
    /// succeeds: since the last synchronisation. One before it may still fail, and then the name stands for
    /// what it stood for.
    fn pending<T>(&self, defines: impl Fn(&Asked) -> Option<T>) -> Known<T> {
        if self.defining == 0 {
            return Known::Is(None);
        }
        let mut is_settled = true;
        for asked in self.asked.iter().rev() {
            if matches!(
                asked,
                Asked::Sync
                    | Asked::Query(_)
                    | Asked::Refused {
                        is_simple: true,
                        ..
                    }
            ) {
                is_settled = false;
            } else if let Some(found) = defines(asked) {
                return match is_settled {
                    true => Known::Is(Some(found)),
                    false => Known::Unsettled,
                };
            }
        }
        Known::Is(None)
    }

    fn sure(&self, text: &Arc<Text>) -> Arc<Text> {
        match self.is_redefined {
            true => Arc::new(text.in_doubt()),
            false => Arc::clone(text),
        }
    }

    fn pop(&mut self) -> Option<Asked> {
        let asked = self.asked.pop_front()?;
        self.is_fed = false;
        self.defining = self
            .defining
            .saturating_sub(usize::from(is_defining(&asked)));
        Some(asked)
    }

    fn running(&mut self) -> Option<&mut Running> {
        match self.asked.front_mut()? {
            Asked::Query(running) | Asked::Execute(running) => Some(running),
            _ => None,
        }
    }

    /// Notes a row of a result.
    pub(super) fn row(&mut self, bytes: usize) -> Result<(), Unasked> {
        let running = self.running().ok_or(Unasked { kind: b'D' })?;
        running.rows = running.rows.saturating_add(1);
        running.bytes = running.bytes.saturating_add(bytes as u64);
        Ok(())
    }

    /// Notes that rows are copied, whichever way.
    pub(super) fn copying(&mut self, kind: u8) -> Result<(), Unasked> {
        // The target overlooks a synchronisation that it reads while it is fed, so that none may be waited for.
        let is_synced = self.asked.iter().any(|asked| matches!(asked, Asked::Sync));
        if kind == b'G' && is_synced {
            return Err(Unasked { kind });
        }
        self.is_fed = kind == b'G';
        let running = self.running().ok_or(Unasked { kind })?;
        running.copied = Some(Context::new(&SHA256));
        running.is_fed = kind != b'H';
        Ok(())
    }

    /// Notes a piece of what is copied. A client may go on sending after the target has given up.
    pub(super) fn copied(&mut self, piece: &[u8]) {
        if let Some(running) = self.running()
            && let Some(copied) = &mut running.copied
        {
            copied.update(piece);
            running.bytes = running.bytes.saturating_add(piece.len() as u64);
        }
    }

    /// Notes that a statement is complete.
    pub(super) fn completed(&mut self, kind: u8, tag: &str) -> Result<(), Unasked> {
        match self.asked.front_mut() {
            Some(Asked::Query(running)) => {
                if !tag.is_empty() {
                    running.completed(tag);
                }
                Ok(())
            }
            Some(Asked::Execute(_)) => {
                if let Some(Asked::Execute(mut running)) = self.pop() {
                    if !tag.is_empty() {
                        running.completed(tag);
                    }
                    running.finish();
                }
                Ok(())
            }
            _ => Err(Unasked { kind }),
        }
    }

    /// Notes the answer to a message that runs nothing.
    pub(super) fn answered(&mut self, kind: u8) -> Result<(), Unasked> {
        let fits = matches!(
            (kind, self.asked.front()),
            (b'1', Some(Asked::Parse { .. }))
                | (b'2', Some(Asked::Bind { .. }))
                | (b'3', Some(Asked::Close(..)))
                | (b'n' | b'T', Some(Asked::Describe))
        );
        if !fits {
            return Err(Unasked { kind });
        }
        match self.pop() {
            Some(Asked::Parse { name, text }) => {
                self.forget_statement(&name);
                self.statement_bytes = self.statement_bytes.saturating_add(text.len());
                self.statements.insert(name, text);
            }
            Some(Asked::Bind { portal, bound }) => {
                // Better to know none of them than to take one for another.
                if self.portals.len() >= NAMES_MAX {
                    self.portals.clear();
                }
                self.portals.insert(portal, bound);
            }
            Some(Asked::Close(Named::Statement, name)) => self.forget_statement(&name),
            Some(Asked::Close(Named::Portal, name)) => {
                self.portals.remove(&name);
            }
            _ => {}
        }
        Ok(())
    }

    fn forget_statement(&mut self, name: &[u8]) {
        if let Some(text) = self.statements.remove(name) {
            self.statement_bytes = self.statement_bytes.saturating_sub(text.len());
        }
    }

    /// Whether a description of rows belongs to a result, not to a question about one.
    pub(super) fn describes_result(&self) -> bool {
        matches!(
            self.asked.front(),
            Some(Asked::Query(_) | Asked::Execute(_))
        )
    }

    /// Notes an error.
    pub(super) fn failed(&mut self, error: &ServerError) -> Answer {
        if error.is_fatal {
            self.is_over = true;
            if let Some(running) = self.running() {
                running.record.sqlstate = Some(error.sqlstate.clone());
            }
            for asked in std::mem::take(&mut self.asked) {
                if let Asked::Query(running) | Asked::Execute(running) = asked
                    && running.record.sqlstate.is_some()
                {
                    running.finish();
                }
            }
            return Answer::Pass;
        }
        match self.asked.front_mut() {
            // The end of a transaction can fail when it is synchronised.
            None | Some(Asked::Sync) => Answer::Pass,
            Some(Asked::Query(running)) => {
                running.record.sqlstate = Some(error.sqlstate.clone());
                Answer::Pass
            }
            Some(Asked::Refused { report, is_simple }) => {
                let report = std::mem::take(report);
                if !*is_simple {
                    self.skip();
                }
                Answer::Replace(report)
            }
            Some(_) => {
                if let Some(Asked::Execute(mut running)) = self.pop() {
                    running.record.sqlstate = Some(error.sqlstate.clone());
                    running.finish();
                }
                self.skip();
                Answer::Pass
            }
        }
    }

    /// The target ignores what it has got up to the next synchronisation.
    fn skip(&mut self) {
        while !matches!(self.asked.front(), None | Some(Asked::Sync)) {
            self.pop();
        }
        self.is_skipping = self.asked.is_empty();
    }

    /// Notes that the target is ready for the next query; `status` is that of its transaction.
    pub(super) fn ready(&mut self, status: u8) -> Result<(), Unasked> {
        match self.asked.front() {
            Some(
                Asked::Sync
                | Asked::Query(_)
                | Asked::Refused {
                    is_simple: true, ..
                },
            ) => {
                if let Some(Asked::Query(running)) = self.pop() {
                    running.finish();
                }
            }
            _ => return Err(Unasked { kind: b'Z' }),
        }
        if status == b'I' {
            // They do not outlive their transaction.
            self.portals.clear();
        }
        Ok(())
    }
}

fn is_defining(asked: &Asked) -> bool {
    matches!(
        asked,
        Asked::Parse { .. } | Asked::Bind { .. } | Asked::Close(..)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statement::Shapes;

    fn parse(name: &str, sql: &str) -> Asked {
        Asked::Parse {
            name: name.into(),
            text: Arc::new(Text::of(sql.as_bytes(), "shop", &Shapes::default())),
        }
    }

    fn bind(portal: &str, statement: &str) -> Asked {
        Asked::Bind {
            portal: portal.into(),
            bound: Arc::new(Bound {
                statement: statement.into(),
                ..Bound::default()
            }),
        }
    }

    fn refused(is_simple: bool) -> Asked {
        Asked::Refused {
            report: BytesMut::from(&b"ours"[..]),
            is_simple,
        }
    }

    fn error() -> ServerError {
        ServerError {
            sqlstate: "42601".to_owned(),
            is_fatal: false,
        }
    }

    fn known(pipeline: &Pipeline, name: &str) -> String {
        match pipeline.statement(name.as_bytes()) {
            Known::Is(Some(text)) => text.operation().detail,
            Known::Is(None) => "nothing".to_owned(),
            Known::Unsettled => "unsettled".to_owned(),
        }
    }

    /// G4: a definition that may still fail is not believed, or a statement would run under another's text.
    #[test]
    fn given_a_definition_in_an_earlier_batch_then_its_name_is_settled_by_the_answer_alone() {
        let mut pipeline = Pipeline::default();
        pipeline.push(parse("a", "SELECT 1"));
        assert_eq!(
            known(&pipeline, "a"),
            "SELECT 1",
            "the same batch fails as one"
        );
        pipeline.push(Asked::Sync);
        assert_eq!(known(&pipeline, "a"), "unsettled");
        pipeline.answered(b'1').unwrap();
        assert_eq!(known(&pipeline, "a"), "SELECT 1");
        pipeline.ready(b'I').unwrap();

        pipeline.push(parse("a", "DROP TABLE item"));
        pipeline.push(Asked::Sync);
        assert_eq!(pipeline.failed(&error()), Answer::Pass);
        pipeline.ready(b'I').unwrap();
        assert_eq!(
            known(&pipeline, "a"),
            "SELECT 1",
            "what failed changed a name"
        );

        pipeline.push(Asked::Close(Named::Statement, b"a".to_vec()));
        assert_eq!(known(&pipeline, "a"), "nothing");
        pipeline.push(Asked::Sync);
        assert_eq!(known(&pipeline, "a"), "unsettled");
        pipeline.answered(b'3').unwrap();
        assert_eq!(known(&pipeline, "a"), "nothing");
    }

    /// G4: SQL can give a name another meaning, and then the evidence does not claim to know it.
    #[test]
    fn given_sql_that_prepares_then_names_are_in_doubt() {
        let mut pipeline = Pipeline::default();
        pipeline.push(parse("a", "SELECT 1"));
        pipeline.answered(b'1').unwrap();
        pipeline.redefined();
        let detail = known(&pipeline, "a");
        assert!(
            detail.starts_with("SELECT 1\n-- sallyport: as it was prepared"),
            "{detail}"
        );
    }

    /// GW-2: after an error the server ignores what it has up to the next synchronisation, and so do we.
    #[test]
    fn given_an_error_in_a_batch_then_the_rest_of_it_is_answered_by_nothing() {
        let mut pipeline = Pipeline::default();
        pipeline.push(parse("", "SELECT nonsense"));
        pipeline.push(bind("", ""));
        assert_eq!(pipeline.failed(&error()), Answer::Pass);
        // These come too late: the server ignores them as well.
        pipeline.push(Asked::Describe);
        pipeline.push(bind("late", ""));
        assert!(pipeline.is_idle());
        pipeline.push(Asked::Sync);
        pipeline.ready(b'I').unwrap();
        assert!(matches!(pipeline.portal(b"late"), Known::Is(None)));
        pipeline.push(parse("", "SELECT 1"));
        pipeline.answered(b'1').unwrap();
    }

    /// GW-2, PO-3: the answer to what was refused is ours, and only that one.
    #[test]
    fn given_a_refused_statement_then_the_servers_error_is_replaced_and_the_batch_is_over() {
        let mut pipeline = Pipeline::default();
        pipeline.push(parse("", "SELECT 1"));
        pipeline.push(refused(false));
        pipeline.push(bind("", ""));
        pipeline.push(Asked::Sync);
        pipeline.answered(b'1').unwrap();
        assert_eq!(
            pipeline.failed(&error()),
            Answer::Replace(BytesMut::from(&b"ours"[..]))
        );
        pipeline.ready(b'E').unwrap();

        pipeline.push(refused(true));
        assert_eq!(
            pipeline.failed(&error()),
            Answer::Replace(BytesMut::from(&b"ours"[..]))
        );
        pipeline.ready(b'I').unwrap();
        assert!(pipeline.is_idle());
    }

    /// A hostile target: what nobody asked for ends the session.
    #[test]
    fn given_answers_that_nobody_asked_for_then_they_are_errors() {
        let mut pipeline = Pipeline::default();
        for kind in [b'1', b'2', b'3', b'n', b'T'] {
            assert_eq!(pipeline.answered(kind), Err(Unasked { kind }));
        }
        assert!(pipeline.ready(b'I').is_err());
        assert!(pipeline.row(10).is_err());
        assert!(pipeline.copying(b'G').is_err());
        assert!(pipeline.completed(b'C', "SELECT 1").is_err());
        pipeline.push(Asked::Sync);
        assert!(pipeline.completed(b'C', "SELECT 1").is_err());
        pipeline.push(bind("", ""));
        assert!(pipeline.answered(b'2').is_err(), "out of order");
    }

    proptest! {
        /// GW-2: whatever both sides say in whatever order, counts stay what they are.
        #[test]
        fn following_anything_never_panics_and_counts_what_defines(
            steps in prop::collection::vec((0_u8..12, 0_u8..3), 0..120),
        ) {
            let mut pipeline = Pipeline::default();
            for (step, name) in steps {
                let name = char::from(b'a'.saturating_add(name)).to_string();
                match step {
                    0 => pipeline.push(parse(&name, "SELECT 1")),
                    1 => pipeline.push(bind(&name, &name)),
                    2 => pipeline.push(Asked::Close(Named::Portal, name.into())),
                    3 => pipeline.push(Asked::Describe),
                    4 => pipeline.push(Asked::Sync),
                    5 => pipeline.push(refused(name == "a")),
                    6 => drop(pipeline.answered(b'1')),
                    7 => drop(pipeline.answered(b'2')),
                    8 => drop(pipeline.answered(b'3')),
                    9 => drop(pipeline.answered(b'n')),
                    10 => drop(pipeline.failed(&error())),
                    _ => drop(pipeline.ready(b'I')),
                }
                let counted = pipeline.asked.iter().filter(|asked| is_defining(asked)).count();
                prop_assert_eq!(pipeline.defining, counted);
                let _ = pipeline.statement(b"a");
                let _ = pipeline.portal(b"b");
            }
        }
    }
}
