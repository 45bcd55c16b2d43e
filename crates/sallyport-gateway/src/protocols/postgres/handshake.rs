//! Who connects and to what: version, selector, the proof of the person, and the session that is asked for.
//!
//! A stock client shows notices once authentication has succeeded, so a person for whom something is
//! missing is told that their proof was accepted, reads what is missing and where to give it, and waits;
//! the target hears nothing meanwhile.
//!
//! INVARIANT: the password that is asked for is a pass, and is asked for inside TLS only; what follows is
//! the same for unknown and for forbidden.
//!
//! Not here: checking proofs and deciding (control, through the door).

use std::{pin::pin, sync::Arc};

use bytes::{BufMut as _, BytesMut};
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
    super::wording as words,
    KIND,
    client::{self, Client, ClientError},
    codec::{self, Body, CodecError, Report, Startup},
    limits::{
        CONTROL_SILENT_MAX, GRANT_LOOK_EVERY, PASSWORD_BYTES_MAX, REJECTION_TIME,
        WAITING_LINE_EVERY,
    },
    startup::{self, Wanted},
    wording,
};
use crate::{
    control::ControlError,
    door::{Claim, Door, OpenOutcome, Wish},
    session::Session,
};

/// The newest version that is spoken: 3.2.
const NEWEST_MINOR: u16 = 2;

/// Somebody with a session, who has not heard of it yet.
pub(super) struct Admitted {
    pub(super) client: Box<Client>,
    pub(super) session: Arc<Session>,
    pub(super) wanted: Wanted,
    /// Whether a cancel key may be long.
    pub(super) is_newer: bool,
    /// Whether the client knows that its proof was accepted.
    pub(super) is_told: bool,
}

/// Proves who a client is and opens its session; nothing when it was told why not.
///
/// # Errors
/// [`ClientError`].
pub(super) async fn admit(
    mut client: Box<Client>,
    startup: Startup,
    door: &Arc<Door>,
) -> Result<Option<Admitted>, ClientError> {
    if startup.major != 3 {
        client.part(&wording::OTHER_VERSION).await?;
        return Ok(None);
    }
    let minor = if startup.minor >= NEWEST_MINOR {
        NEWEST_MINOR
    } else {
        0
    };
    negotiate(&mut client, &startup, minor).await?;
    let selector: Option<Selector> = startup.parameter("user").and_then(|user| user.parse().ok());
    let Some(selector) = selector else {
        client.part(&wording::NO_SELECTOR).await?;
        return Ok(None);
    };
    let wanted = match startup::wanted(&startup, selector.account.as_str()) {
        Ok(wanted) => wanted,
        Err(error) => {
            let report = Report {
                severity: "FATAL",
                code: "22023",
                message: &format!("sallyport: {error}"),
                detail: None,
                hint: Some(
                    "what a session needs beyond that is set in it, by SET, where policy permits it",
                ),
            };
            client.part(&report).await?;
            return Ok(None);
        }
    };
    let Some(authentication_id) = prove(&mut client, door, &selector).await? else {
        return Ok(None);
    };
    let admission = Admission {
        door: Arc::clone(door),
        client,
        selector,
        authentication_id,
        own_request: None,
        is_told: false,
        has_pointed: false,
    };
    let Some((client, session, is_told)) = admission.open().await? else {
        return Ok(None);
    };
    Ok(Some(Admitted {
        client,
        session,
        wanted,
        is_newer: minor == NEWEST_MINOR,
        is_told,
    }))
}

/// Says which version and which of its options are spoken, if not those that were asked for.
async fn negotiate(client: &mut Client, startup: &Startup, minor: u16) -> Result<(), ClientError> {
    let unknown: Vec<&str> = startup
        .parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    if startup.minor == minor && unknown.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(unknown.len()).map_err(|_| CodecError::TooLong)?;
    let mut out = BytesMut::new();
    codec::message(&mut out, b'v', |body| {
        body.put_u16(3);
        body.put_u16(minor);
        body.put_u32(count);
        for name in unknown {
            codec::put_text(body, name);
        }
    })?;
    client.send(&out).await
}

/// Asks for a pass and has it checked; nothing when the client was told that it proves nobody.
async fn prove(
    client: &mut Box<Client>,
    door: &Door,
    selector: &Selector,
) -> Result<Option<AuthenticationId>, ClientError> {
    const CLEARTEXT_PASSWORD: u32 = 3;
    let mut out = BytesMut::new();
    client::put_authentication(&mut out, CLEARTEXT_PASSWORD)?;
    client.send(&out).await?;
    let Some((kind, message)) = client.next(PASSWORD_BYTES_MAX).await? else {
        return Ok(None);
    };
    if kind != b'p' {
        return Err(ClientError::Unexpected {
            kind: char::from(kind),
        });
    }
    let rejection = sleep(REJECTION_TIME);
    let mut body = Body::of(&message);
    let pass = Sensitive::new(body.utf8().unwrap_or_default().to_owned());
    let claim = Claim {
        person: selector.person.clone(),
        adds_to: None,
    };
    let (account, target) = (selector.account.clone(), selector.target.clone());
    let reason = match door.prove_pass(claim, pass, account, target).await {
        Ok(AuthenticationAnswer::Proven {
            authentication_id, ..
        }) => return Ok(Some(authentication_id)),
        Ok(AuthenticationAnswer::Refused { reason }) => reason,
        Err(error) => {
            warn(door, &error);
            Some(error.reason())
        }
    };
    // As long as any other wrong one takes.
    rejection.await;
    let mut out = BytesMut::new();
    match reason {
        None => wording::NOT_PROVEN.put(&mut out)?,
        Some(Reason::TooManyAttempts) => wording::BARRED.put(&mut out)?,
        Some(reason) => wording::put_fatal(&mut out, reason)?,
    }
    client.send(&out).await?;
    Ok(None)
}

fn warn(door: &Door, error: &ControlError) {
    let connection = door.connection();
    let error: &dyn std::error::Error = error;
    tracing::warn!(connection, error, "control did not answer");
}

/// Opening the session of somebody who is proven.
struct Admission {
    door: Arc<Door>,
    client: Box<Client>,
    selector: Selector,
    authentication_id: AuthenticationId,
    /// A request made on this connection that nobody else waits for.
    own_request: Option<RequestId>,
    is_told: bool,
    /// Whether the person knows where to ask.
    has_pointed: bool,
}

/// What to do next.
enum Next {
    /// Ask for the session again.
    Open,
    /// The client was told why not.
    Part,
}

impl Admission {
    async fn open(mut self) -> Result<Option<(Box<Client>, Arc<Session>, bool)>, ClientError> {
        let opened = self.open_when_possible().await;
        match opened {
            Ok(Some(session)) => Ok(Some((self.client, session, self.is_told))),
            Ok(None) => {
                self.take_request_back();
                Ok(None)
            }
            Err(error) => {
                self.take_request_back();
                Err(error)
            }
        }
    }

    async fn open_when_possible(&mut self) -> Result<Option<Arc<Session>>, ClientError> {
        loop {
            let outcome = self
                .door
                .open_session(
                    self.authentication_id.clone(),
                    KIND,
                    self.selector.account.clone(),
                    self.selector.target.clone(),
                )
                .await;
            match outcome {
                OpenOutcome::Opened(session) => return Ok(Some(session)),
                OpenOutcome::Refused(refused) => {
                    let mut out = BytesMut::new();
                    wording::put_denial(&mut out, &self.selector, &refused)?;
                    self.client.send(&out).await?;
                    return Ok(None);
                }
                OpenOutcome::Challenge(challenge) => match self.make_up_for(challenge).await? {
                    Next::Open => {}
                    Next::Part => return Ok(None),
                },
            }
        }
    }

    /// Has what is missing given, as far as that is possible from here.
    async fn make_up_for(&mut self, challenge: ChallengeAnswer) -> Result<Next, ClientError> {
        let has = |wanted: fn(&Unmet) -> bool| challenge.unmet.iter().any(wanted);
        if has(|unmet| matches!(unmet, Unmet::Mfa { .. })) {
            return self.refuse(Reason::AuthenticationTooWeak).await;
        }
        if !challenge.unmet.contains(&Unmet::Grant) {
            return self.refuse(Reason::NotPermitted).await;
        }
        if let Some(request_id) = challenge.pending_request.clone() {
            self.tell(&words::challenge(&self.selector, &challenge))
                .await?;
            return self.wait_for(request_id, None).await;
        }
        let needs_words =
            has(|unmet| matches!(unmet, Unmet::Justification { .. } | Unmet::Ticket { .. }));
        if needs_words {
            return self.point_to_asking(&challenge).await;
        }
        let wish = Wish {
            authentication_id: self.authentication_id.clone(),
            account: self.selector.account.clone(),
            target: self.selector.target.clone(),
            reason: String::new(),
            ticket: None,
            duration_s: None,
        };
        match self.door.submit_request(wish).await {
            Ok(RequestAnswer::Progress {
                request_id,
                progress,
            }) => {
                self.own_request = Some(request_id.clone());
                self.wait_for(request_id, Some(progress)).await
            }
            Ok(RequestAnswer::Challenge(challenge)) => self.point_to_asking(&challenge).await,
            Ok(RequestAnswer::Refused(refused)) => {
                let mut out = BytesMut::new();
                wording::put_denial(&mut out, &self.selector, &refused)?;
                self.client.send(&out).await?;
                Ok(Next::Part)
            }
            Err(error) => {
                warn(&self.door, &error);
                self.refuse(error.reason()).await
            }
        }
    }

    /// Nobody can type a reason here: says where to ask, and looks for what comes of it.
    async fn point_to_asking(&mut self, challenge: &ChallengeAnswer) -> Result<Next, ClientError> {
        if !self.has_pointed {
            self.has_pointed = true;
            let text = format!(
                "{}\nsallyport: ask for it in another terminal, this connection waits: sallyport request \
                 create {}@{} --reason '...'",
                words::challenge(&self.selector, challenge),
                self.selector.account,
                self.selector.target,
            );
            self.tell(&text).await?;
        }
        tokio::select! {
            () = sleep(GRANT_LOOK_EVERY) => Ok(Next::Open),
            left = self.client.left() => Err(left),
        }
    }

    /// Waits until a request stands otherwise than waiting.
    async fn wait_for(
        &mut self,
        request_id: RequestId,
        known: Option<RequestProgress>,
    ) -> Result<Next, ClientError> {
        let mut silent = 0;
        let mut seen = known.clone().unwrap_or(RequestProgress::Ended {
            // Nothing is known of it, so the first answer comes at once.
            reason: Reason::RequestEnded,
            comment: String::new(),
        });
        let mut news = known;
        let mut quiet = pin!(sleep(WAITING_LINE_EVERY));
        loop {
            if let Some(progress) = news.take() {
                self.tell(&words::progress(&request_id, &progress)).await?;
                quiet.set(sleep(WAITING_LINE_EVERY));
                match progress {
                    RequestProgress::Granted { .. } => {
                        self.own_request = None;
                        return Ok(Next::Open);
                    }
                    RequestProgress::Ended { reason, .. } => {
                        self.own_request = None;
                        return self.refuse(reason).await;
                    }
                    RequestProgress::Waiting { .. } => seen = progress,
                }
            }
            let answer = self.door.await_request(
                self.authentication_id.clone(),
                request_id.clone(),
                seen.clone(),
            );
            let answer = tokio::select! {
                answer = answer => Some(answer),
                () = &mut quiet => None,
                left = self.client.left() => return Err(left),
            };
            match answer {
                None => news = Some(seen.clone()),
                Some(Ok(RequestAnswer::Progress { progress, .. })) => {
                    silent = 0;
                    news = (progress != seen).then_some(progress);
                }
                Some(Ok(RequestAnswer::Challenge(_))) => return Ok(Next::Open),
                Some(Ok(RequestAnswer::Refused(refused))) => {
                    let reason = refused.reasons.first().copied();
                    return self.refuse(reason.unwrap_or(Reason::NotPermitted)).await;
                }
                Some(Err(error)) => {
                    // Control may be restarting; the request is still there.
                    silent += 1;
                    if silent > CONTROL_SILENT_MAX {
                        return self.refuse(error.reason()).await;
                    }
                    sleep(GRANT_LOOK_EVERY).await;
                }
            }
        }
    }

    /// Says something to the person, who is let in so far as to hear it.
    async fn tell(&mut self, text: &str) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        if !self.is_told {
            self.is_told = true;
            client::put_authentication(&mut out, 0)?;
        }
        wording::put_notices(&mut out, text)?;
        self.client.send(&out).await
    }

    async fn refuse(&mut self, reason: Reason) -> Result<Next, ClientError> {
        let mut out = BytesMut::new();
        wording::put_fatal(&mut out, reason)?;
        self.client.send(&out).await?;
        Ok(Next::Part)
    }

    /// The person left: nobody waits for the request any more.
    fn take_request_back(&mut self) {
        let Some(request_id) = self.own_request.take() else {
            return;
        };
        let (door, id) = (Arc::clone(&self.door), self.authentication_id.clone());
        // Dropped handle: the call goes on by itself, tracked.
        drop(self.door.spawn("take a request back", async move {
            if let Err(error) = door.cancel_request(id, request_id).await {
                warn(&door, &error);
            }
        }));
    }
}
