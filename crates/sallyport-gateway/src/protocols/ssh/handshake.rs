//! Who connects and to what: the selector, proofs of the person, and the session that is asked for.
//!
//! The visitor's callbacks ask; each answer is what SSH says next.
//!
//! INVARIANT: all state belongs to one user name on one connection; another name starts from nothing
//! (security class A9). Nothing is proven by an offer, and a second factor counts only for the person
//! of the first.
//!
//! Not here: checking proofs and deciding (control, through the door), prompts (`keyboard`), channels
//! (`visitor`).

mod keyboard;

use std::sync::Arc;

use russh::server::Auth;
use sallyport_api::gateway::{AuthenticationAnswer, Refused};
use sallyport_core::{
    authz::Reason,
    id::{AuthenticationId, RequestId},
    inventory::{Selector, TargetName},
    principal::PersonName,
};

use self::keyboard::{Stage, go_on_at_keyboard};
use super::{KIND, wording};
use crate::{
    control::ControlError,
    door::{Claim, Door, OpenOutcome},
    session::Session,
};

/// Whether the person is let in. A refused one is let in as far as to read why.
#[derive(Clone, Debug)]
pub(super) enum Admission {
    /// A session is open.
    Opened(Arc<Session>),
    /// There is none, and this is why.
    Denied(Arc<str>),
    /// There is none because no target was named, and this says so; the person may jump to one.
    Jumping(Arc<str>),
}

/// Proof of a person.
#[derive(Clone, Debug)]
struct Proof {
    authentication_id: AuthenticationId,
    person: PersonName,
    has_code: bool,
}

/// The login of one user name on one connection.
pub(super) struct Login {
    door: Arc<Door>,
    /// The target that the way the client came has named.
    towards: Option<TargetName>,
    user: String,
    selector: Option<Selector>,
    proof: Option<Proof>,
    stage: Stage,
    rounds: u32,
    /// Why the last proof failed, where that may be told.
    trouble: Option<Reason>,
    /// A request made on this connection that nobody else waits for.
    own_request: Option<(AuthenticationId, RequestId)>,
    admission: Option<Admission>,
}

impl Login {
    pub(super) fn new(door: Arc<Door>, towards: Option<TargetName>) -> Self {
        Self {
            door,
            towards,
            user: String::new(),
            selector: None,
            proof: None,
            stage: Stage::Start,
            rounds: 0,
            trouble: None,
            own_request: None,
            admission: None,
        }
    }

    /// What came of it, once authentication is accepted.
    pub(super) const fn admission(&self) -> Option<&Admission> {
        self.admission.as_ref()
    }

    /// Whether the person is let in to jump to a target.
    pub(super) const fn may_jump(&self) -> bool {
        matches!(self.admission, Some(Admission::Jumping(_)))
    }

    /// Turns to `user`. Another name than before starts from nothing.
    fn turn_to(&mut self, user: &str) {
        if self.user == user && !matches!(self.stage, Stage::Parted) {
            return;
        }
        self.take_request_back();
        user.clone_into(&mut self.user);
        self.selector = match &self.towards {
            Some(target) => Selector::towards(target, user).ok(),
            None => user.parse().ok(),
        };
        self.proof = None;
        self.stage = Stage::Start;
        self.admission = None;
    }

    fn claim(&self) -> Claim {
        Claim {
            person: self.selector.as_ref().and_then(|one| one.person.clone()),
            adds_to: None,
        }
    }

    /// Whether nothing but a name was said: it is no selector, and no target is known from elsewhere.
    fn is_bare_name(&self) -> bool {
        self.towards.is_none() && !self.user.is_empty() && !self.user.contains(['@', ':'])
    }

    /// As [`Login::claim`], for what is typed: it proves only somebody who is named. A bare name is the
    /// person's then; where a key says who it is, it may be any, as clients send their local one.
    fn typed_claim(&self) -> Claim {
        match self.is_bare_name() {
            true => Claim {
                person: self.user.parse().ok(),
                adds_to: None,
            },
            false => self.claim(),
        }
    }

    /// A key whose signature verified.
    pub(super) async fn by_key(&mut self, user: &str, public_key: String) -> Auth {
        self.turn_to(user);
        let answer = self.door.prove_ssh_key(self.claim(), public_key).await;
        self.proven_by_key(answer).await
    }

    /// A certificate whose key's signature verified.
    pub(super) async fn by_certificate(&mut self, user: &str, certificate: String) -> Auth {
        self.turn_to(user);
        let answer = self
            .door
            .prove_ssh_certificate(self.claim(), certificate)
            .await;
        self.proven_by_key(answer).await
    }

    async fn proven_by_key(&mut self, answer: Result<AuthenticationAnswer, ControlError>) -> Auth {
        // A new first factor replaces everything that rested on another.
        self.proof = None;
        self.stage = Stage::Start;
        if !self.is_proven(answer, false) {
            return Auth::reject();
        }
        self.open(false).await
    }

    fn is_proven(
        &mut self,
        answer: Result<AuthenticationAnswer, ControlError>,
        has_code: bool,
    ) -> bool {
        match answer {
            Ok(AuthenticationAnswer::Proven {
                authentication_id,
                person,
                ..
            }) => {
                self.proof = Some(Proof {
                    authentication_id,
                    person,
                    has_code,
                });
                true
            }
            Ok(AuthenticationAnswer::Refused { reason }) => {
                self.trouble = reason;
                false
            }
            Err(error) => {
                self.trouble = Some(error.reason());
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    connection = self.door.connection(),
                    error,
                    "a proof could not be checked"
                );
                false
            }
        }
    }

    /// Asks for the session. `at_keyboard`: a conversation is going on.
    async fn open(&mut self, at_keyboard: bool) -> Auth {
        let (Some(proof), Some(selector)) = (self.proof.clone(), self.selector.clone()) else {
            let refused = Refused {
                reasons: vec![Reason::SelectorInvalid],
                reference: String::new(),
            };
            let auth = self.deny(&refused);
            if self.proof.is_some()
                && self.is_bare_name()
                && let Some(Admission::Denied(denial)) = self.admission.take()
            {
                self.admission = Some(Admission::Jumping(denial));
            }
            return auth;
        };
        let outcome = self
            .door
            .open_session(
                proof.authentication_id,
                KIND,
                selector.account,
                selector.target,
            )
            .await;
        match outcome {
            OpenOutcome::Opened(session) => {
                self.own_request = None;
                self.admission = Some(Admission::Opened(session));
                Auth::Accept
            }
            OpenOutcome::Refused(refused) => self.deny(&refused),
            OpenOutcome::Challenge(challenge) if at_keyboard => Box::pin(self.ask(challenge)).await,
            OpenOutcome::Challenge(challenge) => {
                self.stage = Stage::Challenged(challenge);
                go_on_at_keyboard(true)
            }
        }
    }

    /// Lets the person in as far as to read why not.
    fn deny(&mut self, refused: &Refused) -> Auth {
        self.take_request_back();
        let denial = wording::denial(self.selector.as_ref(), refused);
        self.admission = Some(Admission::Denied(denial.into()));
        Auth::Accept
    }

    /// The person left or turned elsewhere: nobody waits for the request any more.
    fn take_request_back(&mut self) {
        let Some((authentication_id, request_id)) = self.own_request.take() else {
            return;
        };
        let door = Arc::clone(&self.door);
        // Dropped handle: the call goes on by itself, tracked.
        drop(self.door.spawn("take a request back", async move {
            if let Err(error) = door
                .cancel_request(authentication_id, request_id.clone())
                .await
            {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(%request_id, error, "a request could not be taken back");
            }
        }));
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.take_request_back();
    }
}
