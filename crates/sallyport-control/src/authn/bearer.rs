//! Bearer tokens: 256 random bits behind a prefix that tells the kinds apart and lets scanners for
//! leaked secrets find them. Stored as SHA-256, which is enough for what cannot be guessed.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sallyport_core::{
    principal::{Authentication, AuthenticationStrength},
    secret::SecretString,
};
use zeroize::Zeroizing;

use super::store;
use crate::{
    directory,
    kernel::{
        caller::{Bearer, Caller},
        control::Control,
        database::StoreError,
        ids,
        problem::{Fault, Faulty},
        statement::Sql,
    },
};

/// Kinds of bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    SignIn,
    Api,
    Pass,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::SignIn => "spt_",
            Self::Api => "spk_",
            Self::Pass => "spp_",
        }
    }

    /// The kind of a token and its hash; `None` for what cannot be a token.
    pub(super) fn read(token: &str) -> Option<(Self, Vec<u8>)> {
        let kind = [Self::SignIn, Self::Api, Self::Pass]
            .into_iter()
            .find(|kind| token.starts_with(kind.prefix()))?;
        (token.len() == kind.prefix().len() + BODY_CHARS).then(|| (kind, hash(token)))
    }

    /// A fresh token and the hash it is stored under.
    pub(super) fn generate(self) -> (SecretString, Vec<u8>) {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        ids::fill(bytes.as_mut());
        let body = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
        let token = format!("{}{}", self.prefix(), *body);
        let hash = hash(&token);
        (SecretString::new(token), hash)
    }
}

/// 32 bytes in base 64 without padding.
const BODY_CHARS: usize = 43;

/// SHA-256, for secrets of 128 random bits or more.
pub(super) fn hash(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}

/// Why a bearer token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// Unknown, expired, revoked, or its person is disabled: one answer for all.
    #[error("the token is unknown or has ended")]
    Unknown,
    /// The store failed.
    #[error("look up the token")]
    Store(#[source] StoreError),
}

impl Faulty for BearerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unknown => Fault::Unauthenticated,
            Self::Store(error) => error.fault(),
        }
    }
}

/// Who a bearer token belongs to, and what it may do.
///
/// # Errors
/// [`BearerError`].
pub async fn caller_of_bearer(
    control: &Control,
    token: &str,
    ip: IpAddr,
) -> Result<Caller, BearerError> {
    let (kind, token_hash) = TokenKind::read(token).ok_or(BearerError::Unknown)?;
    let mut reader = control.db().read().await.map_err(BearerError::Store)?;
    let found = match kind {
        TokenKind::SignIn => store::token::sign_in_by_hash(&mut reader, token_hash).await,
        TokenKind::Api => store::token::api_token_by_hash(&mut reader, token_hash).await,
        // It proves somebody to gateways, for one account, and is nothing to the API.
        TokenKind::Pass => return Err(BearerError::Unknown),
    };
    caller_of_found(control, &mut reader, found, ip).await
}

/// The same caller looked up again, for answers that go on for a while: what ended or was taken away
/// since then counts.
///
/// # Errors
/// [`BearerError`].
pub async fn caller_again(control: &Control, caller: &Caller) -> Result<Caller, BearerError> {
    let mut reader = control.db().read().await.map_err(BearerError::Store)?;
    let found = match &caller.bearer {
        Bearer::SignIn { token_hash } => {
            store::token::sign_in_by_hash(&mut reader, token_hash.clone()).await
        }
        Bearer::ApiToken(id) => store::token::api_token_by_id(&mut reader, id).await,
    };
    caller_of_found(control, &mut reader, found, caller.ip).await
}

async fn caller_of_found(
    control: &Control,
    sql: &mut dyn Sql,
    found: Result<Option<FoundToken>, StoreError>,
    ip: IpAddr,
) -> Result<Caller, BearerError> {
    let now = control.now();
    let found = found
        .map_err(BearerError::Store)?
        .filter(|found| found.expires_at > now)
        .ok_or(BearerError::Unknown)?;
    let person = directory::person_by_id(sql, &found.person_id)
        .await
        .map_err(BearerError::Store)?
        .filter(|person| person.is_enabled)
        .ok_or(BearerError::Unknown)?;
    Ok(Caller {
        person,
        authentication: found.authentication,
        bearer: found.bearer,
        scopes: found.scopes,
        expires_at: found.expires_at,
        ip,
    })
}

/// An API token proves one factor: whoever holds it.
pub(super) fn of_api_token(at: sallyport_core::time::Timestamp) -> Authentication {
    Authentication {
        strength: AuthenticationStrength::SingleFactor,
        at,
        methods: vec!["api_token".to_owned()],
    }
}

/// A token as stored, whatever its kind.
#[derive(Debug)]
pub(super) struct FoundToken {
    pub(super) person_id: sallyport_core::id::PersonId,
    pub(super) authentication: Authentication,
    pub(super) bearer: Bearer,
    pub(super) scopes: Option<Vec<sallyport_core::authz::AdminAction>>,
    pub(super) expires_at: sallyport_core::time::Timestamp,
}
