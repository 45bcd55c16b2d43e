//! What a person does in band before a session opens: ask, wait, take back.
//!
//! INVARIANT: a request is answered only to the connection whose proof is the requester's.

use std::{net::IpAddr, time::Duration};

use sallyport_api::gateway::{
    CallError, ChallengeAnswer, Refused, Reply, RequestAnswer, RequestProgress, Submission,
};
use sallyport_core::{
    access::{AccessRequest, RequestState, VoteKind},
    authz::{Reason, Unmet},
    id::{GatewayId, RequestId},
};

use super::{
    open::{ProofRef, asker},
    rpc::{fault, store_fault},
};
use crate::{
    access::{
        self,
        workflow::{self, AccessError, Ask, Submitted},
    },
    kernel::{control::Control, database::StoreError, statement::Sql},
};

/// Longest wait for news about a request in one call.
const AWAIT_MAX: Duration = Duration::from_secs(20);

/// Asks for access in band.
pub async fn submit_request(
    control: &Control,
    gateway_id: &GatewayId,
    submission: Submission,
) -> Reply {
    let proof = ProofRef {
        gateway_id,
        connection: submission.connection,
        authentication_id: &submission.authentication_id,
    };
    let asker = match asker(control, &proof, submission.ip) {
        Ok(asker) => asker,
        Err(reply) => return reply,
    };
    let ask = Ask {
        account: submission.account,
        target: submission.target,
        reason: submission.reason,
        ticket: submission.ticket,
        duration_s: submission.duration_s,
        is_break_glass: false,
    };
    match workflow::submit(control, &asker, ask).await {
        Ok(Submitted::Request { request, grant }) => {
            let progress = match grant {
                Some(grant) => RequestProgress::Granted {
                    grant_id: grant.id.clone(),
                    until: grant.until,
                },
                None => waiting(&request),
            };
            Reply::Request(RequestAnswer::Progress {
                request_id: request.id.clone(),
                progress,
            })
        }
        Ok(Submitted::Challenge {
            unmet,
            max_duration_s,
        }) => Reply::Request(RequestAnswer::Challenge(ChallengeAnswer {
            unmet,
            max_duration_s,
            pending_request: None,
        })),
        Ok(Submitted::Refused { reasons, reference }) => {
            Reply::Request(RequestAnswer::Refused(Refused { reasons, reference }))
        }
        Err(AccessError::Store(error)) => store_fault(&error),
        Err(AccessError::BadField { field, .. }) => {
            let unmet = match field {
                "ticket" => Unmet::Ticket {
                    prefix: String::new(),
                },
                _ => Unmet::Justification { min_chars: 1 },
            };
            Reply::Request(RequestAnswer::Challenge(ChallengeAnswer {
                unmet: vec![unmet],
                max_duration_s: 0,
                pending_request: None,
            }))
        }
        Err(error) => fault(CallError::Caller, Reason::RequestEnded, &error.to_string()),
    }
}

fn waiting(request: &AccessRequest) -> RequestProgress {
    RequestProgress::Waiting {
        approvals_missing: request.approvals_missing(),
        approved_by: request
            .ballot
            .votes
            .iter()
            .filter(|vote| vote.kind == VoteKind::Approve)
            .map(|vote| vote.voter.clone())
            .collect(),
        expires_at: request.expires_at,
    }
}

async fn progress(
    sql: &mut dyn Sql,
    request: &AccessRequest,
) -> Result<RequestProgress, StoreError> {
    let comment = || {
        let veto = request
            .ballot
            .votes
            .iter()
            .find(|vote| vote.kind == VoteKind::Deny);
        veto.map(|vote| vote.comment.clone()).unwrap_or_default()
    };
    Ok(match &request.state {
        RequestState::Pending => waiting(request),
        RequestState::Granted { grant_id } => match access::grant_by_id(sql, grant_id).await? {
            Some(grant) => RequestProgress::Granted {
                grant_id: grant.id,
                until: grant.until,
            },
            None => RequestProgress::Ended {
                reason: Reason::RequestEnded,
                comment: String::new(),
            },
        },
        RequestState::Denied => RequestProgress::Ended {
            reason: Reason::RequestDenied,
            comment: comment(),
        },
        RequestState::Cancelled | RequestState::Expired => RequestProgress::Ended {
            reason: Reason::RequestEnded,
            comment: String::new(),
        },
    })
}

/// Waits for news about a request of the proof's person.
pub async fn await_request(
    control: &Control,
    proof: &ProofRef<'_>,
    request_id: &RequestId,
    seen: &RequestProgress,
) -> Reply {
    let mut changes = control.changes().subscribe();
    let waited = tokio::time::timeout(AWAIT_MAX, async {
        loop {
            let now = current_progress(control, proof, request_id).await;
            if !matches!(&now, Ok(progress) if progress == seen) {
                return now;
            }
            if changes.changed().await.is_err() {
                return now;
            }
        }
    })
    .await;
    let answer = match waited {
        Ok(answer) => answer,
        Err(_) => Ok(seen.clone()),
    };
    match answer {
        Ok(progress) => Reply::Request(RequestAnswer::Progress {
            request_id: request_id.clone(),
            progress,
        }),
        Err(reply) => reply,
    }
}

async fn current_progress(
    control: &Control,
    proof: &ProofRef<'_>,
    request_id: &RequestId,
) -> Result<RequestProgress, Reply> {
    let asker = asker(control, proof, IpAddr::from([0, 0, 0, 0]))?;
    let load = async {
        let mut reader = control.db().read().await?;
        match access::request_by_id(&mut reader, request_id).await? {
            Some(request) if request.asked.requester_id == asker.person_id => {
                progress(&mut reader, &request).await.map(Some)
            }
            _ => Ok(None),
        }
    };
    match load.await {
        Ok(Some(progress)) => Ok(progress),
        Ok(None) => Err(fault(
            CallError::Caller,
            Reason::RequestEnded,
            "there is no such request",
        )),
        Err(error) => Err(store_fault(&error)),
    }
}

/// Takes a request back, as when the person left while waiting.
pub async fn cancel_request(
    control: &Control,
    proof: &ProofRef<'_>,
    request_id: &RequestId,
) -> Reply {
    let asker = match asker(control, proof, IpAddr::from([0, 0, 0, 0])) {
        Ok(asker) => asker,
        Err(reply) => return reply,
    };
    match workflow::cancel(control, &asker.person_id, request_id).await {
        Ok(_) | Err(AccessError::Refused(_)) => Reply::Done,
        Err(AccessError::Store(error)) => store_fault(&error),
        Err(error) => fault(CallError::Caller, Reason::RequestEnded, &error.to_string()),
    }
}
