//! Logs on stderr: text for people, priorities for journald, JSON for collectors. The level can change while running.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::LogFormat;

/// Changes the level of a running log.
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// `directives` as in [`crate::config::Config::log_level`].
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(EnvFilter::try_new(directives)?)?)
    }
}

/// Starts logging for the whole process.
pub fn start(directives: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(directives)?);
    let stderr = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => stderr().json().flatten_event(true).boxed(),
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() && !terminal => {
            stderr().event_format(Journal).with_ansi(false).boxed()
        }
        LogFormat::Auto | LogFormat::Text => {
            stderr().with_ansi(terminal).with_target(false).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()?;
    Ok(LogLevel(handle))
}

/// `<4>message key=value`: journald takes the priority off (sd-daemon(3)) and adds the time itself.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, "{}{{{fields}}} ", span.name())?;
            }
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
