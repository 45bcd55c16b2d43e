//! Audit events: who did what to what, as canonical values. Every state change commits with at least
//! one of them.
//!
//! The catalogue of names is [`EventName`]; the fields under `data` are listed with each name.
//! INVARIANT: an event holds strings, booleans and whole numbers only (RFC 8785 without floats), no
//! secret, and no free text longer than its field allows.
//!
//! Not here: sequence numbers, hashes and bytes (`sallyport-evidence`).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::id::{GatewayId, PersonId};

macro_rules! event_names {
    ($($variant:ident $name:literal $doc:literal;)+) => {
        /// What happened, past tense.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventName {
            $(#[doc = $doc] $variant,)+
        }

        impl EventName {
            /// Every name.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As recorded: `noun.verbed`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, and its fields.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc),+ }
            }
        }
    };
}

event_names! {
    ControlStarted "control.started" "The control plane started. `version`, `restarted_after_crash`.";
    ControlStopped "control.stopped" "The control plane stopped in order.";
    GatewayConnected "gateway.connected" "A gateway joined. `version`, `live_sessions`.";
    GatewayLost "gateway.lost" "A gateway's connection broke.";
    VaultInitialised "vault.initialised" "The vault was made. `seal`, `shares`, `threshold`.";
    VaultUnsealed "vault.unsealed" "The vault was unsealed. `seal`.";
    VaultUnsealFailed "vault.unseal_failed" "Shares did not open the vault. `reason`.";
    VaultSealed "vault.sealed" "The vault was sealed.";
    SecretWritten "secret.written" "A secret version was stored. `path`, `version`.";
    RotationPlanned "rotation.planned" "A password is to be rotated from time to time, or no more. `next_at`.";
    RotationDemanded "rotation.demanded" "Somebody had a password rotated as soon as possible.";
    RotationBegan "rotation.began" "The next password of an account was stored; its target is told now. `version`, `cause`.";
    RotationFailed "rotation.failed" "A password could not be rotated and will be tried again. `attempts`, `cause`.";
    SecretRotated "secret.rotated" "The target accepts the next password; the one before is retired. `version`.";
    EnrolmentIssued "enrolment.issued" "A one-time enrolment code was issued. `expires_at`, `roles`.";
    EnrolmentUsed "enrolment.used" "A one-time enrolment code was used.";
    PersonCreated "person.created" "A person was made. `name`, `admin_roles`, `groups`.";
    PersonChanged "person.changed" "A person was changed. `changed`: field names; `groups`, `admin_roles`.";
    PersonDisabled "person.disabled" "A person was disabled; sessions and grants end. `reason`.";
    PersonEnabled "person.enabled" "A person was enabled again.";
    KeyAdded "key.added" "An SSH key was registered. `fingerprint`, `algorithm`.";
    KeyRemoved "key.removed" "An SSH key was removed. `fingerprint`.";
    CertificateIssued "certificate.issued" "An SSH user certificate was issued at sign-in. `serial`, `fingerprint`, `expires_at`.";
    ApiTokenCreated "api_token.created" "An API token was made. `scopes`, `expires_at`.";
    ApiTokenRevoked "api_token.revoked" "An API token was revoked.";
    PassIssued "pass.issued" "Somebody made a pass. `account`, `target`, `expires_at`.";
    PasswordSet "password.set" "A password was set.";
    TotpSet "totp.set" "A one-time-code secret was set.";
    AuthenticationSucceeded "authentication.succeeded" "Somebody proved who they are. `methods`, `strength`, `ip`, `door`.";
    AuthenticationFailed "authentication.failed" "A proof failed. `claimed`, `method`, `reason`, `ip`, `door`.";
    AuthenticationLocked "authentication.locked" "Too many failures locked a name. `claimed`, `until`.";
    SignedOut "authentication.ended" "Somebody signed out.";
    TargetCreated "target.created" "A target was made. `name`, `address`, `protocol`, `sensitivity`.";
    TargetChanged "target.changed" "A target was changed. `changed`.";
    TargetRemoved "target.removed" "A target was removed.";
    HostKeyPinned "target.host_key_pinned" "The first host key seen was pinned. `fingerprint`.";
    HostKeyMismatched "target.host_key_mismatched" "A target showed another host key than the pinned one. `fingerprint`.";
    AccountCreated "account.created" "An account was made. `name`, `target`, `engine`.";
    AccountChanged "account.changed" "An account was changed. `changed`.";
    AccountRemoved "account.removed" "An account was removed.";
    RequestCreated "request.created" "Access was asked for. `account`, `target`, `reason`, `ticket`, `duration_s`, `content_hash`, `quorums`, decision fields.";
    RequestRefused "request.refused" "Asking was refused. `account`, `target`, `reasons`, `unmet`, decision fields.";
    RequestApproved "request.approved" "One approver voted yes. `content_hash`, `approvals_missing`, `comment`.";
    RequestVetoed "request.denied" "One approver voted no. `content_hash`, `comment`.";
    RequestCancelled "request.cancelled" "The requester took it back.";
    RequestExpired "request.expired" "Not enough votes in time.";
    GrantOpened "grant.opened" "Access began. `request_id`, `person_id`, `account`, `target`, `until`, `is_break_glass`, `is_automatic`.";
    GrantEnded "grant.ended" "Access ended. `reason`, `comment`.";
    BreakGlassUsed "break_glass.used" "Somebody broke the glass. `grant_id`, `review_id`, `reason`.";
    ReviewClosed "review.closed" "A break-glass review was closed. `grant_id`, `finding`.";
    SessionDecided "session.decided" "Opening a session was asked and not permitted. `outcome`, `reasons`, `unmet`, decision fields.";
    SessionOpened "session.opened" "A session was permitted; lease intent recorded. `grant_id`, `permit_id`, `recording_id`, `lease_id`, decision fields.";
    SessionEnded "session.ended" "A session ended. `reason`, byte counts, `recording_digest`.";
    SessionEndRequested "session.end_requested" "Somebody asked to end a session. `comment`.";
    SessionJoined "session.joined" "Somebody joined a live session. `watcher_id`, `has_keyboard`.";
    SessionLeft "session.left" "Somebody who had joined is gone. `watcher_id`, `reason`.";
    SessionMessaged "session.messaged" "Somebody said something to the person of a session. `text`.";
    SessionPaused "session.paused" "Somebody paused a session; nothing passes.";
    SessionResumed "session.resumed" "Somebody resumed a session.";
    LeaseIssued "lease.issued" "A credential was made. `engine`, `expires_at`, `handle`.";
    LeaseFailed "lease.failed" "A credential could not be made. `engine`, `cause`.";
    LeaseRevoked "lease.revoked" "A credential is gone. `engine`, `attempts`.";
    LeaseRevocationFailed "lease.revocation_failed" "Revoking failed and will be tried again. `engine`, `attempts`.";
    LeaseRetried "lease.retried" "Somebody had a revocation tried at once. `engine`, `attempts`.";
    LeaseOrphanRemoved "lease.orphan_removed" "A user of ours that no lease knows of was removed from a target. `target`, `user`.";
    OperationRecorded "operation.recorded" "One operation of a session. `kind`, `detail`, `facts`, `outcome`, `exit_status`, `size_bytes`, `sha256`, `statement`, times.";
    StatementsRecorded "statements.recorded" "Statements of a session that ran one after the other. `person_id`, `statements`: each as the list of operations has it.";
    OperationHeld "operation.held" "An operation waits for other people. `session_id`, `person_id`, `account`, `target`, `kind`, `detail`, `command_hash`, `content_hash`, `quorums`, `expires_at`, `bundle`.";
    OperationApproved "operation.approved" "One approver voted yes on a held operation. `content_hash`, `approvals_missing`, `comment`.";
    OperationVetoed "operation.denied" "One approver voted no on a held operation. `content_hash`, `comment`.";
    OperationReleased "operation.released" "A held operation was let through, once. `session_id`, `command_hash`, `content_hash`, `approved_by`.";
    OperationWithdrawn "operation.withdrawn" "A held operation was given up. `session_id`, `cause`.";
    OperationExpired "operation.expired" "A held operation was not approved in time. `session_id`.";
    RecordingAnchored "recording.anchored" "A recording's chain so far. `session_id`, `chunks`, `chain`, `size_bytes`.";
    RecordingCompleted "recording.completed" "A recording is whole. `session_id`, `chunks`, `chain`, `size_bytes`.";
    RecordingCutOff "recording.cut_off" "A recording ended without its last chunk, as after a crash. `session_id`, `chunks`, `chain`.";
    RecordingPlayed "recording.played" "Somebody read a recording. `session_id`, `format`.";
    AuditExported "audit.exported" "Somebody exported the log. `from`, `size`.";
    RestoreAccepted "audit.restore_accepted" "An operator accepted a store that is older than what was signed here; everything was locked. `entries`, `found`, `reason`.";
    PolicyApplied "policy.applied" "A bundle came into force. `bundle`, `previous`, `version`.";
    PolicyRolledBack "policy.rolled_back" "An earlier bundle came into force again. `bundle`, `previous`, `version`.";
    LockAdded "lock.added" "A lock came into force. `scope`, `reason`, `until`.";
    LockRemoved "lock.removed" "A lock was removed.";
    WebhookChanged "webhook.changed" "The notification webhook was changed. `url_host`.";
    NoticeFailed "notice.failed" "A notice could not be delivered and will be tried again. `kind`, `attempts`, `reason`.";
    ClockWentBack "control.clock_went_back" "The system clock is behind the last recorded time; time goes on from there until it catches up. `behind_s`.";
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person.
    Person(PersonId),
    /// A gateway, on its own account.
    Gateway(GatewayId),
    /// The control plane itself: expiry, sweeps, start and stop.
    System,
    /// Somebody who has not proven who they are.
    Anonymous,
}

impl Actor {
    /// As recorded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Person(id) => id.as_str(),
            Self::Gateway(id) => id.as_str(),
            Self::System => "system",
            Self::Anonymous => "anonymous",
        }
    }
}

/// One thing that happened, before it has a place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub name: EventName,
    /// To what: an id, or `-`.
    pub subject: String,
    /// The fields of this name.
    pub fields: Map<String, Value>,
}

impl Event {
    /// An event without fields.
    #[must_use]
    pub fn new(name: EventName, subject: impl ToString) -> Self {
        Self {
            name,
            subject: subject.to_string(),
            fields: Map::new(),
        }
    }

    /// Adds a field. A value that is no string, boolean, whole number, list or map of them is recorded
    /// as its text, so that an event can always be encoded.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        let value = match has_float(&value) {
            true => without_floats(value),
            false => value,
        };
        self.fields.insert(field.to_owned(), value);
        self
    }
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn without_floats(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::String(number.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(without_floats).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, without_floats(value)))
                .collect(),
        ),
        other => other,
    }
}

/// At least one event: what a transaction demands before it commits.
#[derive(Clone, Debug)]
pub struct Events {
    first: Event,
    rest: Vec<Event>,
}

impl Events {
    /// One event.
    #[must_use]
    pub const fn one(event: Event) -> Self {
        Self {
            first: event,
            rest: Vec::new(),
        }
    }

    /// These and one more.
    #[must_use]
    pub fn and(mut self, event: Event) -> Self {
        self.rest.push(event);
        self
    }

    /// These and more.
    #[must_use]
    pub fn and_all(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.rest.extend(events);
        self
    }

    /// All, in order.
    pub fn into_iter_all(self) -> impl Iterator<Item = Event> {
        std::iter::once(self.first).chain(self.rest)
    }

    /// How many, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rest.len().saturating_add(1)
    }
}
