//! Where gateways find the control plane, and where they leave recordings.

use std::path::PathBuf;

use serde::Deserialize;

/// Where gateways of this machine meet the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayDoor {
    /// Unix socket that gateways connect to; made at start, readable by this user only.
    /// `gateway.sock` in the data directory unless set.
    pub socket: Option<PathBuf>,
    /// Directory in which the gateway leaves recordings; read only. `recordings` in the data directory
    /// unless set.
    pub recordings: Option<PathBuf>,
}
