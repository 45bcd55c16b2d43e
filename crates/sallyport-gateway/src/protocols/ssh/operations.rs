//! What a client asks of a session channel, as operations: pure, so that each case is one line of a
//! test.
//!
//! INVARIANT: what is decided is what the target gets. A command that the target would read
//! otherwise than it was decided, because it holds a NUL byte, is no operation at all.
//!
//! Not here: the decision (`session`), file operations within a channel (`sftp`, `scp`).

use sallyport_core::{
    authz::Reason,
    session::{OPERATION_DETAIL_BYTES_MAX, Operation, OperationKind},
};

use super::scp::{ScpCommand, Way};

/// What a channel was opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Launch {
    /// An interactive shell.
    Shell,
    /// One command, as bytes for the target.
    Exec(Vec<u8>),
    /// The `sftp` subsystem.
    Sftp,
    /// Another subsystem: bytes without meaning to the gateway.
    Subsystem(String),
}

impl Launch {
    /// The operation that this is.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Shell => Operation {
                kind: OperationKind::Shell,
                detail: String::new(),
                facts: None,
            },
            Self::Exec(command) => Operation {
                kind: OperationKind::Exec,
                detail: String::from_utf8_lossy(command).into_owned(),
                facts: None,
            },
            Self::Sftp => Operation {
                kind: OperationKind::Subsystem,
                detail: SFTP.to_owned(),
                facts: None,
            },
            Self::Subsystem(name) => Operation {
                kind: OperationKind::Subsystem,
                detail: name.clone(),
                facts: None,
            },
        }
    }

    /// The word for it in recordings and messages.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec(_) => "exec",
            Self::Sftp => SFTP,
            Self::Subsystem(_) => "subsystem",
        }
    }
}

const SFTP: &str = "sftp";

/// Reads an exec request.
///
/// # Errors
/// [`Reason::OperationTooLong`], or [`Reason::FeatureRefused`] for a command with a NUL byte: the
/// target would run only what is before it.
pub(super) fn exec(command: &[u8]) -> Result<Launch, Reason> {
    if command.contains(&0) {
        return Err(Reason::FeatureRefused);
    }
    // Replacing invalid UTF-8 makes it longer; what is decided and recorded is the longer one.
    if String::from_utf8_lossy(command).len() > OPERATION_DETAIL_BYTES_MAX {
        return Err(Reason::OperationTooLong);
    }
    Ok(Launch::Exec(command.to_vec()))
}

/// Reads a subsystem request.
///
/// # Errors
/// [`Reason::FeatureRefused`] for what is no name of a subsystem (RFC 4250 section 4.6.1).
pub(super) fn subsystem(name: &str) -> Result<Launch, Reason> {
    let is_name = (1..=SUBSYSTEM_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@+".contains(&b));
    match name {
        SFTP => Ok(Launch::Sftp),
        name if is_name => Ok(Launch::Subsystem(name.to_owned())),
        _ => Err(Reason::FeatureRefused),
    }
}

/// Longest name of a subsystem, in bytes.
const SUBSYSTEM_BYTES_MAX: usize = 64;

/// Longest value of an environment variable, in bytes.
const ENV_VALUE_BYTES_MAX: usize = 256;

/// Whether an environment variable may be passed on: language and locale, nothing that a program
/// could take for an instruction.
pub(super) fn passes_env(name: &str, value: &str) -> bool {
    let is_locale = name == "LANG"
        || name.strip_prefix("LC_").is_some_and(|rest| {
            !rest.is_empty()
                && rest.len() <= 60
                && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        });
    let is_plain = value.len() <= ENV_VALUE_BYTES_MAX
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@=:,".contains(&b));
    is_locale && is_plain
}

/// Longest name and value of an environment variable that policy may let pass, in bytes.
const SETTABLE_NAME_BYTES_MAX: usize = 128;
const SETTABLE_VALUE_BYTES_MAX: usize = 4_096;
/// Names that tell the target about its session; never the client's to set.
const OWN_ENV_PREFIX: &str = "SALLYPORT_";

/// An environment variable as an operation, for policy to decide.
///
/// # Errors
/// [`Reason::FeatureRefused`] for what is no plain variable, or is the gateway's own.
pub(super) fn environment(name: &str, value: &str) -> Result<Operation, Reason> {
    let is_name = (1..=SETTABLE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.starts_with(OWN_ENV_PREFIX);
    let is_value = value.len() <= SETTABLE_VALUE_BYTES_MAX && !value.contains('\0');
    match is_name && is_value {
        true => Ok(Operation {
            kind: OperationKind::Environment,
            detail: format!("{name}={value}"),
            facts: None,
        }),
        false => Err(Reason::FeatureRefused),
    }
}

/// Use of the client's agent, as an operation.
pub(super) fn agent() -> Operation {
    Operation {
        kind: OperationKind::ForwardAgent,
        detail: "auth-agent-req".to_owned(),
        facts: None,
    }
}

/// What is never offered, as an operation.
pub(super) fn unsupported(what: String) -> Operation {
    Operation {
        kind: OperationKind::Unsupported,
        detail: what,
        facts: None,
    }
}

/// Reads an exec command as one of those that a legacy `scp` client sends.
///
/// Nothing is lost when it is not recognised: it is an ordinary command then, its bytes recorded as
/// such, but its files are not operations of their own. A command that a shell would take apart is
/// never recognised, because what runs would not be what was read.
pub(super) fn scp(command: &[u8]) -> Option<ScpCommand> {
    let command = std::str::from_utf8(command).ok()?;
    if command.contains([';', '|', '&', '<', '>', '(', ')', '$', '`', '\n', '\r']) {
        return None;
    }
    let mut rest = command.strip_prefix("scp ")?.trim_start_matches(' ');
    let mut flags = String::new();
    while let Some(flag) = rest.strip_prefix('-') {
        let (flag, after) = flag.split_once(' ')?;
        rest = after.trim_start_matches(' ');
        if flag == "-" {
            break;
        }
        if !flag.bytes().all(|b| b"vrpdtfqCB".contains(&b)) {
            return None;
        }
        flags.push_str(flag);
    }
    let way = match (flags.contains('t'), flags.contains('f')) {
        (true, false) => Way::Upload,
        (false, true) => Way::Download,
        _ => return None,
    };
    if rest.is_empty() {
        return None;
    }
    Some(ScpCommand {
        way,
        is_directory: flags.contains('d'),
        path: rest.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sftp_is_followed_and_what_is_no_name_is_no_subsystem() {
        assert_eq!(subsystem("sftp"), Ok(Launch::Sftp));
        for name in ["SFTP", "netconf", "sftp-server@example.com"] {
            assert_eq!(subsystem(name), Ok(Launch::Subsystem(name.to_owned())));
        }
        for name in ["", "sftp ", "a\0b", "../x", "net conf"] {
            assert_eq!(subsystem(name), Err(Reason::FeatureRefused), "{name:?}");
        }
    }

    /// GW-15, F4
    #[test]
    fn policy_decides_on_plain_variables_and_never_on_the_gateways_own() {
        let detail = |name, value| environment(name, value).map(|one| one.detail);
        assert_eq!(detail("EDITOR", "vi"), Ok("EDITOR=vi".to_owned()));
        assert_eq!(detail("_A1", "x=y\nz"), Ok("_A1=x=y\nz".to_owned()));
        for (name, value) in [
            ("", "x"),
            ("A=B", "x"),
            ("1A", "x"),
            ("A B", "x"),
            ("A", "x\0y"),
            ("SALLYPORT_SESSION_ID", "ses_1"),
            ("SALLYPORT_", ""),
        ] {
            assert_eq!(detail(name, value), Err(Reason::FeatureRefused), "{name:?}");
        }
        assert!(detail("A", &"x".repeat(4_097)).is_err());
    }

    /// PO-3: what the shell would not see must not be decided on.
    #[test]
    fn a_command_with_a_nul_byte_is_refused() {
        assert_eq!(exec(b"rm -rf /\0# harmless"), Err(Reason::FeatureRefused));
    }

    #[test]
    fn a_command_too_long_to_record_is_refused_however_its_bytes_are_written() {
        assert!(exec(&vec![b'a'; OPERATION_DETAIL_BYTES_MAX]).is_ok());
        assert_eq!(
            exec(&vec![b'a'; OPERATION_DETAIL_BYTES_MAX + 1]),
            Err(Reason::OperationTooLong)
        );
        // Each invalid byte takes three when it is replaced.
        assert_eq!(
            exec(&vec![0xff; OPERATION_DETAIL_BYTES_MAX / 2]),
            Err(Reason::OperationTooLong)
        );
    }

    /// GW-1, F4
    #[test]
    fn only_language_and_locale_pass_as_environment() {
        for (name, value) in [("LANG", "de_DE.UTF-8"), ("LC_ALL", "C"), ("LC_CTYPE", "")] {
            assert!(passes_env(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("LD_PRELOAD", "/tmp/x.so"),
            ("LC_", "C"),
            ("LC_all", "C"),
            ("LANGUAGE", "de"),
            ("LANG", "() { :; }; true"),
            ("BASH_ENV", "x"),
            ("LANG", "../../etc"),
        ] {
            assert!(!passes_env(name, value), "{name}={value}");
        }
    }

    #[test]
    fn the_command_lines_of_legacy_scp_clients_are_recognised() {
        let upload = scp(b"scp -t /srv/a").unwrap();
        assert_eq!((upload.way, upload.path.as_str()), (Way::Upload, "/srv/a"));
        let many = scp(b"scp -v -r -p -d -t -- /srv/two words").unwrap();
        assert!(many.is_directory);
        assert_eq!(many.path, "/srv/two words");
        let download = scp(b"scp -f *.txt").unwrap();
        assert_eq!(download.way, Way::Download);
    }

    #[test]
    fn a_command_that_a_shell_takes_apart_is_no_scp() {
        for command in [
            "scp -t /srv/a; cat",
            "scp -t $(id)",
            "scp -f a|b",
            "scp -t -f a",
            "scp -S/bin/sh -t a",
            "scp a b:c",
            "scp -t",
            "scp",
            "/usr/bin/scp -t a",
            "scp -t a\nid",
        ] {
            assert_eq!(scp(command.as_bytes()), None, "{command:?}");
        }
    }
}
