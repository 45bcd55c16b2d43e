//! Who may do what to Sallyport itself: a fixed table, because a policy that could widen it could
//! widen itself.
//!
//! INVARIANT: every route and command names one action of this list; an action without a row is
//! permitted to nobody.

use serde::{Deserialize, Serialize};

use crate::principal::AdminRole;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($role:ident),*];)+) => {
        /// An act on Sallyport itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AdminAction {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl AdminAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// `noun.verb`, as records and API token scopes spell it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Roles that may do it.
            #[must_use]
            pub const fn roles(self) -> &'static [AdminRole] {
                match self { $(Self::$variant => &[$(AdminRole::$role),*]),+ }
            }
        }
    };
}

actions! {
    /// See one's own account, keys, tokens.
    SelfShow "self.show" [Member];
    /// Change one's own keys, password, tokens.
    SelfEdit "self.edit" [Member];
    /// See people and groups.
    PersonList "person.list" [Owner, Security, Auditor, Approver];
    /// Make, change, disable people and their groups; give roles below or equal to one's own.
    PersonEdit "person.edit" [Owner];
    /// Disable a person at once.
    PersonDisable "person.disable" [Owner, Security];
    /// See targets and accounts.
    TargetList "target.list" [Member];
    /// Make, change, remove targets and accounts.
    TargetEdit "target.edit" [Owner];
    /// Ask for access; see, cancel one's own requests.
    RequestCreate "request.create" [Member];
    /// See everybody's requests.
    RequestList "request.list" [Owner, Security, Approver, Auditor];
    /// Vote on requests.
    RequestVote "request.vote" [Approver, Security, Owner];
    /// See everybody's held operations.
    OperationList "operation.list" [Owner, Security, Approver, Auditor];
    /// Vote on held operations.
    OperationVote "operation.vote" [Approver, Security, Owner];
    /// See everybody's grants.
    GrantList "grant.list" [Owner, Security, Approver, Auditor];
    /// End anybody's grant.
    GrantEnd "grant.end" [Owner, Security, Approver];
    /// See everybody's sessions.
    SessionList "session.list" [Owner, Security, Approver, Auditor];
    /// End anybody's session.
    SessionEnd "session.end" [Owner, Security, Approver];
    /// Join live sessions with the keyboard.
    SessionJoin "session.join" [Security];
    /// Say something to the person of anybody's session; pause and resume it.
    SessionPause "session.pause" [Owner, Security, Approver];
    /// Watch live sessions and play recordings.
    RecordingPlay "recording.play" [Security, Auditor];
    /// Read and export the audit log.
    AuditRead "audit.read" [Security, Auditor];
    /// See policies and explain decisions.
    PolicyShow "policy.show" [Owner, Security, Auditor];
    /// Change policies.
    PolicyApply "policy.apply" [Security];
    /// Set locks.
    LockAdd "lock.add" [Owner, Security];
    /// Remove locks.
    LockRemove "lock.remove" [Owner, Security];
    /// See break-glass reviews.
    ReviewList "review.list" [Owner, Security, Auditor];
    /// Close break-glass reviews.
    ReviewClose "review.close" [Security];
    /// Store secrets (never read them).
    SecretWrite "secret.write" [Owner];
    /// See leases.
    LeaseList "lease.list" [Owner, Security, Auditor];
    /// Have stored passwords changed at their targets.
    SecretRotate "secret.rotate" [Owner, Security];
    /// Have the revocation of a credential tried at once.
    LeaseRetry "lease.retry" [Owner, Security];
    /// Make the vault, once.
    VaultInitialise "vault.initialise" [Owner];
    /// Seal the vault.
    VaultSeal "vault.seal" [Owner, Security];
}

/// Whether somebody with `roles` may do `action`. Ownership of one's own things is checked by the
/// slice that holds them.
#[must_use]
pub fn is_admin_permitted(action: AdminAction, roles: &[AdminRole]) -> bool {
    action.roles().iter().any(|role| roles.contains(role))
}
