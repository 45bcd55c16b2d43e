//! What the gateway says in this protocol: errors and notices with SQLSTATE, stable code and hint.
//!
//! INVARIANT: nothing from outside reaches a terminal unescaped (security class K5).

use bytes::BytesMut;
use sallyport_api::gateway::Refused;
use sallyport_core::{authz::Reason, inventory::Selector, session::EndReason};
use sallyport_evidence::recording::escape_controls;

use super::{
    super::{masking::KEPT_BACK, wording},
    codec::{self, CodecError, Report},
};
use crate::session::End;

/// A client that speaks no TLS.
pub(super) const TLS_REQUIRED: Report<'static> = Report {
    severity: "FATAL",
    code: "28000",
    message: "sallyport: this gateway is reached over TLS only",
    detail: None,
    hint: Some(
        "use sslmode=verify-full with the sslrootcert that `sallyport login` wrote; sslmode=require at least",
    ),
};

/// A version of the protocol that nobody speaks any more, or yet.
pub(super) const OTHER_VERSION: Report<'static> = Report {
    severity: "FATAL",
    code: "0A000",
    message: "sallyport: this version of the protocol is not spoken here",
    detail: None,
    hint: Some("use a client that speaks version 3.0 or 3.2"),
};

/// A user name that is no selector.
pub(super) const NO_SELECTOR: Report<'static> = Report {
    severity: "FATAL",
    code: "28000",
    message: "sallyport: the user name is not account@target (selector-invalid)",
    detail: None,
    hint: Some("connect as account@target, for example psql -U app@orders"),
};

/// A password that proves nobody. The same whatever was wrong with it.
pub(super) const NOT_PROVEN: Report<'static> = Report {
    severity: "FATAL",
    code: "28P01",
    message: "sallyport: this password proves nobody",
    detail: None,
    hint: Some("the password is a pass: `sallyport db token ACCOUNT@TARGET` makes one"),
};

/// Whoever failed too often.
pub(super) const BARRED: Report<'static> = Report {
    severity: "FATAL",
    code: "28P01",
    message: "sallyport: too many failed attempts (too-many-attempts)",
    detail: None,
    hint: Some("wait 15 minutes, or ask an owner"),
};

/// Appends why a connection ends before its session begins.
pub(super) fn put_denial(
    out: &mut BytesMut,
    selector: &Selector,
    refused: &Refused,
) -> Result<(), CodecError> {
    let reason = refused.reasons.first().copied();
    let reason = reason.unwrap_or(Reason::ControlUnavailable);
    let reference = escape_controls(&refused.reference);
    Report {
        severity: "FATAL",
        code: sqlstate(reason),
        message: &format!(
            "sallyport: {}@{} is refused: {} ({})",
            selector.account,
            selector.target,
            reason.message(),
            reason.code()
        ),
        detail: (!reference.is_empty())
            .then(|| format!("reference: {reference}"))
            .as_deref(),
        hint: Some(reason.remedy()),
    }
    .put(out)
}

/// Appends why a connection ends, where only the reason is known.
pub(super) fn put_fatal(out: &mut BytesMut, reason: Reason) -> Result<(), CodecError> {
    put_reason(out, "FATAL", reason, "")
}

/// Appends why one statement was refused, with the words of whoever did.
pub(super) fn put_refusal(
    out: &mut BytesMut,
    reason: Reason,
    comment: &str,
) -> Result<(), CodecError> {
    put_reason(out, "ERROR", reason, comment)
}

fn put_reason(
    out: &mut BytesMut,
    severity: &'static str,
    reason: Reason,
    comment: &str,
) -> Result<(), CodecError> {
    let comment = escape_controls(comment);
    Report {
        severity,
        code: sqlstate(reason),
        message: &format!("sallyport: {} ({})", reason.message(), reason.code()),
        detail: (!comment.is_empty()).then_some(&*comment),
        hint: Some(reason.remedy()),
    }
    .put(out)
}

/// Appends why the session is over.
pub(super) fn put_end(out: &mut BytesMut, end: &End) -> Result<(), CodecError> {
    Report {
        severity: "FATAL",
        code: "57P01",
        message: &wording::end(end),
        detail: None,
        hint: match end.reason {
            EndReason::GrantExpired | EndReason::GrantEnded => {
                Some("ask for access again: `sallyport request create`")
            }
            _ => None,
        },
    }
    .put(out)
}

/// Appends lines for the person, a notice each.
pub(super) fn put_notices(out: &mut BytesMut, text: &str) -> Result<(), CodecError> {
    for line in text.lines().filter(|line| !line.is_empty()) {
        Report {
            severity: "NOTICE",
            code: "00000",
            message: line,
            detail: None,
            hint: None,
        }
        .put(out)?;
    }
    Ok(())
}

/// The SQLSTATE that programs understand best.
/// Appends an error of the target's without its words, which may hold values that are not shown.
pub(super) fn put_kept_back(out: &mut BytesMut, sqlstate: &str) -> Result<(), CodecError> {
    codec::message(out, b'E', |body| {
        for (field, text) in [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', sqlstate),
            (b'M', KEPT_BACK),
        ] {
            body.extend_from_slice(&[field]);
            codec::put_text(body, text);
        }
        body.extend_from_slice(&[0]);
    })
}

const fn sqlstate(reason: Reason) -> &'static str {
    match reason {
        Reason::OperationTooLong => "54000",
        Reason::ReadOnly => "25006",
        Reason::MaskedColumn => "42501",
        Reason::RowBudget | Reason::ByteBudget => "53400",
        Reason::TimeBudget => "57014",
        Reason::TargetUnreachable
        | Reason::HostKeyChanged
        | Reason::HostKeyUnknown
        | Reason::TargetRefused => "08006",
        Reason::ControlUnavailable
        | Reason::VaultSealed
        | Reason::CredentialUnavailable
        | Reason::RecorderFailed
        | Reason::AuditFailed => "57P03",
        _ => "42501",
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
        let mut out = BytesMut::new();
        put_denial(&mut out, &selector, &refused).unwrap();
        let text = String::from_utf8_lossy(&out);
        for expected in ["FATAL", "42501", "(not-permitted)", "app@orders", "ses_1"] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
