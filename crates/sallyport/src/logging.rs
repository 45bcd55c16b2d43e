//! Logs of the roles: to standard error, for people or for programs. Never evidence; that is the audit
//! log's.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, chain};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFlags {
    /// How logs are written to standard error
    #[arg(
        long,
        value_enum,
        default_value_t,
        env = "SALLYPORT_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
    /// What is logged: a level, or `module=level` separated by commas
    #[arg(
        long,
        default_value = "info",
        env = "SALLYPORT_LOG",
        value_name = "FILTER"
    )]
    log_filter: String,
}

impl LogFlags {
    /// Begins to log.
    pub fn install(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.log_filter).map_err(|error| {
            Failure::usage(
                format!(
                    "`{}` is no filter of logs: {}",
                    self.log_filter,
                    chain(&error)
                ),
                "write a level such as `info`, or `sallyport_gateway=debug,info`",
            )
        })?;
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        let installed = match self.log_format {
            LogFormat::Text => lines
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .try_init(),
            LogFormat::Json => lines.json().try_init(),
        };
        installed.map_err(|error| {
            Failure::failed(
                format!("begin to log: {error}"),
                "report this: something logs already",
            )
        })
    }

    /// The same flags for a child process.
    pub fn arguments(&self) -> [String; 4] {
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        [
            "--log-format".to_owned(),
            format.to_owned(),
            "--log-filter".to_owned(),
            self.log_filter.clone(),
        ]
    }
}
