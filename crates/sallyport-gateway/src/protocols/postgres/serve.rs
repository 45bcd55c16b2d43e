//! One session, from its permit to its end: the database is used, the target logged in to, messages moved,
//! and both sides told when it is over.
//!
//! INVARIANT: however it ends, what the target still does for it is asked to stop.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use sallyport_core::{
    authz::Reason,
    session::{EndReason, OperationOutcome},
};
use tokio::{
    io::{AsyncWriteExt as _, split},
    sync::Notify,
    time::timeout,
};

use super::{
    KIND,
    cancel::{Cancels, Issued},
    client::{self, Client, ClientError},
    codec::{self, Report},
    handshake::Admitted,
    limits::FAREWELL_TIME,
    mask::{self, Catalog, CatalogError},
    operations,
    relay::{Relay, RelayError},
    upstream::{self, Upstream, UpstreamError},
    wording,
};
use crate::session::{
    ChannelOpening, ChannelRecord, Content, OperationResult, OperationStart, RunningOperation,
    Session,
};

/// Serves a session to its end.
///
/// # Errors
/// [`ClientError`]; the session is over all the same.
pub(super) async fn serve(admitted: Admitted, cancels: &Arc<Cancels>) -> Result<(), ClientError> {
    let Admitted {
        client,
        session,
        wanted,
        is_newer,
        is_told,
    } = admitted;
    let content = match session.records_file_content() {
        true => Content::Limited,
        false => Content::Digest,
    };
    let opening = ChannelOpening {
        kind: KIND,
        pty: None,
        command: Some(&wanted.database),
        content,
    };
    let Ok(record) = session.open_channel(opening).await else {
        return part(client, &session, None).await;
    };
    let asked = [
        Some(operations::database(&wanted.database)),
        wanted.replication.as_deref().map(operations::replication),
    ];
    let mut uses = Vec::new();
    for operation in asked.into_iter().flatten() {
        match session.begin_operation(record.number(), operation).await {
            OperationStart::Begun(operation) => uses.push(operation),
            OperationStart::Refused(reason) => {
                return part(client, &session, Some(reason)).await;
            }
            // What is held is commands and statements.
            OperationStart::Held(held) => {
                held.refuse(Reason::NotPermitted);
                return part(client, &session, Some(Reason::NotPermitted)).await;
            }
            OperationStart::Over(_) => return part(client, &session, None).await,
        }
    }
    let account = session.permit().terms().question.account.name.clone();
    let parameters = wanted.parameters(account.as_str(), session.id(), session.is_read_only());
    let connected = tokio::select! {
        connected = upstream::connect(&session, &parameters) => connected,
        _ = session.ended() => return part(client, &session, None).await,
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(error) => return unreachable(client, &session, error).await,
    };
    let mut catalog = None;
    if session.has_masks() {
        let (stream, rest) = (&mut upstream.stream, &mut upstream.rest);
        // Not part of what every session takes.
        let asking = Box::pin(mask::ask(stream, rest, session.masks(), &wanted.database));
        let asked = tokio::select! {
            asked = asking => asked,
            _ = session.ended() => return part(client, &session, None).await,
        };
        match asked {
            Ok(known) => catalog = Some(known),
            Err(error) => return unknown(client, &session, &error).await,
        }
    }
    let serving = Serving {
        client,
        session,
        record,
        database: wanted.database,
        uses,
        catalog,
    };
    serving.run(upstream, cancels, is_newer, is_told).await
}

/// The target cannot be used: says so as far as it may be told.
async fn unreachable(
    mut client: Box<Client>,
    session: &Session,
    error: UpstreamError,
) -> Result<(), ClientError> {
    let reason = error.reason();
    let refused = match &error {
        UpstreamError::Refused { sqlstate } => told_of(sqlstate),
        _ => None,
    };
    session.end(error.end_reason());
    {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(session_id = %session.id(), error, "a target cannot be used");
    }
    let mut out = BytesMut::new();
    match refused {
        Some(report) => report.put(&mut out)?,
        None => wording::put_fatal(&mut out, reason)?,
    }
    client.send(&out).await
}

/// It is not known what is masked: nothing may be asked.
async fn unknown(
    mut client: Box<Client>,
    session: &Session,
    error: &CatalogError,
) -> Result<(), ClientError> {
    session.end(EndReason::TargetUnreachable);
    {
        let error: &dyn std::error::Error = error;
        tracing::warn!(session_id = %session.id(), error, "what is masked at a target is not known");
    }
    let mut out = BytesMut::new();
    wording::put_fatal(&mut out, Reason::MaskedColumn)?;
    client.send(&out).await
}

/// What a person may be told of a target's refusal: what they can do something about.
fn told_of(sqlstate: &str) -> Option<Report<'static>> {
    let (code, message) = match sqlstate {
        "3D000" => ("3D000", "sallyport: the target has no such database"),
        "42501" => ("42501", "sallyport: the account may not use this database"),
        "53300" => ("53300", "sallyport: the target has no connection left"),
        "57P03" => ("57P03", "sallyport: the target is starting or stopping"),
        _ => return None,
    };
    Some(Report {
        severity: "FATAL",
        code,
        message,
        detail: None,
        hint: None,
    })
}

/// Says why there is no session, or why it is over already.
async fn part(
    mut client: Box<Client>,
    session: &Session,
    reason: Option<Reason>,
) -> Result<(), ClientError> {
    let mut out = BytesMut::new();
    match (reason, session.end_if_over()) {
        (Some(reason), _) => wording::put_fatal(&mut out, reason)?,
        (None, Some(end)) => wording::put_end(&mut out, &end)?,
        (None, None) => wording::put_fatal(&mut out, Reason::ControlUnavailable)?,
    }
    client.send(&out).await
}

struct Serving {
    client: Box<Client>,
    session: Arc<Session>,
    record: ChannelRecord,
    database: String,
    uses: Vec<RunningOperation>,
    catalog: Option<Catalog>,
}

impl Serving {
    async fn run(
        mut self,
        upstream: Upstream,
        cancels: &Arc<Cancels>,
        is_newer: bool,
        is_told: bool,
    ) -> Result<(), ClientError> {
        let interrupted = Arc::new(Notify::new());
        let issued = upstream
            .stopper
            .and_then(|stopper| cancels.issue(stopper, Arc::clone(&interrupted), is_newer));
        let welcome = self.welcome(&upstream.greeting, upstream.status, &issued, is_told)?;
        if self.record.output(&upstream.greeting).await.is_err() {
            return part(self.client, &self.session, None).await;
        }
        self.client.send(&welcome).await?;

        let Client { stream, buffer } = *self.client;
        let session = self.session;
        let relay = Relay::new(
            Arc::clone(&session),
            self.record,
            self.database,
            interrupted,
            issued
                .as_ref()
                .map(|issued| Arc::clone(&issued.cancellable)),
            self.catalog,
        );
        let (from_client, mut to_client) = split(stream);
        let (from_target, to_target) = split(upstream.stream);
        let words = session.words();
        let over = {
            let up = relay.up(from_client, to_target, buffer);
            let down = relay.down(from_target, &mut to_client, upstream.rest, words);
            tokio::select! {
                over = up => Some(over),
                over = down => Some(over),
                _ = session.ended() => None,
            }
        };
        let is_gone = matches!(&over, Some(RelayError::ClientLeft));
        if let Some(error) = over {
            session.end(end_reason(&error));
            let error: &(dyn std::error::Error + Send + Sync) = &error;
            let error: &dyn std::error::Error = error;
            tracing::debug!(session_id = %session.id(), error, "a session ends");
        }
        for used in self.uses {
            used.finish(OperationOutcome::Completed, OperationResult::default());
        }
        if relay.is_busy()
            && let Some(issued) = issued
        {
            let cancellable = Arc::clone(&issued.cancellable);
            drop(session.spawn("stop a target", async move { cancellable.stop().await }));
        }
        let may_say = relay.may_say() && !relay.is_explained();
        drop(relay);
        if let Some(end) = session.end_if_over().filter(|_| may_say && !is_gone) {
            let mut out = BytesMut::new();
            wording::put_end(&mut out, &end)?;
            let telling = async {
                to_client.write_all(&out).await?;
                to_client.shutdown().await
            };
            // A client that does not listen is cut off when this returns.
            let _ = timeout(FAREWELL_TIME, telling).await;
        }
        Ok(())
    }

    /// Everything a client hears before its first query.
    fn welcome(
        &self,
        greeting: &[u8],
        status: u8,
        issued: &Option<Issued>,
        is_told: bool,
    ) -> Result<BytesMut, ClientError> {
        let mut out = BytesMut::new();
        if !is_told {
            client::put_authentication(&mut out, 0)?;
        }
        out.extend_from_slice(greeting);
        if let Some(issued) = issued {
            codec::message(&mut out, b'K', |body| {
                body.put_u32(issued.key.process);
                body.put_slice(&issued.key.secret);
            })?;
        }
        wording::put_notices(&mut out, &format!("sallyport: {}", self.session.notice()))?;
        for line in self.session.standing_words() {
            wording::put_notices(&mut out, &line)?;
        }
        codec::message(&mut out, b'Z', |body| body.put_u8(status))?;
        Ok(out)
    }
}

/// Why a session is over whose messages cannot be moved any more.
fn end_reason(error: &RelayError) -> EndReason {
    match error {
        RelayError::ClientLeft | RelayError::Client(_) | RelayError::ClientKind { .. } => {
            EndReason::ClientClosed
        }
        RelayError::TargetLeft
        | RelayError::Target(_)
        | RelayError::Unasked(_)
        | RelayError::MayWrite
        | RelayError::Encoding => EndReason::TargetClosed,
        RelayError::Over(over) => over.0.reason,
    }
}
