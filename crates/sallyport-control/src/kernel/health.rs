//! `/healthz`, `/readyz` and `/metrics`, for machines on the same host.
//!
//! INVARIANT: nothing here says who has access to what; numbers and states only.

use std::{sync::OnceLock, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sallyport_vault::BarrierState;

use super::control::Control;
use crate::audit;

/// The log may be this far behind with its signed checkpoint before the node is not ready.
const AUDIT_LAG_MAX: Duration = Duration::from_secs(5);

/// The process has one recorder of metrics; the first caller installs it.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER
        .get_or_init(|| PrometheusBuilder::new().install_recorder().ok())
        .as_ref()
}

/// Installs the recorder, so that metrics count from the start.
pub fn install_recorder() {
    let _ = recorder();
}

/// The routes.
pub(super) fn router(control: Control) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(control)
}

async fn ready(State(control): State<Control>) -> impl IntoResponse {
    let mut faults: Vec<String> = Vec::new();
    if !control.db().is_writable() {
        faults.push("the store does not take writes; restart the process".to_owned());
    }
    match control.vault().status().state {
        BarrierState::Unsealed => {}
        BarrierState::Sealed => {
            faults.push("the vault is sealed: `sallyport operator unseal`".to_owned());
        }
        BarrierState::Uninitialised => {
            faults.push("the vault is not initialised: `sallyport operator init`".to_owned());
        }
    }
    match audit::lag(&control).await {
        Ok(lag) if lag <= AUDIT_LAG_MAX => {}
        Ok(lag) => faults.push(format!(
            "the signed checkpoint is {} s behind",
            lag.as_secs()
        )),
        Err(_) => faults.push("the store cannot be read".to_owned()),
    }
    if control.live().count() == 0 {
        faults.push("no gateway is connected".to_owned());
    }
    let behind_s = control.clock().behind().as_secs();
    if behind_s > 0 {
        faults.push(format!(
            "the system clock is {behind_s} s behind the last recorded time"
        ));
    }
    if faults.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", faults.join("\n")),
        )
    }
}

async fn metrics(State(control): State<Control>) -> impl IntoResponse {
    let gateways = u32::try_from(control.live().count()).unwrap_or(u32::MAX);
    metrics::gauge!("sallyport_gateways_connected").set(f64::from(gateways));
    let entries = u32::try_from(*control.db().log_size().borrow()).unwrap_or(u32::MAX);
    metrics::gauge!("sallyport_audit_entries").set(f64::from(entries));
    if let Ok(lag) = audit::lag(&control).await {
        metrics::gauge!("sallyport_audit_lag_seconds").set(lag.as_secs_f64());
    }
    match recorder() {
        Some(recorder) => (StatusCode::OK, recorder.render()),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "metrics are not recorded\n".to_owned(),
        ),
    }
}
