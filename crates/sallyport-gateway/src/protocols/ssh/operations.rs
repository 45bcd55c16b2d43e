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
}

impl Launch {
    /// The operation that this is.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Shell => Operation {
                kind: OperationKind::Shell,
                detail: String::new(),
            },
            Self::Exec(command) => Operation {
                kind: OperationKind::Exec,
                detail: String::from_utf8_lossy(command).into_owned(),
            },
            Self::Sftp => Operation {
                kind: OperationKind::Subsystem,
                detail: SFTP.to_owned(),
            },
        }
    }

    /// The word for it in recordings and messages.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec(_) => "exec",
            Self::Sftp => SFTP,
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
/// [`Reason::FeatureRefused`] for every subsystem but `sftp`.
pub(super) fn subsystem(name: &str) -> Result<Launch, Reason> {
    match name {
        SFTP => Ok(Launch::Sftp),
        _ => Err(Reason::FeatureRefused),
    }
}

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
    fn only_sftp_is_a_subsystem() {
        assert_eq!(subsystem("sftp"), Ok(Launch::Sftp));
        for name in ["", "SFTP", "netconf", "sftp "] {
            assert_eq!(subsystem(name), Err(Reason::FeatureRefused), "{name:?}");
        }
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
