//! Where a task that opened a channel and the callbacks that hear from it agree on the channel's inbox.
//!
//! The other side may send the moment it has confirmed a channel, before the task that asked for it
//! runs again: whoever comes first makes the inbox, the other one finds it.
//!
//! INVARIANT: each channel is met twice, once by its task and once by the callback of its confirmation,
//! and both have the same inbox.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use russh::ChannelId;

use super::inbox::Inbox;

/// The inboxes that one of the two waits for.
#[derive(Debug)]
pub(super) struct Meeting<S, E>(Mutex<HashMap<ChannelId, Arc<Inbox<S, E>>>>);

impl<S, E> Default for Meeting<S, E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S, E> Meeting<S, E> {
    /// The inbox of a channel, for whoever comes.
    pub(super) fn meet(&self, id: ChannelId) -> Arc<Inbox<S, E>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = waiting.remove(&id) {
            return inbox;
        }
        let inbox = Arc::<Inbox<S, E>>::default();
        waiting.insert(id, Arc::clone(&inbox));
        inbox
    }
}
