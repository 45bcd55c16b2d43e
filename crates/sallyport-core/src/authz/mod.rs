//! The policy decision point: one pure function from a [`Question`] to a [`Decision`].
//!
//! The broker asks before every request and session; the gateway asks again for every operation.
//! Administrative acts on Sallyport itself are decided by [`admin`].
//!
//! INVARIANT: a [`Permit`] exists only because [`decide`] returned an [`Authorisation`] or because its
//! signature verified.

mod admin;
mod decide;
mod demands;
mod permit;
mod question;
mod reason;

pub use admin::{AdminAction, is_admin_permitted};
pub use decide::{
    Authorisation, Decision, Evaluation, OperationAnswer, PolicyEngine, PolicyError, TerminalRules,
    Trace, Unmet, decide, decide_operation, terminal_rules,
};
pub use permit::{Permit, PermitError, PermitIds, PermitTerms, SignedPermit};
pub use question::{
    AccountFacts, Action, GrantFacts, HistoryFacts, NetworkFacts, OperationFacts, PrincipalFacts,
    Question, RequestFacts, SessionQuestion, TargetFacts,
};
pub use reason::Reason;
