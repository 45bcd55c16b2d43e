//! What a gateway saw of a target's identity.

use sallyport_api::gateway::{CallError, Reply};
use sallyport_core::{
    authz::Reason,
    id::{GatewayId, SessionId, TargetId},
};

use super::rpc::{fault, store_fault};
use crate::{inventory, kernel::control::Control};

/// Pins the first host key seen of a target, when it may be pinned and none is.
pub async fn pin_host_key(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    target_id: &TargetId,
    host_key: &str,
) -> Reply {
    match inventory::workflow::pin_host_key(control, gateway_id, session_id, target_id, host_key)
        .await
    {
        Ok(true) => Reply::Done,
        Ok(false) => fault(
            CallError::Caller,
            Reason::HostKeyUnknown,
            "the host key may not be pinned",
        ),
        Err(error) => store_fault(&error),
    }
}

/// Writes down that a target showed another host key than the pinned one.
pub async fn report_host_key(
    control: &Control,
    gateway_id: &GatewayId,
    session_id: &SessionId,
    target_id: &TargetId,
    host_key: &str,
) -> Reply {
    let report =
        inventory::workflow::report_host_key(control, gateway_id, session_id, target_id, host_key);
    match report.await {
        Ok(()) => Reply::Done,
        Err(error) => store_fault(&error),
    }
}
