//! What every connection of one gateway process shares.

use std::sync::Arc;

use sallyport_core::{entropy::Entropy, id::GatewayId, time::Clock};

use crate::{
    config::Limits, control::ControlPlane, directives::Directives, listener::Counts,
    live::LiveSessions, outbox::Outbox, recorder::RecordingStore, redaction::RuleShelf,
    sealing::SealingKey, tasks::Tasks,
};

/// One gateway process.
pub(crate) struct Node {
    pub(crate) gateway_id: GatewayId,
    pub(crate) limits: Limits,
    pub(crate) counts: Counts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) directives: Arc<Directives>,
    pub(crate) live: Arc<LiveSessions>,
    pub(crate) outbox: Outbox,
    pub(crate) redaction: RuleShelf,
    pub(crate) recordings: Arc<dyn RecordingStore>,
    pub(crate) sealing_key: SealingKey,
    pub(crate) tasks: Tasks,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("gateway_id", &self.gateway_id)
            .finish_non_exhaustive()
    }
}
