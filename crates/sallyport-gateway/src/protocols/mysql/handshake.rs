//! Who connects and to what: selector, the proof of the person, and the session that is asked for.
//!
//! A client that logs in shows nothing but the error that it ends with. So nobody waits here: whoever lacks
//! something is told what, and where to give it; a request that needs no words is made for them and stays
//! when they leave.
//!
//! INVARIANT: what follows a wrong password is the same for unknown and for forbidden, and takes as long.
//!
//! Not here: checking proofs and deciding (control, through the door).

use std::sync::Arc;

use sallyport_api::{
    gateway::{AuthenticationAnswer, ChallengeAnswer, RequestAnswer, RequestProgress},
    sensitive::Sensitive,
};
use sallyport_core::{
    authz::{Reason, Unmet},
    id::{AuthenticationId, RequestId},
    inventory::Selector,
};
use tokio::time::sleep;

use super::{
    KIND,
    client::{Client, ClientError},
    codec::Report,
    limits::REJECTION_TIME,
    login::{self, Answer},
    wording::{self, Told},
};
use crate::{
    control::ControlError,
    door::{Claim, Door, OpenOutcome, Wish},
    session::Session,
};

/// Proves who a client is and opens its session; nothing when it was told why not.
///
/// # Errors
/// [`ClientError`].
pub(super) async fn admit(
    client: &mut Client,
    answer: &Answer,
    door: &Door,
) -> Result<Option<Arc<Session>>, ClientError> {
    if !login::is_plain_collation(answer.collation) {
        return told(client, &wording::CHARACTER_SET).await;
    }
    let Ok(selector) = answer.user.parse::<Selector>() else {
        return told(client, &wording::NO_SELECTOR).await;
    };
    let Some(password) = client.password(answer).await? else {
        return Ok(None);
    };
    let rejection = sleep(REJECTION_TIME);
    let authentication_id = match prove(door, &selector, password).await {
        Ok(authentication_id) => authentication_id,
        Err(refused) => {
            // As long as any other wrong one takes.
            rejection.await;
            return told(client, &refused.report()).await;
        }
    };
    let admission = Admission {
        door,
        selector,
        authentication_id,
    };
    match admission.open().await {
        Ok(session) => Ok(Some(session)),
        Err(refused) => told(client, &refused.report()).await,
    }
}

async fn told(
    client: &mut Client,
    report: &Report<'_>,
) -> Result<Option<Arc<Session>>, ClientError> {
    client.part(report).await?;
    Ok(None)
}

/// Has a pass checked.
async fn prove(
    door: &Door,
    selector: &Selector,
    password: Vec<u8>,
) -> Result<AuthenticationId, Told> {
    let pass = Sensitive::new(String::from_utf8(password).unwrap_or_default());
    let claim = Claim {
        person: selector.person.clone(),
        adds_to: None,
    };
    let (account, target) = (selector.account.clone(), selector.target.clone());
    match door.prove_pass(claim, pass, account, target).await {
        Ok(AuthenticationAnswer::Proven {
            authentication_id, ..
        }) => Ok(authentication_id),
        Ok(AuthenticationAnswer::Refused { reason: None }) => Err(wording::NOT_PROVEN.into()),
        Ok(AuthenticationAnswer::Refused {
            reason: Some(Reason::TooManyAttempts),
        }) => Err(wording::BARRED.into()),
        Ok(AuthenticationAnswer::Refused {
            reason: Some(reason),
        }) => Err(wording::no_session(reason)),
        Err(error) => Err(unanswered(door, &error)),
    }
}

/// Control did not answer.
fn unanswered(door: &Door, error: &ControlError) -> Told {
    let connection = door.connection();
    let reason = error.reason();
    let error: &dyn std::error::Error = error;
    tracing::warn!(connection, error, "control did not answer");
    wording::no_session(reason)
}

/// Opening the session of somebody who is proven.
struct Admission<'a> {
    door: &'a Door,
    selector: Selector,
    authentication_id: AuthenticationId,
}

impl Admission<'_> {
    async fn open(&self) -> Result<Arc<Session>, Told> {
        // What is missing may be given by asking: a grant that nobody has to approve.
        match self.ask().await {
            OpenOutcome::Opened(session) => return Ok(session),
            OpenOutcome::Refused(refused) => {
                return Err(wording::denial(&self.selector, &refused));
            }
            OpenOutcome::Challenge(challenge) => self.make_up_for(challenge).await?,
        }
        match self.ask().await {
            OpenOutcome::Opened(session) => Ok(session),
            OpenOutcome::Refused(refused) => Err(wording::denial(&self.selector, &refused)),
            OpenOutcome::Challenge(challenge) => Err(wording::missing(&self.selector, &challenge)),
        }
    }

    async fn ask(&self) -> OpenOutcome {
        let (account, target) = (self.selector.account.clone(), self.selector.target.clone());
        let id = self.authentication_id.clone();
        self.door.open_session(id, KIND, account, target).await
    }

    /// Has what is missing given, where that takes neither words nor time.
    async fn make_up_for(&self, challenge: ChallengeAnswer) -> Result<(), Told> {
        let has = |wanted: fn(&Unmet) -> bool| challenge.unmet.iter().any(wanted);
        if has(|unmet| matches!(unmet, Unmet::Mfa { .. })) {
            return Err(wording::no_session(Reason::AuthenticationTooWeak));
        }
        if !challenge.unmet.contains(&Unmet::Grant) {
            return Err(wording::no_session(Reason::NotPermitted));
        }
        if let Some(request_id) = &challenge.pending_request {
            return self.look_at(request_id).await;
        }
        if has(|unmet| matches!(unmet, Unmet::Justification { .. } | Unmet::Ticket { .. })) {
            return Err(wording::missing(&self.selector, &challenge));
        }
        let wish = Wish {
            authentication_id: self.authentication_id.clone(),
            account: self.selector.account.clone(),
            target: self.selector.target.clone(),
            reason: String::new(),
            ticket: None,
            duration_s: None,
        };
        self.answered(self.door.submit_request(wish).await)
    }

    /// Whether a request that was made before has come to something.
    async fn look_at(&self, request_id: &RequestId) -> Result<(), Told> {
        // Nothing is known of it, so the answer comes at once.
        let unknown = RequestProgress::Ended {
            reason: Reason::RequestEnded,
            comment: String::new(),
        };
        let id = self.authentication_id.clone();
        let answer = self.door.await_request(id, request_id.clone(), unknown);
        self.answered(answer.await)
    }

    fn answered(&self, answer: Result<RequestAnswer, ControlError>) -> Result<(), Told> {
        match answer {
            Ok(RequestAnswer::Progress {
                progress: RequestProgress::Granted { .. },
                ..
            }) => Ok(()),
            Ok(RequestAnswer::Progress {
                request_id,
                progress,
            }) => Err(wording::waiting(&request_id, &progress)),
            Ok(RequestAnswer::Challenge(challenge)) => {
                Err(wording::missing(&self.selector, &challenge))
            }
            Ok(RequestAnswer::Refused(refused)) => Err(wording::denial(&self.selector, &refused)),
            Err(error) => Err(unanswered(self.door, &error)),
        }
    }
}
