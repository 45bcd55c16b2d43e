//! What the gateway says in this protocol: errors with a number, SQLSTATE, stable code and what to do.
//!
//! A client shows nothing but errors, and of each at most 512 bytes.
//!
//! INVARIANT: nothing from outside reaches a terminal unescaped (security class K5).

use bytes::{BufMut as _, BytesMut};
use sallyport_api::gateway::{ChallengeAnswer, Refused, RequestProgress};
use sallyport_core::{authz::Reason, id::RequestId, inventory::Selector};
use sallyport_evidence::recording::escape_controls;

use super::{
    super::{masking::KEPT_BACK, wording},
    codec::{CodecError, ERROR, Report, ServerError, put_packet},
    limits::ERROR_BYTES_MAX,
};
use crate::session::End;

/// A client that speaks no TLS (`ER_SECURE_TRANSPORT_REQUIRED`).
pub(super) const TLS_REQUIRED: Report<'static> = Report {
    number: 3_159,
    state: "08004",
    message: "sallyport: this gateway is reached over TLS only; use --ssl-mode=VERIFY_IDENTITY (mysql) or \
              --ssl-verify-server-cert (mariadb) with --ssl-ca set to the file that `sallyport login` wrote",
};

/// A client whose answer cannot be followed (`ER_HANDSHAKE_ERROR`).
pub(super) const NOT_SPOKEN: Report<'static> = Report {
    number: 1_043,
    state: "08S01",
    message: "sallyport: this way of logging in is not spoken here; use a client of MySQL 5.7 or MariaDB 10.2 \
              or newer",
};

/// A set of characters in which SQL is not what it seems (`ER_UNKNOWN_CHARACTER_SET`).
pub(super) const CHARACTER_SET: Report<'static> = Report {
    number: 1_115,
    state: "42000",
    message: "sallyport: this set of characters is not accepted, because SQL reads differently in it; use \
              utf8mb4",
};

/// A user name that is no selector (`ER_ACCESS_DENIED_ERROR`).
pub(super) const NO_SELECTOR: Report<'static> = Report {
    number: 1_045,
    state: "28000",
    message: "sallyport: the user name is not account@target (selector-invalid); connect as account@target, \
              for example --user=app@orders",
};

/// A password that proves nobody. The same whatever was wrong with it.
pub(super) const NOT_PROVEN: Report<'static> = Report {
    number: 1_045,
    state: "28000",
    message: "sallyport: this password proves nobody; the password is a pass: `sallyport db token \
              ACCOUNT@TARGET` makes one",
};

/// Whoever failed too often.
pub(super) const BARRED: Report<'static> = Report {
    number: 1_045,
    state: "28000",
    message: "sallyport: too many failed attempts (too-many-attempts); wait 15 minutes, or ask an owner",
};

/// A prepared statement that nobody prepared (`ER_UNKNOWN_STMT_HANDLER`).
pub(super) const NO_SUCH_STATEMENT: Report<'static> = Report {
    number: 1_243,
    state: "HY000",
    message: "sallyport: no statement was prepared under this number",
};

/// A connection to kill that is none of the person's own (`ER_NO_SUCH_THREAD`).
pub(super) const NOT_OWN_CONNECTION: Report<'static> = Report {
    number: 1_094,
    state: "HY000",
    message: "sallyport: KILL stops your own sessions with this account and nothing else; the number is the \
              one that your client was greeted with, or CONNECTION_ID()",
};

/// An error of ours whose words are made for the occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    number: u16,
    state: &'static str,
    message: String,
}

impl Told {
    fn new(number: u16, state: &'static str, mut message: String) -> Self {
        let end = message.floor_char_boundary(ERROR_BYTES_MAX);
        message.truncate(end);
        Self {
            number,
            state,
            message,
        }
    }

    /// As the protocol says it.
    pub(super) fn report(&self) -> Report<'_> {
        Report {
            number: self.number,
            state: self.state,
            message: &self.message,
        }
    }
}

impl From<Report<'_>> for Told {
    fn from(report: Report<'_>) -> Self {
        Self::new(report.number, report.state, report.message.to_owned())
    }
}

/// Why a connection ends before its session begins.
pub(super) fn denial(selector: &Selector, refused: &Refused) -> Told {
    let reason = refused.reasons.first().copied();
    let reason = reason.unwrap_or(Reason::ControlUnavailable);
    let reference = match refused.reference.as_str() {
        "" => String::new(),
        reference => format!("; reference: {}", escape_controls(reference)),
    };
    let (number, state) = codes(reason, 1_045, "28000");
    let message = format!(
        "sallyport: {}@{} is refused: {} ({}); {}{reference}",
        selector.account,
        selector.target,
        reason.message(),
        reason.code(),
        reason.remedy(),
    );
    Told::new(number, state, message)
}

/// Why a connection ends before its session begins, where only the reason is known.
pub(super) fn no_session(reason: Reason) -> Told {
    let (number, state) = codes(reason, 1_045, "28000");
    Told::new(number, state, wording::reason_line(reason))
}

/// What is missing, where to give it, and what to do then. Nobody can be asked while a client logs in.
pub(super) fn missing(selector: &Selector, answer: &ChallengeAnswer) -> Told {
    let message = format!(
        "{}; ask for it: sallyport request create {}@{} --reason '...'; then connect again",
        wording::challenge(selector, answer),
        selector.account,
        selector.target,
    );
    Told::new(1_045, "28000", message)
}

/// Where a request stands that has to be waited for elsewhere.
pub(super) fn waiting(request_id: &RequestId, progress: &RequestProgress) -> Told {
    let message = format!(
        "{}; connect again once it is granted: sallyport request show {request_id}",
        wording::progress(request_id, progress).replace('\n', "; "),
    );
    Told::new(1_045, "28000", message)
}

/// Why one command was refused, with the words of whoever did.
pub(super) fn refusal(reason: Reason, comment: &str) -> Told {
    let (number, state) = codes(reason, 1_227, "42000");
    Told::new(number, state, wording::held_refusal(reason, comment))
}

/// Puts a target's error about what may hold values that are not shown: its codes, and none of its words.
pub(super) fn put_kept_back(
    out: &mut BytesMut,
    sequence: u8,
    error: &ServerError,
) -> Result<(), CodecError> {
    put_packet(out, sequence, |body| {
        body.put_u8(ERROR);
        body.put_u16_le(error.number);
        body.put_u8(b'#');
        let state = match error.state.as_str() {
            "" => "HY000",
            state => state,
        };
        body.put_slice(state.as_bytes());
        body.put_slice(KEPT_BACK.as_bytes());
    })
}

/// A command that is never passed on (`ER_UNKNOWN_COM_ERROR`).
pub(super) fn unknown_command(name: &str) -> Told {
    let message = format!(
        "sallyport: {name} is not passed on by this gateway ({})",
        Reason::FeatureRefused.code()
    );
    Told::new(1_047, "08S01", message)
}

/// Why the session is over (`ER_CONNECTION_KILLED`).
pub(super) fn end(end: &End) -> Told {
    Told::new(1_927, "70100", wording::end(end))
}

/// The number and SQLSTATE that programs understand best.
const fn codes(reason: Reason, number: u16, state: &'static str) -> (u16, &'static str) {
    match reason {
        Reason::OperationTooLong => (1_153, "08S01"),
        // As servers say it of columns that an account may not see.
        Reason::MaskedColumn => (1_143, "42000"),
        // As servers say it of read-only transactions, and of statements that are stopped or run too long.
        Reason::ReadOnly => (1_792, "25006"),
        Reason::RowBudget | Reason::ByteBudget => (1_317, "70100"),
        Reason::TimeBudget => (1_969, "70100"),
        Reason::TargetUnreachable
        | Reason::HostKeyChanged
        | Reason::HostKeyUnknown
        | Reason::TargetRefused => (1_429, "08S01"),
        Reason::ControlUnavailable
        | Reason::VaultSealed
        | Reason::CredentialUnavailable
        | Reason::RecorderFailed
        | Reason::AuditFailed => (1_105, "08S01"),
        _ => (number, state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K5, G10
    #[test]
    fn given_a_denial_then_it_names_its_code_and_nothing_controls_a_terminal() {
        let selector = "app@orders".parse().unwrap();
        let refused = Refused {
            reasons: vec![Reason::NotPermitted],
            reference: "ses_1\u{1b}[2J".to_owned(),
        };
        let told = denial(&selector, &refused);
        for expected in ["(not-permitted)", "app@orders", "ses_1"] {
            assert!(told.message.contains(expected), "{told:?}");
        }
        assert!(!told.message.contains('\u{1b}'));
    }

    #[test]
    fn given_many_words_then_a_client_gets_as_many_as_it_shows() {
        let told = refusal(Reason::Forbidden, &"é".repeat(1_000));
        assert!(
            told.message.len() <= ERROR_BYTES_MAX,
            "{}",
            told.message.len()
        );
        for report in [TLS_REQUIRED, NOT_SPOKEN, NOT_PROVEN, NOT_OWN_CONNECTION] {
            assert!(report.message.len() <= ERROR_BYTES_MAX);
        }
    }
}
