//! The task behind a session: carries its evidence while it lives, and closes it exactly once.
//!
//! INVARIANT: the session leaves the table of live sessions only after its end is kept as evidence, or
//! after every way to keep it failed.

use std::{sync::Arc, time::Duration};

use sallyport_api::gateway::SessionClosed;
use sallyport_core::{session::EndReason, session::Operation, session::OperationKind};
use sallyport_evidence::recording::{FrameKind, SESSION_CHANNEL};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{End, SessionState};
use crate::{
    node::Node,
    recorder::{Durable, RecordingEnd, Writer},
    spool::Evidence,
};

/// How long a protocol may take to tell its client why the session is over. The target is cut off
/// already.
const NOTICE_TIME: Duration = Duration::from_secs(3);
/// How long a protocol may hold on to a session whose client is cut off too.
const RELEASE_TIME: Duration = Duration::from_secs(2);
/// Rest before the end of a session is tried to be kept again.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Anchors of one recording are at least this far apart.
const ANCHOR_EVERY: Duration = Duration::from_secs(1);

/// Serves the session until its end is kept. `client_cut` cuts the client's connection.
pub(crate) async fn serve(
    state: Arc<SessionState>,
    writer: Writer,
    node: Arc<Node>,
    client_cut: CancellationToken,
) {
    let abandoned = Abandoned {
        state: &state,
        node: &node,
    };
    let settling = async {
        let (recording, ()) = tokio::join!(
            record(&state, writer, &node),
            wait_for_release(&state, &node, &client_cut),
        );
        // After the last chunk no typed command can turn up, and after the protocol let go no operation
        // can end. A recorder that failed stops before operations that run are known to be interrupted.
        state.operations.close();
        recording
    };
    let (recording, ()) = tokio::join!(settling, carry_operations(&state, &node));
    close(&state, recording, &node).await;
    drop(abandoned);
}

/// Takes the session out of the table however its task ends: done, or by a panic.
struct Abandoned<'a> {
    state: &'a SessionState,
    node: &'a Node,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state
                .end(End::because(EndReason::Panicked), self.node.clock.now());
            self.state.recorder.close();
        }
        self.node.live.remove(self.state.id());
    }
}

async fn record(state: &SessionState, writer: Writer, node: &Node) -> RecordingEnd {
    let (anchors, mut durable) = watch::channel(None);
    let writing = writer.run(|Durable { anchor, typed }| {
        for command in typed {
            let operation = Operation {
                kind: OperationKind::TypedCommand,
                detail: command.text,
                facts: None,
            };
            let at = state.started_at.plus(Duration::from_micros(command.at_us));
            state.put_seen(node.entropy.as_ref(), command.channel, operation, at);
        }
        anchors.send_replace(Some(anchor));
    });
    let anchoring = async {
        while durable.changed().await.is_ok() {
            let anchor = durable.borrow_and_update().clone();
            if let Some(anchor) = anchor
                && node.outbox.keep(Evidence::Anchor(anchor)).await.is_err()
            {
                state.end_with(EndReason::RecorderFailed);
            }
            tokio::time::sleep(ANCHOR_EVERY).await;
        }
    };
    let recording = tokio::select! {
        recording = writing => recording,
        // Ends only with the writer, whose last anchor goes with the session's end.
        () = async { anchoring.await; std::future::pending().await } => {
            RecordingEnd { anchor: None, failure: None }
        }
    };
    if let Some(failure) = &recording.failure {
        let failure: &dyn std::error::Error = failure;
        tracing::error!(session_id = %state.id(), failure, "the recording failed; the session ends");
        state.end_with(EndReason::RecorderFailed);
    }
    recording
}

async fn carry_operations(state: &SessionState, node: &Node) {
    if state
        .operations
        .carry(state.id(), &node.outbox, node.clock.as_ref())
        .await
        .is_err()
    {
        state.operations.close();
        state.end_with(EndReason::RecorderFailed);
    }
}

async fn wait_for_release(state: &SessionState, node: &Node, client_cut: &CancellationToken) {
    let end = state.ended().await;
    if timeout(NOTICE_TIME, state.released.cancelled())
        .await
        .is_err()
    {
        client_cut.cancel();
        if timeout(RELEASE_TIME, state.released.cancelled())
            .await
            .is_err()
        {
            tracing::error!(session_id = %state.id(), "a protocol holds on to a session that is over");
        }
    }
    let took = node
        .clock
        .now()
        .since(state.ended_at().unwrap_or(state.started_at));
    metrics::histogram!("sallyport_session_end_seconds").record(took.as_secs_f64());
    let last = FrameKind::Note(end.reason.message());
    // A recorder that failed takes no note; why it failed is in the log.
    let _ = state.recorder.record(&state.frame(SESSION_CHANNEL, last));
    state.recorder.close();
}

async fn close(state: &SessionState, recording: RecordingEnd, node: &Arc<Node>) {
    let end = state.ended().await;
    let (bytes_up, bytes_down) = state.counted();
    if recording.anchor.is_none() && bytes_up.saturating_add(bytes_down) > 0 {
        metrics::counter!("sallyport_unrecorded_sessions_total").increment(1);
    }
    let closed = SessionClosed {
        session_id: state.id().clone(),
        reason: end.reason,
        bytes_up,
        bytes_down,
        is_recording_complete: recording.failure.is_none(),
        recording: recording.anchor,
    };
    metrics::counter!("sallyport_sessions_total", "outcome" => end.reason.as_str()).increment(1);
    tracing::info!(session_id = %state.id(), reason = end.reason.as_str(), "session closed");
    keep_end(closed, node).await;
}

/// Keeps the end of a session: on disk, or else with control directly. When neither takes it, as on one
/// full disk, that is tried again in a task of its own until one does: a session that is over must not
/// stay live on record. After a restart the session is missing in the hello, which says the same.
pub(crate) async fn keep_end(closed: SessionClosed, node: &Arc<Node>) {
    if try_to_keep(&closed, node).await {
        return;
    }
    let trying = Arc::clone(node);
    node.tasks.spawn("end of a session", async move {
        loop {
            tokio::time::sleep(KEEP_AGAIN_AFTER).await;
            if try_to_keep(&closed, &trying).await {
                return;
            }
        }
    });
}

async fn try_to_keep(closed: &SessionClosed, node: &Node) -> bool {
    let evidence = Evidence::Closed(closed.clone());
    if node.outbox.keep(evidence).await.is_ok() {
        return true;
    }
    match node.control.close_session(closed.clone()).await {
        Ok(()) => true,
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            let session_id = &closed.session_id;
            tracing::error!(%session_id, error, "the end of a session could not be kept; trying again");
            false
        }
    }
}
