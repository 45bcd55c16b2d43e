//! Who is joined to which live session right now. In memory only: who is joined is so through a stream
//! of this process.
//!
//! INVARIANT: the number for one session is bounded, and a [`Seat`] that is dropped, also by a panic,
//! frees the place and tells the gateway.
//!
//! Not here: who may join and for how long (`join`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sallyport_api::gateway::Push;
use sallyport_core::{
    id::{GatewayId, PersonId, SessionId, WatcherId},
    session::oversight::{WATCHERS_MAX, Watcher},
};
use tokio::sync::Notify;

use super::store::SessionRow;
use crate::kernel::control::Control;

/// The people joined to live sessions.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    sessions: Mutex<HashMap<SessionId, Vec<Place>>>,
}

#[derive(Debug)]
struct Place {
    watcher: Watcher,
    /// Rings when they are heard of.
    heard: Arc<Notify>,
}

impl Watchers {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Vec<Place>>> {
        // A panic while holding the map leaves it whole: every change is one insert or remove.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is joined to a session.
    pub(super) fn of(&self, session_id: &SessionId) -> Vec<Watcher> {
        self.sessions()
            .get(session_id)
            .map(|places| places.iter().map(|place| place.watcher.clone()).collect())
            .unwrap_or_default()
    }

    /// Notes that somebody is still there; says who, if they are joined and it is them.
    pub(super) fn heard(
        &self,
        session_id: &SessionId,
        watcher_id: &WatcherId,
        person_id: &PersonId,
    ) -> Option<Watcher> {
        let sessions = self.sessions();
        let place = sessions
            .get(session_id)?
            .iter()
            .find(|place| place.watcher.id == *watcher_id)?;
        if place.watcher.person_id != *person_id {
            return None;
        }
        place.heard.notify_one();
        Some(place.watcher.clone())
    }

    fn push(&self, session_id: &SessionId) -> Push {
        Push::Watched {
            session_id: session_id.clone(),
            watchers: self.of(session_id),
        }
    }
}

/// A place at a session. Dropping it leaves.
pub(super) struct Seat {
    control: Control,
    gateway_id: GatewayId,
    session_id: SessionId,
    watcher_id: WatcherId,
    heard: Arc<Notify>,
}

impl Seat {
    /// Takes a place and tells the gateway; nothing when there is none left.
    pub(super) fn take(control: &Control, session: &SessionRow, watcher: Watcher) -> Option<Self> {
        let heard = Arc::new(Notify::new());
        let watcher_id = watcher.id.clone();
        {
            let mut sessions = control.live().watchers().sessions();
            let places = sessions.entry(session.id.clone()).or_default();
            if places.len() >= WATCHERS_MAX {
                return None;
            }
            places.push(Place {
                watcher,
                heard: Arc::clone(&heard),
            });
        }
        let seat = Self {
            control: control.clone(),
            gateway_id: session.gateway_id.clone(),
            session_id: session.id.clone(),
            watcher_id,
            heard,
        };
        tell(control, &seat.gateway_id, &seat.session_id);
        Some(seat)
    }

    /// Resolves when who sits here was heard of since the last time.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut sessions = self.control.live().watchers().sessions();
            if let Some(places) = sessions.get_mut(&self.session_id) {
                places.retain(|place| place.watcher.id != self.watcher_id);
                if places.is_empty() {
                    sessions.remove(&self.session_id);
                }
            }
        }
        tell(&self.control, &self.gateway_id, &self.session_id);
    }
}

/// Tells a gateway who is joined to a session, in the order in which that changes.
pub(super) fn tell(control: &Control, gateway_id: &GatewayId, session_id: &SessionId) {
    let live = control.live();
    live.push_in_order(gateway_id, || live.watchers().push(session_id));
}
