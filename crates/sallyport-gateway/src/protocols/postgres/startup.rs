//! What a client may set before it is let in: pure.
//!
//! INVARIANT: a parameter that is not in the list reaches no target; what could change who runs a statement
//! or what its names mean is refused, not dropped (security class G5).

use sallyport_core::id::SessionId;

use super::codec::Startup;
use crate::statement::is_plain_encoding;

/// Parameters that change how values are written and how long things may take, and nothing else.
const ALLOWED: [&str; 13] = [
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "statement_timeout",
    "timezone",
];
/// The setting by which transactions write nothing unless they say otherwise.
pub(super) const READ_ONLY: &str = "default_transaction_read_only";
/// Longest value of a parameter.
const VALUE_BYTES_MAX: usize = 512;
/// Longest name PostgreSQL keeps, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// What of a startup message goes to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) database: String,
    application: String,
    /// What the client asks for that follows changes; absent when it does not.
    pub(super) replication: Option<String>,
    settings: Vec<(String, String)>,
}

/// Why a startup message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartupError {
    /// Not in the list.
    #[error("connection parameter `{name}` is not accepted")]
    Parameter {
        /// The parameter.
        name: String,
    },
    /// Its value is not acceptable.
    #[error("connection parameter `{name}` has a value that is not accepted")]
    Value {
        /// The parameter.
        name: String,
    },
}

/// Reads what a client asks for; `account` names the database where it names none.
pub(super) fn wanted(startup: &Startup, account: &str) -> Result<Wanted, StartupError> {
    let mut wanted = Wanted {
        database: account.to_owned(),
        application: String::new(),
        replication: None,
        settings: Vec::new(),
    };
    for (name, value) in &startup.parameters {
        let refused = || StartupError::Value { name: shown(name) };
        if value.len() > VALUE_BYTES_MAX {
            return Err(refused());
        }
        match name.as_str() {
            // Read already, and answered by the version that is spoken.
            "user" => {}
            _ if name.starts_with("_pq_.") => {}
            "database" => {
                if value.is_empty() || value.len() > NAME_BYTES_MAX {
                    return Err(refused());
                }
                wanted.database.clone_from(value);
            }
            "application_name" => wanted.application.clone_from(value),
            "replication" => {
                if !matches!(value.as_str(), "false" | "off" | "no" | "0") {
                    wanted.replication = Some(value.clone());
                }
            }
            "options" if value.is_empty() => {}
            _ => {
                let canonical = name.to_ascii_lowercase();
                if !ALLOWED.contains(&canonical.as_str()) {
                    return Err(StartupError::Parameter { name: shown(name) });
                }
                if canonical == "client_encoding" && !is_plain_encoding(value) {
                    return Err(refused());
                }
                wanted.settings.push((name.clone(), value.clone()));
            }
        }
    }
    Ok(wanted)
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

impl Wanted {
    /// The parameters of the startup message to the target. The session's id comes first in the name of the
    /// application, because what is too long is cut at its end.
    pub(super) fn parameters(
        &self,
        account: &str,
        session_id: &SessionId,
        is_read_only: bool,
    ) -> Vec<(String, String)> {
        let mut application = format!("sallyport:{session_id}");
        if !self.application.is_empty() {
            application.push(' ');
            application.push_str(&self.application);
        }
        let end = application.floor_char_boundary(NAME_BYTES_MAX);
        application.truncate(end);
        let mut parameters = vec![
            ("user".to_owned(), account.to_owned()),
            ("database".to_owned(), self.database.clone()),
            ("application_name".to_owned(), application),
        ];
        if let Some(replication) = &self.replication {
            parameters.push(("replication".to_owned(), replication.clone()));
        }
        let is_kept = |name: &str| !is_read_only || !name.eq_ignore_ascii_case(READ_ONLY);
        let settings = self.settings.iter().filter(|(name, _)| is_kept(name));
        parameters.extend(settings.cloned());
        if is_read_only {
            parameters.push((READ_ONLY.to_owned(), "on".to_owned()));
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use sallyport_core::time::Timestamp;

    use super::*;

    fn startup(parameters: &[(&str, &str)]) -> Startup {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Startup {
            major: 3,
            minor: 0,
            parameters: parameters.iter().map(owned).collect(),
        }
    }

    /// G5
    #[test]
    fn given_a_parameter_that_is_not_in_the_list_then_the_client_is_refused() {
        for name in [
            "options",
            "search_path",
            "role",
            "session_authorization",
            "session_preload_libraries",
            "local_preload_libraries",
            "SEARCH_PATH",
            "row_security",
            "log_statement",
            "",
        ] {
            let refused = wanted(&startup(&[("user", "a@b"), (name, "x")]), "a");
            assert!(refused.is_err(), "{name}");
        }
        for (name, value) in [
            ("client_encoding", "SJIS"),
            ("client_encoding", "GBK"),
            ("client_encoding", "big5"),
            ("database", ""),
        ] {
            assert!(wanted(&startup(&[(name, value)]), "a").is_err(), "{value}");
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert!(wanted(&startup(&[("TimeZone", &long)]), "a").is_err());
    }

    /// GW-2, GW-15
    #[test]
    fn given_what_drivers_send_then_it_goes_to_the_target_with_the_sessions_id() {
        let startup = startup(&[
            ("user", "app@orders"),
            ("database", "shop"),
            ("client_encoding", "UTF-8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "Europe/Oslo"),
            ("extra_float_digits", "2"),
            ("application_name", &"psql".repeat(20)),
            ("replication", "false"),
            ("_pq_.protocol_extension", "1"),
        ]);
        let wanted = wanted(&startup, "app").unwrap();
        let id = SessionId::new(Timestamp::EPOCH, [1; 10]);
        let sent = wanted.parameters("app", &id, false);
        let value = |name: &str| {
            let found = sent.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("user"), Some("app"));
        assert_eq!(value("database"), Some("shop"));
        assert_eq!(value("DateStyle"), Some("ISO"));
        assert_eq!(value("replication"), None);
        assert_eq!(value("_pq_.protocol_extension"), None);
        let application = value("application_name").unwrap();
        assert!(application.starts_with(&format!("sallyport:{id} psql")));
        assert!(application.len() <= NAME_BYTES_MAX);
    }

    /// PO-2: a session that only reads begins so, whatever the client asks for.
    #[test]
    fn given_a_session_that_only_reads_then_the_target_is_told_and_no_client_says_otherwise() {
        let startup = startup(&[
            ("user", "app@orders"),
            ("Default_Transaction_Read_Only", "off"),
        ]);
        let wanted = wanted(&startup, "app").unwrap();
        let id = SessionId::new(Timestamp::EPOCH, [1; 10]);
        let modes = |is_read_only| -> Vec<(String, String)> {
            let mut sent = wanted.parameters("app", &id, is_read_only);
            sent.retain(|(name, _)| name.eq_ignore_ascii_case(READ_ONLY));
            sent
        };
        assert_eq!(modes(true), [(READ_ONLY.to_owned(), "on".to_owned())]);
        assert_eq!(modes(false).len(), 1);
    }

    #[test]
    fn given_no_database_then_it_is_the_accounts_and_following_changes_is_not_forgotten() {
        let startup = startup(&[("user", "app@orders"), ("replication", "database")]);
        let wanted = wanted(&startup, "app").unwrap();
        assert_eq!(wanted.database, "app");
        assert_eq!(wanted.replication.as_deref(), Some("database"));
    }
}
