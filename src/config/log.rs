//! What is logged, and how.

use super::kinds::{log_format, log_level};
use super::setting::settings;

/// The heading of help that the flags stand under.
const LOGS: &str = "Logs";

settings! {
    /// What is logged, and how.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LogRules {
        /// What is logged: off, error, warn, info, debug, trace, or target=level, separated by commas.
        "log.level" level: String = "info".to_owned(),
            log_level().flag("--log-level").under(LOGS).live();

        /// Log format; `auto` is text on a terminal and journald-friendly under systemd.
        "log.format" format: LogFormat = LogFormat::Auto,
            log_format().flag("--log-format").under(LOGS);
    }
}

impl Default for LogRules {
    fn default() -> Self {
        Self::unset()
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, journald-friendly (no time, no colours, `<N>` priority prefix) under systemd (`JOURNAL_STREAM` set).
    Auto,
    Text,
    Json,
}

impl LogFormat {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
