//! The channels of one client's connection, as its callbacks see them: an inbox each, and what was asked
//! so far.
//!
//! INVARIANT: their number is bounded, at one time and over the connection's life; when the connection is
//! over, every inbox is closed.

use std::{collections::HashMap, sync::Arc};

use russh::ChannelId;

use crate::protocols::ssh::{
    channel::ClientInbox,
    client_end::ClientMeeting,
    flow::{Backlog, CROWDED_BYTES},
    limits::{CHANNELS_EVER_MAX, CHANNELS_MAX, FORWARDS_FROM_CLIENT_MAX},
};

/// One channel.
pub(super) struct Open {
    pub(super) inbox: Arc<ClientInbox>,
    purpose: Purpose,
}

/// What a channel is for.
pub(super) enum Purpose {
    /// Something to launch.
    Session(Orders),
    /// A connection that the client forwards.
    Forward,
    /// A connection that the target forwards.
    FromTarget,
}

impl Purpose {
    /// A channel on which nothing was asked yet.
    pub(super) fn session() -> Self {
        Self::Session(Orders::default())
    }
}

/// What was asked on a session channel so far.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) has_pty: bool,
    pub(super) has_agent: bool,
    pub(super) is_launched: bool,
    env: usize,
}

impl Orders {
    /// Counts one more environment variable. How many there were before.
    pub(super) const fn count_env(&mut self) -> usize {
        let before = self.env;
        self.env = before.saturating_add(1);
        before
    }
}

/// Every channel of one connection.
pub(super) struct Ports {
    channels: HashMap<ChannelId, Open>,
    meeting: Arc<ClientMeeting>,
    opened: u32,
}

impl Ports {
    pub(super) fn new(meeting: Arc<ClientMeeting>) -> Self {
        Self {
            channels: HashMap::new(),
            meeting,
            opened: 0,
        }
    }

    /// A channel that the client opens; nothing when it has enough.
    pub(super) fn open(&mut self, id: ChannelId, purpose: Purpose) -> Option<Arc<ClientInbox>> {
        // A channel that its task closed first is not announced as closed again.
        self.channels
            .retain(|_, open| Arc::strong_count(&open.inbox) > 1);
        self.opened = self.opened.saturating_add(1);
        let of_session = self
            .channels
            .values()
            .filter(|open| matches!(open.purpose, Purpose::Session(_)))
            .count();
        let is_full = match purpose {
            Purpose::Session(_) => of_session >= CHANNELS_MAX,
            // Each channel brings a window of bytes that it may send before anybody can hold it back.
            Purpose::Forward | Purpose::FromTarget => {
                self.channels.len().saturating_sub(of_session) >= FORWARDS_FROM_CLIENT_MAX
                    || self.waiting_bytes() > CROWDED_BYTES / 2
            }
        };
        if is_full || self.opened > CHANNELS_EVER_MAX {
            return None;
        }
        let inbox = Arc::<ClientInbox>::default();
        let open = Open {
            inbox: Arc::clone(&inbox),
            purpose,
        };
        self.channels.insert(id, open);
        Some(inbox)
    }

    /// The client confirmed a channel that was opened to it.
    pub(super) fn confirmed(&mut self, id: ChannelId) {
        if self.channels.contains_key(&id) {
            return;
        }
        let open = Open {
            inbox: self.meeting.meet(id),
            purpose: Purpose::FromTarget,
        };
        self.channels.insert(id, open);
    }

    pub(super) fn of(&self, id: ChannelId) -> Option<&Open> {
        self.channels.get(&id)
    }

    /// What was asked on a session channel; nothing for any other.
    pub(super) fn session(&mut self, id: ChannelId) -> Option<&mut Orders> {
        match &mut self.channels.get_mut(&id)?.purpose {
            Purpose::Session(orders) => Some(orders),
            Purpose::Forward | Purpose::FromTarget => None,
        }
    }

    /// Nothing more will arrive on a channel.
    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(open) = self.channels.remove(&id) {
            open.inbox.close();
        }
    }

    /// What waits, around one channel.
    pub(super) fn backlog(&self, id: ChannelId) -> Backlog {
        let own = self.of(id).map_or(0, |open| open.inbox.backlog_bytes());
        let all = self.channels.values();
        Backlog::new(own, all.map(|open| open.inbox.backlog_bytes()))
    }

    fn waiting_bytes(&self) -> usize {
        let all = self.channels.values();
        all.map(|open| open.inbox.backlog_bytes())
            .fold(0, usize::saturating_add)
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        for open in self.channels.values() {
            open.inbox.close();
        }
    }
}
