//! Starting and stopping a gateway process, and its settings.

use tempfile::TempDir;

use super::*;
use crate::testing::{CountingEntropy, ManualClock};

fn config(directory: &TempDir) -> GatewayConfig {
    let data = directory.path().join("gateway");
    let mut config = GatewayConfig::new(data, directory.path().join("control.sock"));
    config.ssh_listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

async fn bind(config: GatewayConfig) -> Result<Gateway, GatewayError> {
    Gateway::bind(
        config,
        ManualClock::start(),
        Arc::new(CountingEntropy::default()),
    )
    .await
}

/// OP-1
#[tokio::test]
async fn two_gateways_do_not_share_a_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = bind(config(&directory)).await.unwrap();
    let error = bind(config(&directory)).await.unwrap_err();
    assert!(matches!(&error, GatewayError::InUse { .. }), "{error:?}");
    drop(first);
    bind(config(&directory)).await.unwrap();
}

/// OP-1
#[tokio::test]
async fn a_gateway_keeps_its_id_and_refuses_to_start_with_a_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let id = bind(config(&directory))
        .await
        .unwrap()
        .node
        .gateway_id
        .clone();
    assert_eq!(bind(config(&directory)).await.unwrap().node.gateway_id, id);
    fs::write(directory.path().join("gateway/gateway-id"), "gwy_").unwrap();
    let error = bind(config(&directory)).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Id { .. }), "{error:?}");
}

/// OP-1
#[tokio::test]
async fn a_gateway_starts_and_stops_without_control() {
    let directory = tempfile::tempdir().unwrap();
    let gateway = bind(config(&directory)).await.unwrap();
    gateway.run(std::future::ready(())).await;
}

#[test]
fn settings_have_defaults_and_unknown_ones_are_refused() {
    let text = "data_directory = \"/d\"\ncontrol_socket = \"/c\"\n";
    let config: GatewayConfig = toml::from_str(text).unwrap();
    assert_eq!(config, GatewayConfig::new("/d".into(), "/c".into()));
    assert!(toml::from_str::<GatewayConfig>(&format!("{text}recording = false\n")).is_err());
    let limits = format!("{text}[limits]\nconnections_maximum = 3\n");
    assert!(toml::from_str::<GatewayConfig>(&limits).is_err());
}
