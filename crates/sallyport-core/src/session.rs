//! Sessions and the operations within them, as both sides of the gateway RPC name them.

pub mod oversight;
mod statement;

use serde::{Deserialize, Serialize};

pub use self::statement::{ANY_RELATION, StatementFacts, Verb};

use crate::{
    authz::{Action, Reason},
    id::OperationId,
    policy::Restraint,
    time::Timestamp,
};

/// Why a session ended. Printed to the person, counted and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The client left.
    ClientClosed,
    /// The target closed the connection.
    TargetClosed,
    /// The target could not be reached or refused the credential.
    TargetUnreachable,
    /// The target's identity is not the pinned one.
    HostKeyChanged,
    /// Somebody ended this session.
    EndedByOperator,
    /// Somebody ended the grant.
    GrantEnded,
    /// The grant ran out.
    GrantExpired,
    /// A lock stopped it.
    Locked,
    /// The person was disabled.
    PersonDisabled,
    /// A policy change no longer permits it.
    PolicyChanged,
    /// Policy demands that it only reads, which its protocol cannot enforce.
    ReadOnlyNotEnforced,
    /// Policy limits results, which its protocol cannot enforce.
    BudgetsNotEnforced,
    /// Policy masks columns, which its protocol cannot enforce.
    MasksNotEnforced,
    /// Nothing passed for longer than policy allows.
    IdleTimeout,
    /// Nobody watched it for longer than the policy that demands a watcher allows.
    Unwatched,
    /// The recording could not be written.
    RecorderFailed,
    /// The control plane was away for longer than allowed.
    ControlLost,
    /// The gateway stopped or died.
    GatewayStopped,
    /// A fault in our own code ended this session only.
    Panicked,
}

impl EndReason {
    /// The stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client-closed",
            Self::TargetClosed => "target-closed",
            Self::TargetUnreachable => "target-unreachable",
            Self::HostKeyChanged => "host-key-changed",
            Self::EndedByOperator => "ended-by-operator",
            Self::GrantEnded => "grant-ended",
            Self::GrantExpired => "grant-expired",
            Self::Locked => "locked",
            Self::PersonDisabled => "person-disabled",
            Self::PolicyChanged => "policy-changed",
            Self::ReadOnlyNotEnforced => Reason::ReadOnlyNotEnforced.code(),
            Self::BudgetsNotEnforced => Reason::BudgetsNotEnforced.code(),
            Self::MasksNotEnforced => Reason::MasksNotEnforced.code(),
            Self::IdleTimeout => "idle-timeout",
            Self::Unwatched => "unwatched",
            Self::RecorderFailed => "recorder-failed",
            Self::ControlLost => "control-lost",
            Self::GatewayStopped => "gateway-stopped",
            Self::Panicked => "panicked",
        }
    }

    /// What the person is told.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::ClientClosed => "you closed the session",
            Self::TargetClosed => "the target closed the connection",
            Self::TargetUnreachable => "the target could not be reached or refused the credential",
            Self::HostKeyChanged => {
                "the target's host key is not the pinned one; tell your security team"
            }
            Self::EndedByOperator => "this session was ended by an operator",
            Self::GrantEnded => "your grant was ended",
            Self::GrantExpired => "your grant has run out; ask again if you still need access",
            Self::Locked => "access is locked",
            Self::PersonDisabled => "your account is disabled",
            Self::PolicyChanged => "policy no longer permits this session",
            Self::ReadOnlyNotEnforced => Reason::ReadOnlyNotEnforced.message(),
            Self::BudgetsNotEnforced => Reason::BudgetsNotEnforced.message(),
            Self::MasksNotEnforced => Reason::MasksNotEnforced.message(),
            Self::IdleTimeout => "the session was idle for too long",
            Self::Unwatched => "nobody watched this session, and policy demands a watcher",
            Self::RecorderFailed => {
                "the recording could not be written, and nothing goes on unrecorded"
            }
            Self::ControlLost => "the control plane has been away for too long",
            Self::GatewayStopped => "the gateway is stopping",
            Self::Panicked => "a fault in the gateway ended this session; please report it",
        }
    }
}

impl From<Restraint> for EndReason {
    /// Why a session is over whose protocol does not enforce what policy demands.
    fn from(restraint: Restraint) -> Self {
        match restraint {
            Restraint::ReadOnly => Self::ReadOnlyNotEnforced,
            Restraint::Budgets => Self::BudgetsNotEnforced,
            Restraint::Masks => Self::MasksNotEnforced,
        }
    }
}

impl EndReason {
    /// What somebody is told who is not let in because of it; nothing for an end that only sessions have.
    #[must_use]
    pub const fn refusal(self) -> Option<Reason> {
        match self {
            Self::ReadOnlyNotEnforced => Some(Reason::ReadOnlyNotEnforced),
            Self::BudgetsNotEnforced => Some(Reason::BudgetsNotEnforced),
            Self::MasksNotEnforced => Some(Reason::MasksNotEnforced),
            _ => None,
        }
    }
}

/// What kind of thing is done within a session. As policy reads it in `context.operation.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// An interactive shell.
    Shell,
    /// One command run without a shell prompt.
    Exec,
    /// A named SSH subsystem, such as `sftp`.
    Subsystem,
    /// A file moved to the target.
    FileUpload,
    /// A file moved from the target.
    FileDownload,
    /// A file or directory changed in another way: removed, renamed, made, its attributes set.
    FileChange,
    /// A command typed at a prompt; evidence only, it cannot be refused.
    TypedCommand,
    /// A connection from the client's side to an address that the target reaches.
    ForwardLocal,
    /// A connection from the client's side to a Unix socket of the target.
    ForwardLocalSocket,
    /// Listening on an address of the target, and each connection that comes in there.
    ForwardRemote,
    /// Listening on a Unix socket of the target, and each connection that comes in there.
    ForwardRemoteSocket,
    /// Use of the client's agent by the target.
    ForwardAgent,
    /// An environment variable for what is launched.
    Environment,
    /// Use of one database of a server.
    Database,
    /// SQL as a client sent it: one statement, or several in one message.
    Statement,
    /// A function of a database called without SQL.
    FunctionCall,
    /// A connection that follows a database's changes.
    Replication,
    /// A file of the client's that a database asks for while it loads it.
    LocalFile,
    /// Something the protocol has and we never offer; evidence only, no policy can permit it.
    Unsupported,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::Shell,
        Self::Exec,
        Self::Subsystem,
        Self::FileUpload,
        Self::FileDownload,
        Self::FileChange,
        Self::TypedCommand,
        Self::ForwardLocal,
        Self::ForwardLocalSocket,
        Self::ForwardRemote,
        Self::ForwardRemoteSocket,
        Self::ForwardAgent,
        Self::Environment,
        Self::Database,
        Self::Statement,
        Self::FunctionCall,
        Self::Replication,
        Self::LocalFile,
        Self::Unsupported,
    ];

    /// As policies and the audit log spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec => "exec",
            Self::Subsystem => "subsystem",
            Self::FileUpload => "file_upload",
            Self::FileDownload => "file_download",
            Self::FileChange => "file_change",
            Self::TypedCommand => "typed_command",
            Self::ForwardLocal => "forward_local",
            Self::ForwardLocalSocket => "forward_local_socket",
            Self::ForwardRemote => "forward_remote",
            Self::ForwardRemoteSocket => "forward_remote_socket",
            Self::ForwardAgent => "forward_agent",
            Self::Environment => "environment",
            Self::Database => "database",
            Self::Statement => "statement",
            Self::FunctionCall => "function_call",
            Self::Replication => "replication",
            Self::LocalFile => "local_file",
            Self::Unsupported => "unsupported",
        }
    }
}

/// One thing somebody is about to do within a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// What exactly: the command line, the file's path, the subsystem's name, `NAME=value`, the
    /// database's name, the SQL, or where a connection goes: `db-1.internal:5432`, `[2001:db8::1]:443`, `/run/app.sock`. Destinations in
    /// their one canonical spelling, everything else as the protocol spelled it, invalid UTF-8
    /// replaced; at most 32 KiB.
    pub detail: String,
    /// What a statement does, where its protocol reads it. A statement without them is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Box<StatementFacts>>,
    /// Kind.
    pub kind: OperationKind,
}

/// The subsystem whose every file is an operation of its own. Others are bytes without meaning to us.
const FOLLOWED_SUBSYSTEM: &str = "sftp";

impl Operation {
    /// What policies are asked about it: whether it may run, or, for what is off until a policy names
    /// it, whether the feature may be used.
    #[must_use]
    pub fn action(&self) -> Action {
        match self.kind {
            OperationKind::Shell
            | OperationKind::Exec
            | OperationKind::FileUpload
            | OperationKind::FileDownload
            | OperationKind::FileChange
            | OperationKind::TypedCommand
            | OperationKind::Database
            | OperationKind::Statement => Action::OperationRun,
            OperationKind::Subsystem if self.detail == FOLLOWED_SUBSYSTEM => Action::OperationRun,
            OperationKind::Subsystem
            | OperationKind::ForwardLocal
            | OperationKind::ForwardLocalSocket
            | OperationKind::ForwardRemote
            | OperationKind::ForwardRemoteSocket
            | OperationKind::ForwardAgent
            | OperationKind::Environment
            | OperationKind::FunctionCall
            | OperationKind::Replication
            | OperationKind::LocalFile
            | OperationKind::Unsupported => Action::FeatureUse,
        }
    }
}

impl Operation {
    /// Whether it is one of a database that may do more than read.
    #[must_use]
    pub fn may_write(&self) -> bool {
        match self.kind {
            OperationKind::Statement => !self.facts.as_ref().is_some_and(|facts| facts.only_read()),
            OperationKind::FunctionCall | OperationKind::Replication => true,
            _ => false,
        }
    }
}

/// Longest `detail` of an operation, in bytes. A longer one is refused, not cut.
pub const OPERATION_DETAIL_BYTES_MAX: usize = 32 * 1024;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    /// Done.
    Completed,
    /// Let through; its end was not seen (the session was cut off).
    Interrupted,
    /// Stopped before it reached the target.
    Refused,
    /// The target said no.
    FailedAtTarget,
}

/// The evidence of one operation.
///
/// Its fields, and those of what it holds, stand in the order of their names: written as JSON it is canonical
/// (RFC 8785), as recordings and the log want it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// SSH channel, connection to a database or their like, as numbered in the recording.
    pub channel: u32,
    /// When its outcome was known.
    pub ended_at: Timestamp,
    /// Exit status, for commands that ended with one.
    pub exit_status: Option<u32>,
    /// Id.
    pub id: OperationId,
    /// What.
    pub operation: Operation,
    /// What became of it.
    pub outcome: OperationOutcome,
    /// Reason code, when refused.
    pub reason: Option<String>,
    /// SHA-256 of a file moved, lower-case hex; absent when it was not moved whole and in order.
    pub sha256: Option<String>,
    /// Bytes of a file moved, or of what a statement's result or copied rows took on the wire.
    pub size_bytes: Option<u64>,
    /// When it began.
    pub started_at: Timestamp,
    /// What is known of a statement beside its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementRecord>,
}

/// What is known of an executed statement beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRecord {
    /// How many parameters there were, when not all are in `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_count: Option<u32>,
    /// Values bound to its parameters, in order; nothing for NULL. Text as the client sent it, other
    /// bytes as `\x` and hex; each cut at [`PARAMETER_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Option<String>>,
    /// Rows that came back, or were copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The server's error code (SQLSTATE), when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// What the server says it did: `SELECT 3`; several separated by `; `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// SHA-256 of the whole text, lower-case hex, when the operation's detail is only its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<String>,
}

/// Longest value of one parameter in the evidence, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 1_024;
/// Most parameters of one statement in the evidence.
pub const PARAMETERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    /// RE-3
    #[test]
    fn the_evidence_of_an_operation_is_canonical_as_it_is_written() {
        let record = OperationRecord {
            channel: 1,
            ended_at: Timestamp::EPOCH,
            exit_status: Some(0),
            id: OperationId::new(Timestamp::EPOCH, [1; 10]),
            operation: Operation {
                detail: "SELECT 'é\n'".to_owned(),
                facts: Some(Box::new(StatementFacts::unknown())),
                kind: OperationKind::Statement,
            },
            outcome: OperationOutcome::Completed,
            reason: Some("forbidden".to_owned()),
            sha256: Some("00".to_owned()),
            size_bytes: Some(7),
            started_at: Timestamp::EPOCH,
            statement: Some(StatementRecord {
                parameter_count: Some(2),
                parameters: vec![Some("a".to_owned()), None],
                rows: Some(1),
                sqlstate: Some("42601".to_owned()),
                tag: Some("SELECT 1".to_owned()),
                text_sha256: Some("00".to_owned()),
            }),
        };
        let sorted = sorted(serde_json::to_value(&record).unwrap());
        assert_eq!(serde_json::to_string(&record).unwrap(), sorted.to_string());
    }

    /// The same with the names of every object in order, whatever order the map of `serde_json` keeps.
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let members: BTreeMap<_, _> = members.into_iter().collect();
                let members = members.into_iter();
                members
                    .map(|(name, member)| (name, sorted(member)))
                    .collect()
            }
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
}
