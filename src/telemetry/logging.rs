//! Logs on stderr: text for people, priorities for journald, JSON for collectors. The level can change while running.
//! An event is a line, and nothing that it tells of a database or a client can begin another or harm a terminal.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{self, DefaultFields, FormatEvent, FormatFields};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::LogFormat;
use crate::os::terminal;
use crate::text::harmless::{JsonLines, harmless};

/// Changes the level of a running log.
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// `directives` as in [`crate::config::LogRules::level`].
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(directives)?)?)
    }
}

/// What is logged. What goes on with NATS servers, walcast says itself; what their client would say stands in nobody's way unless
/// it is asked for by name.
fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::try_new(format!("async_nats=off,{directives}"))?)
}

/// Starts logging for the whole process.
pub fn start(directives: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(directives)?);
    let stderr = || {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .fmt_fields(OneLine)
    };
    let on_terminal = std::io::stderr().is_terminal();
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(|| JsonLines(std::io::stderr()))
            .boxed(),
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() && !on_terminal => {
            stderr().event_format(Journal).with_ansi(false).boxed()
        }
        LogFormat::Auto | LogFormat::Text => {
            let colour = terminal::shows_colour(&std::io::stderr());
            stderr().with_ansi(colour).with_target(false).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()?;
    Ok(LogLevel(handle))
}

/// Fields, and the message among them, as text that ends no line.
struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: format::Writer<'w>,
        fields: R,
    ) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(format::Writer::new(&mut text), fields)?;
        writer.write_str(&harmless(&text))
    }
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

/// Returns the priority of syslog(3) for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
