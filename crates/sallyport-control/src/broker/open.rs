//! Opening a session: load facts, decide, record with the lease intent, issue, reply.
//!
//! INVARIANT: two commits, one before and one after the credential is made. The first holds the lease
//! intent, so a crash in between leaves nothing that the sweep does not find.

use std::net::IpAddr;

use sallyport_api::gateway::{
    CallError, ChallengeAnswer, Credential, OpenSession, Opened, Refused, Reply,
};
use sallyport_core::{
    authz::{Authorisation, Decision, Permit, PermitIds, Reason, Trace, decide},
    event::{Actor, Event, EventName, Events},
    id::{AuthenticationId, GatewayId, LeaseId, PermitId, RecordingId, SessionId},
    lease::Lease,
    session::EndReason,
    time::Timestamp,
};
use sallyport_vault::lease;

use super::{
    rpc::{fault, store_fault},
    seal,
    store::{self, lease as lease_store},
};
use crate::{
    access::{
        self,
        facts::{self, Asker, Facts},
        workflow::decision_fields,
    },
    authn,
    kernel::{control::Control, database::StoreError, ids},
    secret,
};

/// A proof as a gateway names it.
#[derive(Clone, Copy, Debug)]
pub struct ProofRef<'a> {
    /// The gateway.
    pub gateway_id: &'a GatewayId,
    /// Its connection.
    pub connection: u64,
    /// The proof.
    pub authentication_id: &'a AuthenticationId,
}

/// The person behind a proof, or the reply that refuses.
pub(super) fn asker(control: &Control, proof: &ProofRef<'_>, ip: IpAddr) -> Result<Asker, Reply> {
    match authn::proof(
        control,
        proof.gateway_id,
        proof.connection,
        proof.authentication_id,
    ) {
        Some((person_id, authentication)) => Ok(Asker {
            person_id,
            authentication,
            ip,
        }),
        None => Err(fault(
            CallError::Caller,
            Reason::AuthenticationTooWeak,
            "the proof is unknown on this connection or no longer valid",
        )),
    }
}

/// Opens a session, or says what is missing, or refuses.
pub async fn open_session(control: &Control, gateway_id: &GatewayId, call: &OpenSession) -> Reply {
    let proof = ProofRef {
        gateway_id,
        connection: call.connection,
        authentication_id: &call.authentication_id,
    };
    let asker = match asker(control, &proof, call.ip) {
        Ok(asker) => asker,
        Err(reply) => return reply,
    };
    let asked_at = control.now();
    let session_id = SessionId::new(asked_at, ids::entropy());
    let reply = match try_open(control, gateway_id, call, &asker, &session_id).await {
        Ok(reply) => reply,
        Err(OpenError::Store(error)) => store_fault(&error),
        Err(OpenError::Secret(error)) => {
            tracing::error!(%session_id, error = &error as &dyn std::error::Error, "a credential could not be issued");
            let reason = error.reason();
            refused(reason, &session_id)
        }
        Err(error @ (OpenError::Permit(_) | OpenError::Seal(_))) => {
            tracing::error!(%session_id, error = &error as &dyn std::error::Error, "a session could not be opened");
            fault(
                CallError::Bug,
                Reason::ControlUnavailable,
                "the session could not be opened",
            )
        }
    };
    let outcome = match &reply {
        Reply::Opened(_) => "permit",
        Reply::Challenge(_) => "challenge",
        Reply::Refused(_) => "deny",
        _ => "failed",
    };
    metrics::counter!("sallyport_session_decisions_total", "outcome" => outcome).increment(1);
    if matches!(reply, Reply::Opened(_)) {
        let took = control.now().since(asked_at);
        metrics::histogram!("sallyport_provision_seconds").record(took.as_secs_f64());
    }
    reply
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("reach the store")]
    Store(#[from] StoreError),
    #[error("issue a credential")]
    Secret(#[source] secret::SecretError),
    #[error("make the permit")]
    Permit(#[source] sallyport_core::authz::PermitError),
    #[error("seal for the gateway")]
    Seal(#[source] seal::SealError),
}

async fn try_open(
    control: &Control,
    gateway_id: &GatewayId,
    call: &OpenSession,
    asker: &Asker,
    session_id: &SessionId,
) -> Result<Reply, OpenError> {
    let now = control.now();
    let mut tx = control
        .db()
        .begin(Actor::Person(asker.person_id.clone()))
        .await?;
    let facts = facts::load(&mut tx, asker, &call.account, &call.target, now)
        .await?
        // A target of another protocol is no target of this gateway door.
        .filter(|facts| facts.target.protocol == call.protocol);
    let decided = Event::new(EventName::SessionDecided, session_id)
        .with("account", &call.account)
        .with("target", &call.target)
        .with("ip", call.ip);
    let Some(facts) = facts else {
        let event = decided
            .with("outcome", "deny")
            .with("reasons", [Reason::NotPermitted]);
        tx.commit(Events::one(event)).await?;
        return Ok(refused(Reason::NotPermitted, session_id));
    };
    match decide(&*control.policies().current(), &facts.about_session()) {
        Decision::Deny { reasons, trace } => {
            let event = decision_fields(decided, &trace)
                .with("outcome", "deny")
                .with("reasons", &reasons);
            tx.commit(Events::one(event)).await?;
            Ok(Reply::Refused(Refused {
                reasons,
                reference: session_id.to_string(),
            }))
        }
        Decision::Challenge {
            unmet,
            constraints,
            trace,
        } => {
            let pending =
                access::pending_request(&mut tx, &facts.person.id, &facts.account.id, now).await?;
            let event = decision_fields(decided, &trace)
                .with("outcome", "challenge")
                .with("unmet", &unmet);
            tx.commit(Events::one(event)).await?;
            Ok(Reply::Challenge(ChallengeAnswer {
                unmet,
                max_duration_s: constraints.max_duration_s,
                pending_request: pending.map(|request| request.id),
            }))
        }
        Decision::Permit(authorisation) => {
            let permit =
                mint(&authorisation, gateway_id, session_id, now).map_err(OpenError::Permit)?;
            let permit = match &facts.grant {
                Some(grant) => permit.within(&grant.constraints),
                None => permit,
            };
            let lease_id = LeaseId::new(now, ids::entropy());
            let lease = lease::intend(
                lease_id,
                &permit,
                &facts.account.engine,
                control.vault(),
                now,
            );
            let place = secret::place(&mut tx, &facts.account, &facts.target).await?;
            if let Some(place) = &place {
                lease_store::put_place(&mut tx, &lease.id, place).await?;
            }
            record_intent(&mut tx, &permit, &facts, &lease, call).await?;
            tx.commit(Events::one(opened_event(
                &permit,
                &facts,
                &lease,
                authorisation.trace(),
            )))
            .await?;
            metrics::counter!("sallyport_sessions_total").increment(1);
            match issue(control, gateway_id, &permit, &facts, &lease, place.as_ref()).await {
                Ok(opened) => Ok(Reply::Opened(Box::new(opened))),
                Err(error) => {
                    give_up(control, session_id).await?;
                    Err(error)
                }
            }
        }
    }
}

fn mint(
    authorisation: &Authorisation,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    now: Timestamp,
) -> Result<Permit, sallyport_core::authz::PermitError> {
    Permit::mint(
        authorisation,
        PermitIds {
            id: PermitId::new(now, ids::entropy()),
            session_id: session_id.clone(),
            recording_id: RecordingId::new(now, ids::entropy()),
            gateway_id: gateway_id.clone(),
        },
    )
}

async fn record_intent(
    tx: &mut crate::kernel::transaction::Transaction,
    permit: &Permit,
    facts: &Facts,
    lease: &Lease,
    call: &OpenSession,
) -> Result<(), StoreError> {
    let terms = permit.terms();
    let session = store::SessionRow {
        id: terms.session_id.clone(),
        grant_id: terms.grant_id.clone(),
        person_id: facts.person.id.clone(),
        person: facts.person.name.to_string(),
        account_id: facts.account.id.to_string(),
        account: facts.account.name.to_string(),
        target_id: facts.target.id.to_string(),
        target: facts.target.name.to_string(),
        protocol: call.protocol.clone(),
        ip: call.ip.to_string(),
        gateway_id: terms.gateway_id.clone(),
        recording_id: terms.recording_id.clone(),
        opened_at: terms.issued_at,
        is_live: true,
        ended_at: None,
        end_reason: None,
        bytes_up: 0,
        bytes_down: 0,
        operations: 0,
        end_requested: None,
        paused_by: None,
        constraints: Some(terms.constraints.clone()),
    };
    store::insert_session(tx, &session).await?;
    store::insert_recording(tx, &terms.recording_id, &terms.session_id).await?;
    store::put_lease(tx, lease).await
}

fn opened_event(permit: &Permit, facts: &Facts, lease: &Lease, trace: &Trace) -> Event {
    let terms = permit.terms();
    let question = &terms.question;
    let event = Event::new(EventName::SessionOpened, &terms.session_id)
        .with("grant_id", &terms.grant_id)
        .with("permit_id", &terms.id)
        .with("recording_id", &terms.recording_id)
        .with("lease_id", &lease.id)
        .with("gateway_id", &terms.gateway_id)
        .with("person", &facts.person.name)
        .with("account", &facts.account.name)
        .with("target", &facts.target.name)
        .with("ip", question.network.ip)
        .with("methods", &question.authentication.methods)
        .with("strength", question.authentication.strength)
        .with("expires_at", terms.expires_at)
        .with("notice", notice(facts, terms.expires_at));
    decision_fields(event, trace)
}

/// Makes the credential, records it, and puts the reply together.
async fn issue(
    control: &Control,
    gateway_id: &GatewayId,
    permit: &Permit,
    facts: &Facts,
    lease: &Lease,
    place: Option<&secret::Place>,
) -> Result<Opened, OpenError> {
    let terms = permit.terms();
    // What is handed out is what the target accepts, also after a rotation that was cut off.
    secret::settle(control, &facts.account, &facts.target)
        .await
        .map_err(|error| OpenError::Secret(secret::SecretError::Rotation(error)))?;
    let credential = secret::issue(control, lease, permit, &facts.account, place)
        .await
        .map_err(OpenError::Secret)?;
    let recording_key =
        secret::recording_key(control, &terms.recording_id).map_err(OpenError::Secret)?;
    let signed = secret::sign_permit(control, permit)
        .await
        .map_err(OpenError::Secret)?;

    let mut tx = control.db().begin(Actor::System).await?;
    // Revocation may have begun while the credential was being made; then it is not used.
    let mut lease = store::lease_by_id(&mut tx, &lease.id)
        .await?
        .ok_or(OpenError::Secret(secret::SecretError::Revoked))?;
    let may_use = lease::record(&mut lease, &credential.issued, control.now()).is_ok();
    if !may_use && let Some(place) = place {
        // Revoked before it was there: the place is needed once more.
        lease_store::forget_place(&mut tx, &lease.id).await?;
        lease_store::put_place(&mut tx, &lease.id, place).await?;
    }
    store::put_lease(&mut tx, &lease).await?;
    let event = Event::new(EventName::LeaseIssued, &lease.id)
        .with("session_id", &terms.session_id)
        .with("engine", &lease.engine)
        .with("expires_at", lease.expires_at)
        .with("handle", &lease.handle)
        .with("is_used", may_use);
    tx.commit(Events::one(event)).await?;
    if !may_use {
        return Err(OpenError::Secret(secret::SecretError::Revoked));
    }

    let sealing_key = control
        .live()
        .sealing_key(gateway_id)
        .ok_or(OpenError::Secret(secret::SecretError::GatewayGone))?;
    let sealed = |info: &[u8], content: &[u8]| -> Result<Credential, OpenError> {
        seal::seal(&sealing_key, info, &terms.session_id, content).map_err(OpenError::Seal)
    };
    Ok(Opened {
        permit: signed,
        address: facts.target.address.clone(),
        host_keys: facts.target.host_keys.clone(),
        pins_first_host_key: facts.target.pins_first_host_key,
        credential: sealed(seal::CREDENTIAL_INFO, credential.content.expose_secret())?,
        recording_key: sealed(seal::RECORDING_KEY_INFO, recording_key.key.expose_secret())?,
        wrapped_recording_key: recording_key.wrapped,
        notice: notice(facts, terms.expires_at),
    })
}

fn notice(facts: &Facts, until: Timestamp) -> String {
    format!(
        "{}@{} until {until}. This session is recorded.",
        facts.account.name, facts.target.name
    )
}

/// Writes down that a session which was permitted did not come about.
async fn give_up(control: &Control, session_id: &SessionId) -> Result<(), StoreError> {
    let now = control.now();
    let mut tx = control.db().begin(Actor::System).await?;
    store::end_session(&mut tx, session_id, EndReason::TargetUnreachable, now, 0, 0).await?;
    super::lease::begin_revocation_of_session(&mut tx, session_id, now).await?;
    if let Some(session) = store::session_by_id(&mut tx, session_id).await?
        && let Some(mut recording) = store::recording_by_id(&mut tx, &session.recording_id).await?
    {
        "cut_off".clone_into(&mut recording.state);
        store::update_recording(&mut tx, &recording).await?;
    }
    let event = Event::new(EventName::SessionEnded, session_id)
        .with("reason", EndReason::TargetUnreachable)
        .with("bytes_up", 0)
        .with("bytes_down", 0);
    tx.commit(Events::one(event)).await.map(drop)
}

fn refused(reason: Reason, session_id: &SessionId) -> Reply {
    Reply::Refused(Refused {
        reasons: vec![reason],
        reference: session_id.to_string(),
    })
}
