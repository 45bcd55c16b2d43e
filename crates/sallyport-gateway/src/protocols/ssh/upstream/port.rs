//! Where what arrives on one connection to the target goes: an inbox for each channel.
//!
//! INVARIANT: putting in never waits; while too much waits, the connection is not read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use russh::ChannelId;
use tokio_util::sync::CancellationToken;

use super::{Stream, TargetEvent, TargetInbox, UpstreamError};
use crate::protocols::ssh::{
    flow::{CROWDED_BYTES, HELD_BACK_BYTES, Valve},
    meeting::Meeting,
};

/// The inboxes of one connection's channels.
#[derive(Debug, Default)]
pub(super) struct Port {
    channels: Mutex<HashMap<ChannelId, Arc<TargetInbox>>>,
    opened: Meeting<Stream, TargetEvent>,
    pub(super) valve: Valve,
    lost: CancellationToken,
}

impl Port {
    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<TargetInbox>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many channels it serves.
    pub(super) fn count(&self) -> usize {
        self.channels().len()
    }

    /// Whether so much waits that the connection must not be read.
    pub(super) fn is_full(&self) -> bool {
        let channels = self.channels();
        let waiting_bytes = channels
            .values()
            .map(|inbox| inbox.backlog_bytes())
            .fold(0, usize::saturating_add);
        match channels.len() {
            0 | 1 => waiting_bytes > HELD_BACK_BYTES,
            _ => waiting_bytes > CROWDED_BYTES,
        }
    }

    /// The inbox of a channel that we opened, for its task.
    pub(super) fn meet(&self, id: ChannelId) -> Arc<TargetInbox> {
        let inbox = self.opened.meet(id);
        self.channels()
            .entry(id)
            .or_insert_with(|| Arc::clone(&inbox));
        inbox
    }

    /// The target confirmed a channel that we opened.
    pub(super) fn confirmed(&self, id: ChannelId) {
        let inbox = self.opened.meet(id);
        self.channels().entry(id).or_insert(inbox);
    }

    /// A channel that the target opens.
    pub(super) fn expect(&self, id: ChannelId) -> Arc<TargetInbox> {
        let inbox = Arc::<TargetInbox>::default();
        self.channels().insert(id, Arc::clone(&inbox));
        inbox
    }

    pub(super) fn put_content(&self, id: ChannelId, stream: Stream, bytes: &[u8]) {
        if let Some(inbox) = self.channels().get(&id) {
            inbox.put_content(stream, bytes);
        }
        if self.is_full() {
            self.valve.close();
        }
    }

    pub(super) fn relieve(&self) {
        if !self.is_full() {
            self.valve.open();
        }
    }

    pub(super) fn put_event(&self, id: ChannelId, event: TargetEvent) -> Result<(), UpstreamError> {
        match self.channels().get(&id) {
            Some(inbox) => inbox.put_event(event).map_err(UpstreamError::Overrun),
            None => Ok(()),
        }
    }

    /// Nothing more will arrive on a channel.
    pub(super) fn close(&self, id: ChannelId) {
        if let Some(inbox) = self.channels().remove(&id) {
            inbox.close();
        }
    }

    /// Nothing more will arrive at all.
    pub(super) fn close_all(&self) {
        self.lost.cancel();
        for (_, inbox) in self.channels().drain() {
            inbox.close();
        }
    }

    /// Whether the connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Resolves when the connection is gone.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
