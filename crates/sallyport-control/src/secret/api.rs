//! Routes of the vault: status, initialise, unseal, seal, secrets of accounts, the SSH authority.

mod rotation;

use axum::{Json, extract::State};
use sallyport_api::{
    rest::{
        problem::Problem,
        vault::{
            InitialiseVault, InitialisedVault, SecretWritten, SshAuthorityView, Unseal,
            VaultStatus, WriteSecret,
        },
    },
    sensitive::Sensitive,
};
use sallyport_core::{
    authz::{AdminAction, Reason},
    inventory::Selector,
    secret::SecretString,
};
use sallyport_vault::{BarrierState, VaultError};
use utoipa_axum::routes;

use super::{
    store,
    workflow::{self, OperateError, SSH_AUTHORITY},
};
use crate::{
    inventory::{self, workflow::InventoryError},
    kernel::{
        caller::Caller,
        control::Control,
        extract::{JsonBody, PathText},
        http::{Access, Routes},
        problem::{Fault, Faulty, HttpProblem},
    },
};

/// The routes.
#[must_use]
pub fn routes() -> Routes {
    Routes::new()
        .route(
            Access::Anonymous("operators must see a sealed vault before anybody can sign in"),
            routes!(status),
        )
        .route(
            Access::Action(AdminAction::VaultInitialise),
            routes!(initialise),
        )
        .route(
            Access::Anonymous("the share is the proof; nobody can sign in while sealed"),
            routes!(unseal),
        )
        .route(Access::Action(AdminAction::VaultSeal), routes!(seal))
        .route(
            Access::Action(AdminAction::SecretWrite),
            routes!(write_secret),
        )
        .route(
            Access::Action(AdminAction::TargetList),
            routes!(ssh_authority),
        )
        .merge(rotation::routes())
}

impl Faulty for OperateError {
    fn fault(&self) -> Fault {
        match self {
            Self::Vault(VaultError::Sealed | VaultError::Uninitialised) => {
                Fault::refused(Reason::VaultSealed)
            }
            Self::Vault(VaultError::AlreadyInitialised { .. }) => Fault::Conflict {
                title: "the vault is initialised already".to_owned(),
                remedy: "unseal it: `sallyport operator unseal`",
            },
            Self::Vault(VaultError::Superseded { .. }) => Fault::Conflict {
                title: "the vault was changed at the same time".to_owned(),
                remedy: "try again",
            },
            Self::Vault(VaultError::Seal(error)) => Fault::field("share", error),
            Self::Vault(error @ VaultError::OtherSeal { .. }) => Fault::field("share", error),
            Self::Engine(error) => Fault::field("value", error),
            Self::Vault(VaultError::Keyring(_) | VaultError::Secret(_)) | Self::MakeKeys { .. } => {
                Fault::Bug
            }
            Self::Store(error) => error.fault(),
        }
    }
}

/// Says whether the vault is made and open. Anonymous.
#[utoipa::path(get, path = "/v1/vault", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = "default", body = Problem)))]
async fn status(State(control): State<Control>) -> Json<VaultStatus> {
    Json(status_of(&control))
}

fn status_of(control: &Control) -> VaultStatus {
    let status = control.vault().status();
    VaultStatus {
        is_initialised: status.state != BarrierState::Uninitialised,
        is_sealed: status.state != BarrierState::Unsealed,
        seal: status.seal,
        shares_given: status.shares_given,
        threshold: status.threshold,
    }
}

/// Makes the vault, once, and shows its shares, once.
#[utoipa::path(post, path = "/v1/vault/initialise", tag = "vault", request_body = InitialiseVault,
    responses((status = 200, body = InitialisedVault), (status = "default", body = Problem)))]
async fn initialise(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<InitialiseVault>,
) -> Result<Json<InitialisedVault>, HttpProblem> {
    let shares =
        workflow::initialise_with_shares(&control, caller.actor(), body.shares, body.threshold)
            .await?;
    let shares = shares
        .iter()
        .map(|share| Sensitive::new(share.to_text().expose_secret().clone()))
        .collect();
    Ok(Json(InitialisedVault { shares }))
}

/// Takes one share; with the last one needed the vault opens.
#[utoipa::path(post, path = "/v1/vault/unseal", tag = "vault", request_body = Unseal,
    responses((status = 200, body = VaultStatus), (status = "default", body = Problem)))]
async fn unseal(
    State(control): State<Control>,
    JsonBody(body): JsonBody<Unseal>,
) -> Result<Json<VaultStatus>, HttpProblem> {
    workflow::offer_share(&control, body.share.expose()).await?;
    Ok(Json(status_of(&control)))
}

/// Seals the vault: nothing can be issued until it is unsealed; live sessions go on.
#[utoipa::path(post, path = "/v1/vault/seal", tag = "vault",
    responses((status = 200, body = VaultStatus), (status = "default", body = Problem)))]
async fn seal(
    State(control): State<Control>,
    caller: Caller,
) -> Result<Json<VaultStatus>, HttpProblem> {
    workflow::seal(&control, caller.actor()).await?;
    Ok(Json(status_of(&control)))
}

/// Stores what an account's engine needs. It can never be read back.
#[utoipa::path(put, path = "/v1/accounts/{selector}/secret", tag = "account",
    params(("selector" = String, Path,)), request_body = WriteSecret,
    responses((status = 200, body = SecretWritten), (status = "default", body = Problem)))]
async fn write_secret(
    State(control): State<Control>,
    caller: Caller,
    PathText(selector): PathText<Selector>,
    JsonBody(body): JsonBody<WriteSecret>,
) -> Result<Json<SecretWritten>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let target = inventory::target_by_name(&mut reader, &selector.target)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    let account = inventory::account_by_name(&mut reader, &target.id, &selector.account)
        .await?
        .ok_or(InventoryError::NotFound { noun: "account" })?;
    drop(reader);
    let value = SecretString::new(body.value.expose().to_owned());
    let (path, version) =
        workflow::write_secret(&control, caller.actor(), &account, &body.kind, &value).await?;
    Ok(Json(SecretWritten {
        path: path.as_str().to_owned(),
        version,
    }))
}

/// What targets' sshd must trust (`TrustedUserCAKeys`).
#[utoipa::path(get, path = "/v1/ssh-authority", tag = "vault",
    responses((status = 200, body = SshAuthorityView), (status = "default", body = Problem)))]
async fn ssh_authority(
    State(control): State<Control>,
) -> Result<Json<SshAuthorityView>, HttpProblem> {
    let mut reader = control.db().read().await?;
    match store::public_key(&mut reader, SSH_AUTHORITY).await? {
        Some(public_key) => Ok(Json(SshAuthorityView { public_key })),
        None => Err(HttpProblem::of(Fault::refused(Reason::VaultSealed))),
    }
}
