//! Gateways connected right now, and the way to tell them something.
//!
//! INVARIANT: pushes and replies of one gateway leave through one queue, in order, so that the end of a
//! session can never overtake the reply that opened it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sallyport_api::gateway::{Entrance, FromControl, Push};
use sallyport_core::{
    id::{GatewayId, SessionId},
    session::EndReason,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::watchers::Watchers;

/// Frames waiting for one gateway. A gateway that does not read this many is disconnected.
pub(super) const QUEUE_FRAMES: usize = 4_096;

#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) connection: u64,
    pub(super) sealing_key: Vec<u8>,
    pub(super) entrances: Vec<Entrance>,
    pub(super) queue: mpsc::Sender<FromControl>,
    /// Cancelled when this connection is no longer the one to speak through; its task then hangs up.
    pub(super) gone: CancellationToken,
}

/// The gateways connected right now.
#[derive(Debug, Default)]
pub struct Live {
    gateways: Mutex<HashMap<GatewayId, Connected>>,
    next_connection: AtomicU64,
    watchers: Watchers,
    /// Held from changing who is joined, or reading it, until the gateway is told.
    order: Mutex<()>,
    pauses: tokio::sync::Mutex<()>,
}

impl Live {
    pub(super) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a gateway; a newer connection of the same gateway replaces the older, which hangs up.
    pub(super) fn connect(&self, gateway_id: GatewayId, connected: Connected) {
        if let Some(replaced) = self.lock().insert(gateway_id, connected) {
            replaced.gone.cancel();
        }
    }

    /// Forgets a gateway, unless it has connected anew; says whether it was forgotten.
    pub(super) fn disconnect(&self, gateway_id: &GatewayId, connection: u64) -> bool {
        let mut gateways = self.lock();
        let is_current = gateways
            .get(gateway_id)
            .is_some_and(|gateway| gateway.connection == connection);
        if is_current {
            gateways.remove(gateway_id);
        }
        is_current
    }

    /// The key that credentials for this gateway are sealed to.
    pub(super) fn sealing_key(&self, gateway_id: &GatewayId) -> Option<Vec<u8>> {
        self.lock()
            .get(gateway_id)
            .map(|gateway| gateway.sealing_key.clone())
    }

    /// Where the gateways that are connected take clients of `protocol`, and how they are recognised.
    pub fn entrances(&self, protocol: &str) -> Vec<Entrance> {
        self.lock()
            .values()
            .flat_map(|gateway| &gateway.entrances)
            .filter(|entrance| entrance.protocol == protocol)
            .cloned()
            .collect()
    }

    /// Tells one gateway to end a session. A gateway that is away learns of it when it is back: its
    /// list of live sessions is compared then.
    pub(super) fn end_session(
        &self,
        gateway_id: &GatewayId,
        session_id: &SessionId,
        reason: EndReason,
        comment: &str,
    ) {
        let push = Push::EndSession {
            session_id: session_id.clone(),
            reason,
            comment: comment.chars().take(1_000).collect(),
        };
        self.push(gateway_id, push);
    }

    /// Who is joined to live sessions.
    pub(super) const fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Hold this from reading whether sessions are paused until a gateway is told.
    pub(super) async fn telling_pauses(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.pauses.lock().await
    }

    /// Pushes what `push` says, no later than another that says something newer.
    pub(super) fn push_in_order(&self, gateway_id: &GatewayId, push: impl FnOnce() -> Push) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.push(gateway_id, push());
    }

    /// Pushes something that may be refused while the gateway has much to read: what a person types
    /// must not get a gateway disconnected. Says whether it is on its way.
    pub(super) fn push_if_roomy(&self, gateway_id: &GatewayId, push: Push) -> bool {
        let gateways = self.lock();
        gateways.get(gateway_id).is_some_and(|gateway| {
            gateway.queue.capacity() > QUEUE_FRAMES / 2
                && gateway.queue.try_send(FromControl::Push { push }).is_ok()
        })
    }

    pub(super) fn push(&self, gateway_id: &GatewayId, push: Push) {
        let mut gateways = self.lock();
        let Some(gateway) = gateways.get(gateway_id) else {
            return;
        };
        if gateway.queue.try_send(FromControl::Push { push }).is_err() {
            // It reads too slowly to be told what must end. Dropping it makes it reconnect and compare.
            tracing::warn!(%gateway_id, "a gateway does not read; disconnecting it");
            gateway.gone.cancel();
            gateways.remove(gateway_id);
        }
    }

    /// Tells every gateway that a new bundle is in force.
    pub fn push_bundle(&self, bundle: &str) {
        let gateways: Vec<GatewayId> = self.lock().keys().cloned().collect();
        for gateway_id in gateways {
            self.push(
                &gateway_id,
                Push::Bundle {
                    bundle: bundle.to_owned(),
                },
            );
        }
    }

    /// Drops every connection; gateways come back at once and are welcomed anew.
    pub fn disconnect_all(&self) {
        for (_, gateway) in self.lock().drain() {
            gateway.gone.cancel();
        }
    }

    /// Whether this gateway is connected.
    pub(super) fn is_connected(&self, gateway_id: &GatewayId) -> bool {
        self.lock().contains_key(gateway_id)
    }

    /// How many gateways are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<GatewayId, Connected>> {
        // A panic while holding the map leaves it whole: every change is one insert or remove.
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
