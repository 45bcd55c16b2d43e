//! What control has told this gateway, and how it takes effect: the key that permits verify with, the
//! authorities, the policies in force, sessions to end, and how long to go on without control.
//!
//! Called by the RPC client for every welcome, push and loss of the connection, and by the sweep.
//!
//! INVARIANT: policies that cannot be read permit nothing, and what control ended stays ended even
//! if the end overtakes the session's opening.
//!
//! Not here: the connection (`rpc`), the sessions themselves (`live`).

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use sallyport_api::gateway::{Push, Welcome};
use sallyport_core::{
    authz::{Evaluation, Permit, PermitError, PolicyEngine, PolicyError, Question, SignedPermit},
    id::{GatewayId, SessionId},
    policy::BundleHash,
    session::EndReason,
    time::Timestamp,
};

use crate::{
    live::LiveSessions,
    session::{End, SessionState},
};

/// Reads a bundle's text. In production `sallyport_policy::Bundle::from_text`.
pub type ReadBundle =
    fn(&str) -> Result<Arc<dyn PolicyEngine>, Box<dyn std::error::Error + Send + Sync>>;

/// Stands in for policies that could not be read: every question is an error, so a denial.
struct UnreadableBundle;

impl PolicyEngine for UnreadableBundle {
    fn evaluate(&self, _question: &Question) -> Result<Evaluation, PolicyError> {
        Err(PolicyError {
            bundle: BundleHash(String::new()),
            policies: Vec::new(),
            message: "the bundle in force could not be read by this gateway".to_owned(),
        })
    }
}

/// What control said last.
struct Orders {
    permit_key: Vec<u8>,
    user_authorities: Vec<String>,
    engine: Arc<dyn PolicyEngine>,
    control_grace: Duration,
}

/// Everything control has told this gateway.
pub struct Directives {
    orders: RwLock<Orders>,
    lost_since: Mutex<Option<Timestamp>>,
    live: Arc<LiveSessions>,
    read_bundle: ReadBundle,
}

impl std::fmt::Debug for Directives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directives")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl Directives {
    /// Directives before control was ever reached: no permit verifies, nothing is permitted.
    #[must_use]
    pub fn new(live: Arc<LiveSessions>, read_bundle: ReadBundle) -> Self {
        Self {
            orders: RwLock::new(Orders {
                permit_key: Vec::new(),
                user_authorities: Vec::new(),
                engine: Arc::new(UnreadableBundle),
                control_grace: Duration::ZERO,
            }),
            lost_since: Mutex::new(None),
            live,
            read_bundle,
        }
    }

    /// Applies control's welcome, at the beginning of every connection to it.
    pub fn welcomed(&self, welcome: Welcome, now: Timestamp) {
        let engine = self.read(&welcome.bundle);
        {
            let mut orders = self.orders.write().unwrap_or_else(PoisonError::into_inner);
            orders.permit_key = welcome.permit_key;
            orders.user_authorities = welcome.user_authorities;
            orders.engine = Arc::clone(&engine);
            orders.control_grace = Duration::from_secs(welcome.control_grace_s);
        }
        *self
            .lost_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        for (session_id, reason) in welcome.end_now {
            self.live.end(&session_id, End::because(reason), now);
        }
        self.live.paused_are(&welcome.paused);
        self.live.decide_again(engine.as_ref(), now);
    }

    /// Applies what control pushed.
    pub fn pushed(&self, push: Push, now: Timestamp) {
        match push {
            Push::Heartbeat => {}
            Push::EndSession {
                session_id,
                reason,
                comment,
            } => {
                self.live.end(&session_id, End { reason, comment }, now);
            }
            Push::Watched {
                session_id,
                watchers,
            } => self.at(&session_id, |session| session.watched_by(watchers, now)),
            Push::Paused { session_id, by } => {
                self.at(&session_id, |session| session.pause(by));
            }
            Push::Message {
                session_id,
                from,
                text,
            } => self.at(&session_id, |session| session.message(&from, &text)),
            Push::Typed {
                session_id,
                watcher_id,
                channel,
                keystrokes,
            } => self.at(&session_id, |session| {
                session.type_at(watcher_id, channel, keystrokes);
            }),
            Push::Bundle { bundle } => {
                let engine = self.read(&bundle);
                self.orders
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .engine = Arc::clone(&engine);
                self.live.decide_again(engine.as_ref(), now);
            }
        }
    }

    /// Does something to a session that lives here. One that is still opening misses it; control says
    /// again what holds.
    fn at(&self, session_id: &SessionId, act: impl FnOnce(&SessionState)) {
        if let Some(session) = self.live.find(session_id) {
            act(&session);
        }
    }

    /// Notes that the connection to control broke, or still is broken. Nobody is joined to a session
    /// then: who must leave could not be told.
    pub fn lost(&self, now: Timestamp) {
        self.live.unwatch_all(now);
        self.lost_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(now);
    }

    /// Ends every session whose time is over at `now`. Called several times a second.
    pub fn sweep(&self, now: Timestamp) {
        let lost_since = *self
            .lost_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let grace = self
            .orders
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .control_grace;
        if lost_since.is_some_and(|since| now >= since.plus(grace)) {
            self.live.end_all(EndReason::ControlLost, now);
        }
        self.live.sweep(now);
    }

    /// The policies in force.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn PolicyEngine> {
        Arc::clone(
            &self
                .orders
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .engine,
        )
    }

    /// OpenSSH public keys of the authorities whose user certificates prove a person.
    #[must_use]
    pub fn user_authorities(&self) -> Vec<String> {
        self.orders
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .user_authorities
            .clone()
    }

    /// Opens a permit that arrived.
    ///
    /// # Errors
    /// [`PermitError`] when control did not sign it, it is for another gateway, or it is too old.
    pub fn open_permit(
        &self,
        signed: &SignedPermit,
        gateway_id: &GatewayId,
        now: Timestamp,
    ) -> Result<Permit, PermitError> {
        let orders = self.orders.read().unwrap_or_else(PoisonError::into_inner);
        let key = UnparsedPublicKey::new(&ED25519, orders.permit_key.as_slice());
        signed.open(
            |bytes, signature| key.verify(bytes, signature).is_ok(),
            gateway_id,
            now,
        )
    }

    /// Who lives, for a hello. Counts as a roll call, so say hello with it.
    #[must_use]
    pub fn call_roll(&self) -> Vec<SessionId> {
        self.live.call_roll()
    }

    fn read(&self, bundle: &str) -> Arc<dyn PolicyEngine> {
        (self.read_bundle)(bundle).unwrap_or_else(|error| {
            tracing::error!(%error, "control sent policies that cannot be read; nothing is permitted");
            Arc::new(UnreadableBundle)
        })
    }
}

#[cfg(test)]
mod tests;
