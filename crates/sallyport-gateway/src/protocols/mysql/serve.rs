//! One session, from its permit to its end: the database is used, the target logged in to, commands moved,
//! and both sides told when it is over.
//!
//! INVARIANT: however it ends, what the target still does for it is asked to stop.

use std::sync::Arc;

use sallyport_core::{
    authz::Reason,
    session::{EndReason, OperationOutcome},
};
use tokio::time::timeout;

use super::{
    KIND,
    client::{Client, ClientError},
    codec::{CodecError, Report},
    kills::{Issued, Kills, Owner},
    limits::FAREWELL_TIME,
    login::{Answer, capability},
    mask::{self, Asking, Catalog, CatalogError},
    operations,
    relay::{Activity, Relay, RelayError, RelaySetup},
    upstream::{self, Kill, Upstream, UpstreamError, Wanted},
    wording,
};
use crate::session::{
    ChannelOpening, ChannelRecord, Content, OperationResult, OperationStart, RunningOperation,
    Session,
};

/// Longest name of a program that a target is told.
const PROGRAM_CHARS_MAX: usize = 64;

/// Somebody with a session, who has not heard of it yet.
pub(super) struct Admitted {
    pub(super) client: Box<Client>,
    pub(super) session: Arc<Session>,
    pub(super) answer: Answer,
    /// The number that the client was greeted with.
    pub(super) issued: Issued,
}

/// Serves a session to its end.
///
/// # Errors
/// [`ClientError`]; the session is over all the same.
pub(super) async fn serve(admitted: Admitted, kills: &Arc<Kills>) -> Result<(), ClientError> {
    let Admitted {
        mut client,
        session,
        answer,
        issued,
    } = admitted;
    let content = match session.records_file_content() {
        true => Content::Limited,
        false => Content::Digest,
    };
    let opening = ChannelOpening {
        kind: KIND,
        pty: None,
        command: answer.database.as_deref(),
        content,
    };
    let Ok(record) = session.open_channel(opening).await else {
        return part(&mut client, &session, None).await;
    };
    let mut database = None;
    if let Some(name) = &answer.database {
        let operation = operations::database(name);
        match session.begin_operation(record.number(), operation).await {
            OperationStart::Begun(operation) => database = Some(operation),
            OperationStart::Refused(reason) => {
                return part(&mut client, &session, Some(reason)).await;
            }
            // What is held is commands and statements.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                return part(&mut client, &session, Some(Reason::NotPermitted)).await;
            }
            OperationStart::Over(_) => return part(&mut client, &session, None).await,
        }
    }
    let program = answer.program().unwrap_or("-");
    let wanted = Wanted {
        capabilities: answer.capabilities,
        collation: answer.collation,
        database: answer.database.clone(),
        program: program.chars().take(PROGRAM_CHARS_MAX).collect(),
    };
    let connected = tokio::select! {
        connected = upstream::connect(&session, &wanted) => connected,
        _ = session.ended() => return part(&mut client, &session, None).await,
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => return unreachable(&mut client, &session, error).await,
    };
    let mut catalog = None;
    if session.has_masks() {
        let asking = Asking {
            stream: &mut upstream.stream,
            rest: &mut upstream.rest,
            has_no_end: wanted.capabilities & capability::DEPRECATE_EOF != 0,
            masks: session.masks(),
        };
        // Not part of what every session takes.
        let asked = tokio::select! {
            asked = Box::pin(mask::ask(asking)) => asked,
            _ = session.ended() => return part(&mut client, &session, None).await,
        };
        match asked {
            Ok(known) => catalog = Some(Box::new(known)),
            Err(error) => return unknown(&mut client, &session, &error).await,
        }
    }
    let serving = Serving {
        client,
        session,
        record,
        name: answer.database,
        database,
        issued,
        catalog,
    };
    serving.run(upstream, kills, answer.capabilities).await
}

/// The target cannot be used: says so as far as it may be told.
async fn unreachable(
    client: &mut Client,
    session: &Session,
    error: UpstreamError,
) -> Result<(), ClientError> {
    let reason = error.reason();
    let told = match &error {
        UpstreamError::Refused { number } => told_of(*number),
        _ => None,
    };
    session.end(error.end_reason());
    {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(session_id = %session.id(), error, "a target cannot be used");
    }
    match told {
        Some(report) => client.part(&report).await,
        None => client.part(&wording::no_session(reason).report()).await,
    }
}

/// It is not known what is masked: nothing may be asked.
async fn unknown(
    client: &mut Client,
    session: &Session,
    error: &CatalogError,
) -> Result<(), ClientError> {
    session.end(EndReason::TargetUnreachable);
    {
        let error: &dyn std::error::Error = error;
        tracing::warn!(session_id = %session.id(), error, "what is masked at a target is not known");
    }
    client
        .part(&wording::no_session(Reason::MaskedColumn).report())
        .await
}

/// What a person may be told of a target's refusal: what they can do something about.
fn told_of(number: u16) -> Option<Report<'static>> {
    let (state, message) = match number {
        1_049 => ("42000", "sallyport: the target has no such database"),
        1_044 => ("42000", "sallyport: the account may not use this database"),
        1_040 => ("08004", "sallyport: the target has no connection left"),
        1_203 | 1_226 => ("42000", "sallyport: the account has no connection left"),
        1_053 => ("08S01", "sallyport: the target is stopping"),
        _ => return None,
    };
    Some(Report {
        number,
        state,
        message,
    })
}

/// Says why there is no session, or why it is over already.
async fn part(
    client: &mut Client,
    session: &Session,
    reason: Option<Reason>,
) -> Result<(), ClientError> {
    let told = match (reason, session.end_if_over()) {
        (Some(reason), _) => wording::no_session(reason),
        (None, Some(end)) => wording::end(&end),
        (None, None) => wording::no_session(Reason::ControlUnavailable),
    };
    client.part(&told.report()).await
}

struct Serving {
    client: Box<Client>,
    session: Arc<Session>,
    record: ChannelRecord,
    /// The database that the client named.
    name: Option<String>,
    /// Use of it.
    database: Option<RunningOperation>,
    issued: Issued,
    catalog: Option<Box<Catalog>>,
}

impl Serving {
    async fn run(
        mut self,
        upstream: Upstream,
        kills: &Arc<Kills>,
        capabilities: u32,
    ) -> Result<(), ClientError> {
        let session = self.session;
        let activity = Arc::new(Activity::default());
        let owner = Owner::of(session.permit());
        let killable = self
            .issued
            .stops(owner, upstream.stopper, Arc::clone(&activity));
        let words = format!("sallyport: {}", session.notice().replace('\n', "; "));
        self.client.welcome(upstream.status, &words).await?;

        let Client { stream, buffer, .. } = *self.client;
        let mut relay = Relay::new(RelaySetup {
            session: Arc::clone(&session),
            record: self.record,
            activity,
            stop: Arc::clone(&killable),
            kills: Arc::clone(kills),
            client: stream,
            target: upstream.stream,
            from_client: buffer,
            from_target: upstream.rest,
            capabilities,
            status: upstream.status,
            database: self.name,
            catalog: self.catalog,
        });
        let over = tokio::select! {
            over = relay.run() => Some(over),
            _ = session.ended() => None,
        };
        let is_gone = matches!(&over, Some(RelayError::ClientLeft));
        let is_too_long = matches!(&over, Some(RelayError::Client(CodecError::TooLong)));
        if let Some(error) = over {
            session.end(end_reason(&error));
            let error: &(dyn std::error::Error + Send + Sync) = &error;
            let error: &dyn std::error::Error = error;
            tracing::debug!(session_id = %session.id(), error, "a session ends");
        }
        if let Some(used) = self.database {
            used.finish(OperationOutcome::Completed, OperationResult::default());
        }
        if relay.is_busy() {
            let stopping = async move { killable.stop(Kill::Connection).await.is_ok() };
            drop(session.spawn("stop a target", stopping));
        }
        if let Some(end) = session.end_if_over().filter(|_| !is_gone) {
            let told = match is_too_long {
                true => wording::refusal(Reason::OperationTooLong, ""),
                false => wording::end(&end),
            };
            // A client that does not listen is cut off when this returns.
            let _ = timeout(FAREWELL_TIME, relay.farewell(&told)).await;
        }
        Ok(())
    }
}

/// Why a session is over whose commands cannot be moved any more.
fn end_reason(error: &RelayError) -> EndReason {
    match error {
        RelayError::ClientLeft | RelayError::Client(_) => EndReason::ClientClosed,
        RelayError::TargetLeft
        | RelayError::Target(_)
        | RelayError::Unasked(_)
        | RelayError::FileUnasked
        | RelayError::MayWrite
        | RelayError::Encoding => EndReason::TargetClosed,
        RelayError::Over(over) => over.0.reason,
    }
}
