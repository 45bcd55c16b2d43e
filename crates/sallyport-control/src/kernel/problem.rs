//! The only map from what went wrong to what an HTTP client reads.
//!
//! Slices implement [`Faulty`] for their error enums and use `?` in their routes. What the client reads
//! ([`Problem`]) and what the operator reads (one log line with the whole chain of causes, under the
//! same reference) are two texts.
//!
//! INVARIANT: the text of an error reaches the client only through [`Fault`]; causes never do.

use std::{error::Error, fmt};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sallyport_api::rest::problem::{PROBLEM_MEDIA_TYPE, Problem};
use sallyport_core::authz::{AdminAction, Reason};

use super::{database::StoreError, ids};

/// Whose fault it is, with what the client may read about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A field of what was sent: 400.
    Field {
        /// Its name; empty when it is the whole body.
        field: String,
        /// What is wrong with it, one line.
        title: String,
    },
    /// Several fields of what was sent, each with what is wrong with it: 400.
    Fields(Vec<(String, String)>),
    /// No proof of who asks, or one that is unknown, expired or revoked: 401.
    Unauthenticated,
    /// A proof was offered and is wrong: 401.
    Unproven,
    /// An API token was used for what takes a sign-in: 403.
    NeedsSignIn,
    /// The caller's roles, or the scopes of its token, do not allow the action: 403.
    MissingRight(AdminAction),
    /// A rule refuses: 403, or 429 and 503 where the reason says so.
    Refused {
        /// Why.
        reason: Reason,
        /// What is missing, one line each.
        unmet: Vec<String>,
        /// Id to name when asking about it.
        reference: Option<String>,
    },
    /// Not yet: something is missing: 403.
    Challenged {
        /// What is missing, one line each.
        unmet: Vec<String>,
    },
    /// There is none, or none that the caller may know of: 404.
    NotFound {
        /// The noun: `person`, `target`.
        noun: &'static str,
    },
    /// It does not go with the state things are in: 409.
    Conflict {
        /// What is in the way, one line.
        title: String,
        /// What to do about it, one line.
        remedy: &'static str,
    },
    /// Too many ask at once: 503.
    Busy,
    /// Ours, and it may pass: 503.
    Unavailable,
    /// Ours: 500.
    Bug,
}

impl Fault {
    /// A field at fault.
    #[must_use]
    pub fn field(field: impl Into<String>, title: impl ToString) -> Self {
        Self::Field {
            field: field.into(),
            title: title.to_string(),
        }
    }

    /// A refusal for one reason.
    #[must_use]
    pub const fn refused(reason: Reason) -> Self {
        Self::Refused {
            reason,
            unmet: Vec::new(),
            reference: None,
        }
    }

    /// Whether operators must hear of it.
    const fn is_ours(&self) -> bool {
        matches!(self, Self::Unavailable | Self::Bug)
    }
}

/// An error that knows whose fault it is.
pub trait Faulty: Error {
    /// Whose fault, with what the client may read.
    fn fault(&self) -> Fault;
}

impl Faulty for StoreError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotDurable { .. } | Self::Stopped => Fault::refused(Reason::AuditFailed),
            Self::Statement { .. } => Fault::Unavailable,
            Self::Conflict => Fault::Conflict {
                title: "there is one already".to_owned(),
                remedy: "use another name, or change the one there is",
            },
            Self::Open { .. }
            | Self::Column { .. }
            | Self::Damaged { .. }
            | Self::Encode(_)
            | Self::Entry(_)
            | Self::InUse
            | Self::TooNew { .. } => Fault::Bug,
        }
    }
}

/// A problem on its way to the client.
#[derive(Debug)]
pub struct HttpProblem(Box<Problem>);

impl HttpProblem {
    /// The problem that a fault is, without a log line: for faults that no error stands behind.
    #[must_use]
    pub fn of(fault: Fault) -> Self {
        Self(Box::new(problem(fault)))
    }

    /// A fault of ours that no error value stands behind; `what` goes to the log only.
    #[must_use]
    pub fn bug(what: &str) -> Self {
        let mut problem = Self::of(Fault::Bug);
        problem.log(&what);
        problem
    }

    /// The problem as it is sent.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.0
    }

    fn log(&mut self, cause: &dyn fmt::Display) {
        let reference = hex::encode(ids::entropy());
        tracing::error!(%cause, reference, "a request failed");
        self.0.reference = Some(reference);
    }
}

impl<E: Faulty> From<E> for HttpProblem {
    fn from(error: E) -> Self {
        let fault = error.fault();
        let is_ours = fault.is_ours();
        let mut problem = Self::of(fault);
        if is_ours {
            problem.log(&Chain(&error));
        }
        problem
    }
}

impl IntoResponse for HttpProblem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(PROBLEM_MEDIA_TYPE),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"sallyport\""),
            );
        }
        response
    }
}

/// An error with all its causes, one line: for logs, and for those who may read about a file.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn problem(fault: Fault) -> Problem {
    let plain = |status: StatusCode, code: &str, title: String, remedy: &str| Problem {
        status: status.as_u16(),
        code: code.to_owned(),
        title,
        remedy: remedy.to_owned(),
        field: None,
        reference: None,
        unmet: Vec::new(),
    };
    match fault {
        Fault::Field { field, title } => Problem {
            field: Some(field).filter(|field| !field.is_empty()),
            ..plain(
                StatusCode::BAD_REQUEST,
                "bad-field",
                title,
                "correct it and send it again",
            )
        },
        Fault::Fields(faults) => Problem {
            field: faults.first().map(|(field, _)| field.clone()),
            unmet: faults
                .iter()
                .map(|(field, problem)| format!("{field}: {problem}"))
                .collect(),
            ..plain(
                StatusCode::BAD_REQUEST,
                "bad-field",
                format!("{} fields are at fault", faults.len()),
                "correct them and send it again",
            )
        },
        Fault::Unauthenticated => plain(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "there is no proof of who you are, or it has ended".to_owned(),
            "sign in: `sallyport login`",
        ),
        Fault::Unproven => plain(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "name, password or code is wrong".to_owned(),
            "try again with the next code; every code works once",
        ),
        Fault::NeedsSignIn => plain(
            StatusCode::FORBIDDEN,
            Reason::AuthenticationTooWeak.code(),
            "this takes a sign-in; an API token is not enough".to_owned(),
            "sign in: `sallyport login`",
        ),
        Fault::MissingRight(action) => plain(
            StatusCode::FORBIDDEN,
            "missing-right",
            format!(
                "this needs the right `{action}`, which you or your token do not have",
                action = action.as_str()
            ),
            "ask an owner for an administrative role that has it, or use a token with that scope",
        ),
        Fault::Refused {
            reason,
            unmet,
            reference,
        } => Problem {
            unmet,
            reference,
            ..plain(
                refusal_status(reason),
                reason.code(),
                reason.message().to_owned(),
                reason.remedy(),
            )
        },
        Fault::Challenged { unmet } => Problem {
            unmet,
            ..plain(
                StatusCode::FORBIDDEN,
                "challenged",
                "something is still missing".to_owned(),
                "add what is listed and ask again",
            )
        },
        Fault::NotFound { noun } => plain(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("there is no such {noun}, or you may not see it"),
            "check the spelling",
        ),
        Fault::Conflict { title, remedy } => plain(StatusCode::CONFLICT, "conflict", title, remedy),
        Fault::Busy => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "too many people are at the door".to_owned(),
            "try again in a moment",
        ),
        Fault::Unavailable => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "this cannot be done right now".to_owned(),
            "try again in a moment; if it lasts, name the reference to your operators",
        ),
        Fault::Bug => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something went wrong on our side".to_owned(),
            "name the reference to your operators",
        ),
    }
}

const fn refusal_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
        Reason::VaultSealed | Reason::AuditFailed | Reason::ControlUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::FORBIDDEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_cause_with_details_then_the_client_reads_none_of_them() {
        let error = StoreError::Damaged {
            place: "person.admin_roles".to_owned(),
            problem: "secret of the schema".to_owned(),
        };
        let problem = HttpProblem::from(error);
        let sent = serde_json::to_string(problem.problem()).unwrap();
        assert_eq!(problem.problem().status, 500);
        assert!(!sent.contains("secret of the schema") && !sent.contains("admin_roles"));
        assert!(problem.problem().reference.is_some());
    }

    #[test]
    fn given_no_proof_and_a_missing_right_then_they_are_told_apart() {
        let nobody = HttpProblem::of(Fault::Unauthenticated);
        let somebody = HttpProblem::of(Fault::MissingRight(AdminAction::PersonEdit));
        assert_eq!(
            (nobody.problem().status, somebody.problem().status),
            (401, 403)
        );
        assert_ne!(nobody.problem().code, somebody.problem().code);
    }
}
