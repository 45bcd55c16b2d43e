//! Who makes an HTTP request, as the guard of [`super::http`] found out. Routes take a [`Caller`] as an
//! argument; there is one exactly when the guard let the request pass.

use std::net::IpAddr;

use axum::{extract::FromRequestParts, http::request::Parts};
use sallyport_core::{
    authz::{AdminAction, is_admin_permitted},
    event::Actor,
    id::ApiTokenId,
    principal::{AdminRole, Authentication, Person},
    time::Timestamp,
};

use super::problem::HttpProblem;

/// What a request was authenticated with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// The token of a sign-in, by the hash it is stored under.
    SignIn {
        /// SHA-256 of the token.
        token_hash: Vec<u8>,
    },
    /// An API token.
    ApiToken(ApiTokenId),
}

/// Who asks, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The person; enabled.
    pub person: Person,
    /// How strongly that is proven.
    pub authentication: Authentication,
    /// With what.
    pub bearer: Bearer,
    /// What the token may do at most; `None` means all that the person may.
    pub scopes: Option<Vec<AdminAction>>,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// The client's address as the listener saw it; never a forwarded header.
    pub ip: IpAddr,
}

impl Caller {
    /// Whether roles and scopes allow `action`. The guard has checked the action of the route; slices
    /// ask again where one route shows more to some, such as everybody's requests instead of one's own.
    #[must_use]
    pub fn is_permitted(&self, action: AdminAction) -> bool {
        let roles: Vec<AdminRole> = AdminRole::ALL
            .into_iter()
            .filter(|role| self.person.has_role(*role))
            .collect();
        let is_in_scope = self
            .scopes
            .as_ref()
            .is_none_or(|scopes| scopes.contains(&action));
        is_in_scope && is_admin_permitted(action, &roles)
    }

    /// Whether this is a sign-in and no API token: what changes who somebody is needs that.
    #[must_use]
    pub const fn is_signed_in(&self) -> bool {
        matches!(self.bearer, Bearer::SignIn { .. })
    }

    /// The person as the actor of a transaction.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Person(self.person.id.clone())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| HttpProblem::bug("an anonymous route asks for its caller"))
    }
}

/// The address of the client, as the listener saw it. Put into every request by the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts
            .extensions
            .get::<Self>()
            .copied()
            .ok_or_else(|| HttpProblem::bug("a request without the address of its client"))
    }
}
