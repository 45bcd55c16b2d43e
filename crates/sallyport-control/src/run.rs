//! Starts the control plane and stops it in order.
//!
//! INVARIANT: no gateway is welcomed and no request is answered before the log was checked, the vault
//! is as it should be, and what a crash left was swept.

use std::{future::Future, sync::Arc};

use sallyport_core::{
    event::{Actor, Event, EventName, Events},
    secret::SecretString,
    time::Timestamp,
};

use crate::{
    access, audit, authn, broker,
    config::ControlConfig,
    kernel::{
        clock::SystemClock,
        control::{Control, OpenError},
        database::StoreError,
        health,
        listener::{self, ListenError},
        task,
    },
    notify, operation, routes, secret,
};

/// Why the control plane does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory, the store or the policies cannot be used.
    #[error("open the control plane")]
    Open(#[source] OpenError),
    /// The log in the store is not what was signed.
    #[error("check the audit log")]
    Audit(#[source] audit::IntegrateError),
    /// The vault cannot be opened with its key file.
    #[error("open the vault with its key file")]
    Vault(#[source] secret::workflow::OperateError),
    /// An address cannot be listened on.
    #[error("listen")]
    Listen(#[source] ListenError),
    /// Gateways cannot be served.
    #[error("serve gateways")]
    Rpc(#[source] broker::rpc::RpcError),
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// What the operator must be told at start.
#[allow(missing_debug_implementations, reason = "it holds a secret")]
pub enum Announcement {
    /// There is nobody yet: this code makes the first owner, once.
    FirstOwnerCode(SecretString),
    /// Everything listens.
    Ready,
}

/// Runs the control plane until `shutdown` resolves.
///
/// # Errors
/// [`RunError`]; nothing is left half-done.
pub async fn run(
    config: ControlConfig,
    shutdown: impl Future<Output = ()> + Send,
    announce: impl Fn(Announcement) + Send,
) -> Result<(), RunError> {
    health::install_recorder();
    let clock = Arc::new(SystemClock::not_before(Timestamp::EPOCH));
    let control = Control::open(config, clock).await.map_err(RunError::Open)?;
    // Nothing is written to a log that is not what was signed.
    let log = audit::start(&control).await.map_err(RunError::Audit)?;
    record_start(&control).await?;
    secret::workflow::publish_authorities(&control).await?;
    if let Some(path) = &control.config().vault.key_file {
        secret::workflow::open_with_key_file(&control, path)
            .await
            .map_err(RunError::Vault)?;
    }
    broker::lease::sweep(&control).await?;
    if let Some(code) = authn::first_owner_code(&control).await? {
        announce(Announcement::FirstOwnerCode(code));
    }
    task::spawn("sign-ins", authn::jobs::run(control.clone()));
    task::spawn("expiry", access::jobs::run(control.clone()));
    task::spawn("held operations", operation::jobs::run(control.clone()));
    task::spawn("leases", broker::lease::run(control.clone()));
    task::spawn("rotations", secret::rotation::run(control.clone()));
    task::spawn("orphans", broker::orphan::run(control.clone()));
    task::spawn("sessions", broker::oversee::run(control.clone()));
    task::spawn("notices", notify::jobs::run(control.clone()));

    let listeners = listener::bind(&control).await.map_err(RunError::Listen)?;
    let gateways = broker::rpc::bind(&control).map_err(RunError::Rpc)?;
    announce(Announcement::Ready);
    let api = listeners.serve(routes::all(), control.clone());
    tokio::pin!(api);
    let stopped = tokio::select! {
        () = shutdown => Ok(()),
        ended = gateways.serve(control.clone()) => ended.map_err(RunError::Rpc),
        ended = &mut api => ended.map_err(RunError::Listen),
        // Started anew, it opens the store from what is on disk.
        () = control.db().stopped() => return Err(RunError::Store(StoreError::Stopped)),
    };
    if stopped.is_ok() {
        control.stop();
        api.await.map_err(RunError::Listen)?;
    }
    let tx = control.db().begin(Actor::System).await?;
    tx.commit(Events::one(Event::new(
        EventName::ControlStopped,
        "control",
    )))
    .await?;
    log.finish().await;
    control.db().close().await?;
    stopped
}

async fn record_start(control: &Control) -> Result<(), StoreError> {
    let tx = control.db().begin(Actor::System).await?;
    let started =
        Event::new(EventName::ControlStarted, "control").with("version", env!("CARGO_PKG_VERSION"));
    let behind_s = control.clock().behind().as_secs();
    let events = Events::one(started);
    let events = if behind_s > 0 {
        tracing::warn!(
            behind_s,
            "the system clock is behind the last recorded time; time goes on from there until it catches up"
        );
        events.and(Event::new(EventName::ClockWentBack, "control").with("behind_s", behind_s))
    } else {
        events
    };
    tx.commit(events).await.map(drop)
}
