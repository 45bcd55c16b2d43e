//! Routes of rotation.

use axum::{Json, extract::State};
use sallyport_api::rest::{
    problem::Problem,
    vault::{RotateMany, Rotated, RotationDemanded},
};
use sallyport_core::{
    authz::{AdminAction, Reason},
    inventory::{Selector, TargetName},
    principal::PersonName,
};
use sallyport_vault::VaultError;
use utoipa_axum::routes;

use super::super::rotation::{self, Emergency, RotationError};
use crate::{
    directory,
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
    let rotate = Access::Action(AdminAction::SecretRotate);
    Routes::new()
        .route(rotate, routes!(rotate_account))
        .route(rotate, routes!(rotate_many))
}

impl Faulty for RotationError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotRotatable { .. } | Self::Missing => Fault::field("account", self),
            Self::Vault(VaultError::Sealed | VaultError::Uninitialised) => {
                Fault::refused(Reason::VaultSealed)
            }
            Self::Engine(_) | Self::NotAccepted => Fault::Conflict {
                title: format!("the password is still the one before: {}", self.chain()),
                remedy: "put the cause right and rotate again; nothing is lost",
            },
            Self::Vault(_) => Fault::Bug,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Changes the stored password of an account at its target, now.
#[utoipa::path(post, path = "/v1/accounts/{selector}/rotate", tag = "account",
    params(("selector" = String, Path,)),
    responses((status = 200, body = Rotated), (status = "default", body = Problem)))]
async fn rotate_account(
    State(control): State<Control>,
    caller: Caller,
    PathText(selector): PathText<Selector>,
) -> Result<Json<Rotated>, HttpProblem> {
    let mut reader = control.db().read().await?;
    let target = inventory::target_by_name(&mut reader, &selector.target)
        .await?
        .ok_or(InventoryError::NotFound { noun: "target" })?;
    let account = inventory::account_by_name(&mut reader, &target.id, &selector.account)
        .await?
        .ok_or(InventoryError::NotFound { noun: "account" })?;
    drop(reader);
    let rotated =
        rotation::rotate(&control, caller.actor(), &account, &target, "on demand").await?;
    Ok(Json(Rotated {
        account: selector.to_string(),
        version: rotated.version,
        rotated_at: rotated.at,
    }))
}

/// Has many stored passwords changed as soon as possible: those on a target, those a person came to use, all.
#[utoipa::path(post, path = "/v1/rotations", tag = "account", request_body = RotateMany,
    responses((status = 200, body = RotationDemanded), (status = "default", body = Problem)))]
async fn rotate_many(
    State(control): State<Control>,
    caller: Caller,
    JsonBody(body): JsonBody<RotateMany>,
) -> Result<Json<RotationDemanded>, HttpProblem> {
    let emergency = match (&body.target, &body.person, body.everything) {
        (Some(name), None, false) => {
            let name: TargetName = name
                .parse()
                .map_err(|error| HttpProblem::of(Fault::field("target", error)))?;
            let mut reader = control.db().read().await?;
            let target = inventory::target_by_name(&mut reader, &name)
                .await?
                .ok_or(InventoryError::NotFound { noun: "target" })?;
            Emergency::Target(target.id)
        }
        (None, Some(name), false) => {
            let name: PersonName = name
                .parse()
                .map_err(|error| HttpProblem::of(Fault::field("person", error)))?;
            let mut reader = control.db().read().await?;
            let person = directory::person_by_name(&mut reader, &name)
                .await?
                .ok_or(InventoryError::NotFound { noun: "person" })?;
            Emergency::Person(person.id)
        }
        (None, None, true) => Emergency::Everything,
        _ => {
            return Err(HttpProblem::of(Fault::field(
                "target",
                "say one of `target`, `person` and `everything`",
            )));
        }
    };
    let accounts = rotation::rotate_many(&control, caller.actor(), &emergency).await?;
    Ok(Json(RotationDemanded {
        accounts: u64::try_from(accounts).unwrap_or(u64::MAX),
    }))
}
