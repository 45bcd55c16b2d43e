//! `sallyport gateway`, with its loopback listener for metrics and health.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sallyport_control::kernel::clock::SystemClock;
use sallyport_core::time::Timestamp;
use sallyport_gateway::{Gateway as Role, GatewayError};
use sallyport_vault::SystemEntropy;
use tokio::net::TcpListener;

use crate::{
    failure::{Failure, chain},
    output::write_out,
};

use super::{RoleFlags, block_on, stop::Stop, supervisor::Notice};

/// Run a gateway: faces clients and targets, holds neither secrets nor state
#[derive(Debug, clap::Args)]
pub struct Gateway {
    #[command(flatten)]
    flags: RoleFlags,
}

impl Gateway {
    /// Runs until it is told to stop.
    pub fn run(self) -> Result<(), Failure> {
        let configuration = self.flags.begin()?;
        let is_supervised = self.flags.supervised;
        block_on(async move {
            let stop = Stop::listen(is_supervised)?;
            let metrics = PrometheusBuilder::new()
                .install_recorder()
                .map_err(|error| {
                    Failure::of(&error, "report this: metrics are recorded already")
                })?;
            let health = bind_health(configuration.gateway_health()).await?;
            let clock = Arc::new(SystemClock::not_before(Timestamp::EPOCH));
            let config = configuration.gateway().clone();
            let gateway = Role::bind(config, clock, Arc::new(SystemEntropy))
                .await
                .map_err(|error| Failure::failed(chain(&error), remedy(&error)))?;
            if is_supervised && write_out(&Notice::Ready.to_line()).is_err() {
                tracing::warn!("readiness could not be announced on standard output");
            }
            let serving = serve_health(health, metrics);
            tokio::select! {
                () = gateway.run(stop.wait()) => Ok(()),
                failed = serving => failed,
            }
        })
    }
}

async fn bind_health(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(
            format!("listen on {address} for metrics: {error}"),
            "choose a free address for `gateway_health`, or stop what holds it",
        )
    })
}

/// `/metrics` and `/healthz`; numbers only.
async fn serve_health(listener: TcpListener, metrics: PrometheusHandle) -> Result<(), Failure> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/metrics",
            get(move || std::future::ready(metrics.render())),
        );
    axum::serve(listener, router)
        .await
        .map_err(|error| Failure::of(&error, "check the limits of this process"))
}

const fn remedy(error: &GatewayError) -> &'static str {
    match error {
        GatewayError::InUse { .. } => {
            "stop the other gateway, or set `gateway.data_directory` to another directory"
        }
        GatewayError::Listen { .. } => {
            "choose free addresses for `ssh_listen`, `postgres_listen` and `mysql_listen` under `[gateway]`, or stop what holds them"
        }
        GatewayError::Spool(_) => {
            "keep the spool: it holds records; `docs/operations.md` says how to repair it"
        }
        GatewayError::Io { .. } | GatewayError::Recordings(_) => {
            "check the data directory's permissions and free space"
        }
        GatewayError::Id { .. } => {
            "restore `gateway-id` from a backup, or remove it for a new identity"
        }
        GatewayError::SealingKey(_) | GatewayError::Tls(_) | GatewayError::Protocol(_) => {
            "see the cause above; `docs/operations.md` has the remedies"
        }
    }
}
