//! API tokens: made, listed and revoked by their own person.
//!
//! INVARIANT: a token can do less than its person or the same, never more, whatever happens to its
//! person's roles later; and it cannot change what proves its person, so it cannot outlive itself.

use std::time::Duration;

use sallyport_api::{rest::sign_in::CreateApiToken, sensitive::Sensitive};
use sallyport_core::{
    authz::AdminAction,
    event::{Event, EventName, Events},
    id::ApiTokenId,
};

use super::{
    bearer::TokenKind,
    ssh_key::is_label,
    store::{self, token::ApiToken},
};
use crate::kernel::{
    caller::Caller,
    control::Control,
    database::StoreError,
    ids,
    problem::{Fault, Faulty},
};

const TTL_S: std::ops::RangeInclusive<u64> = 60..=7_776_000;
const TOKENS_MAX: u64 = 50;

/// Why an API token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The label is unfit.
    #[error("label a token: a label has 1 to 64 characters, none of them a control character")]
    Label,
    /// A scope is no action, not the person's, or not for tokens.
    #[error("give scope `{scope}` to a token: {problem}")]
    Scope {
        /// The scope.
        scope: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too short or too long.
    #[error("make a token that lives {ttl_s} s: {least} to {most} s are allowed", least = TTL_S.start(), most = TTL_S.end())]
    Ttl {
        /// The life asked for.
        ttl_s: u64,
    },
    /// The person has as many as allowed.
    #[error("make a token: {TOKENS_MAX} work already")]
    TooMany,
    /// The caller has no such token.
    #[error("revoke a token: there is none of this id")]
    NotFound,
    /// An API token may not make another.
    #[error("change tokens with an API token")]
    NeedsSignIn,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

impl Faulty for TokenError {
    fn fault(&self) -> Fault {
        match self {
            Self::Label => Fault::field(
                "label",
                "has 1 to 64 characters, none of them a control character",
            ),
            Self::Scope { scope, problem } => {
                Fault::field("scopes", format!("`{scope}` {problem}"))
            }
            Self::Ttl { .. } => Fault::field("ttl_s", "is 60 to 7776000 (90 days)"),
            Self::TooMany => Fault::Conflict {
                title: format!("{TOKENS_MAX} tokens work already"),
                remedy: "revoke one that is not used any more",
            },
            Self::NotFound => Fault::NotFound { noun: "token" },
            Self::NeedsSignIn => Fault::NeedsSignIn,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Reads scopes: actions the caller may do, without those that change what proves a person.
fn scopes(caller: &Caller, texts: &[String]) -> Result<Vec<AdminAction>, TokenError> {
    let refused = |scope: &str, problem| TokenError::Scope {
        scope: scope.chars().filter(|c| !c.is_control()).take(64).collect(),
        problem,
    };
    let mut scopes = Vec::new();
    for text in texts.iter().take(AdminAction::ALL.len().saturating_add(1)) {
        let action = AdminAction::ALL
            .iter()
            .copied()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| refused(text, "is no action"))?;
        if action == AdminAction::SelfEdit {
            return Err(refused(
                text,
                "is not for tokens: a token cannot change what proves its person",
            ));
        }
        if !caller.is_permitted(action) {
            return Err(refused(text, "is not among your own rights"));
        }
        if scopes.contains(&action) {
            return Err(refused(text, "stands there twice"));
        }
        scopes.push(action);
    }
    if scopes.is_empty() {
        return Err(refused("", "is not enough: give at least one action"));
    }
    Ok(scopes)
}

/// Makes an API token of the caller.
pub(super) async fn create(
    control: &Control,
    caller: &Caller,
    body: &CreateApiToken,
) -> Result<(ApiToken, Sensitive), TokenError> {
    if !caller.is_signed_in() {
        return Err(TokenError::NeedsSignIn);
    }
    if !is_label(&body.label) {
        return Err(TokenError::Label);
    }
    if !TTL_S.contains(&body.ttl_s) {
        return Err(TokenError::Ttl { ttl_s: body.ttl_s });
    }
    let scopes = scopes(caller, &body.scopes)?;
    let now = control.now();
    let mut tx = control.db().begin(caller.actor()).await?;
    if store::token::live_api_tokens(&mut tx, &caller.person.id, now).await? >= TOKENS_MAX {
        return Err(TokenError::TooMany);
    }
    let (text, token_hash) = TokenKind::Api.generate();
    let token = ApiToken {
        id: ApiTokenId::new(now, ids::entropy()),
        label: body.label.clone(),
        scopes,
        created_at: now,
        expires_at: now.plus(Duration::from_secs(body.ttl_s)),
        is_revoked: false,
    };
    store::token::put_api_token(&mut tx, &caller.person.id, token_hash, &token).await?;
    let event = Event::new(EventName::ApiTokenCreated, &token.id)
        .with("scopes", &token.scopes)
        .with("expires_at", token.expires_at);
    tx.commit(Events::one(event)).await?;
    Ok((token, Sensitive::new(text.expose_secret().clone())))
}

/// Revokes an API token of the caller.
pub(super) async fn revoke(
    control: &Control,
    caller: &Caller,
    id: &ApiTokenId,
) -> Result<(), TokenError> {
    let mut tx = control.db().begin(caller.actor()).await?;
    if !store::token::revoke_api_token(&mut tx, &caller.person.id, id).await? {
        return Err(TokenError::NotFound);
    }
    tx.commit(Events::one(Event::new(EventName::ApiTokenRevoked, id)))
        .await?;
    Ok(())
}
