//! keepup's own log: lines that a person enjoys reading, or JSON.
//!
//! Written through a queue and a thread, so that a terminal or pipe that nobody reads holds up
//! nothing. What somebody else wrote (a probe's answer) can not break a line or colour it.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt as layer, reload};

use crate::plan::{Level, OwnLogFormat};
use crate::status::Stamp;

/// Lines that wait for stderr; more are dropped, and counted.
const QUEUE_MAX: usize = 256;
/// Columns for a service's name, unless a longer one is known.
const NAME_WIDTH: usize = 8;
/// Longer names push the text to the right.
const NAME_WIDTH_MAX: usize = 24;

/// How keepup logs.
#[derive(Debug)]
pub struct Options {
    /// The least important level.
    pub level: Level,
    /// Lines for people, or JSON.
    pub format: OwnLogFormat,
    /// Columns for the names of services; 0: as usual.
    pub name_width: usize,
    /// The way to `<log_dir>/keepup.log`, if that can be written.
    pub file: Option<NonBlocking>,
}

/// Keeps the log going; the last lines are written when it is dropped.
#[derive(Debug)]
pub struct Guard {
    lost: ErrorCounter,
    /// Says what is logged.
    filter: reload::Handle<Targets, Registry>,
    _worker: WorkerGuard,
}

impl Guard {
    /// The least important level from now on.
    pub fn set_level(&self, level: Level) {
        // It fails only where nobody logs.
        let _ = self.filter.reload(targets(level));
    }

    /// Lines that stderr did not take in time, so far.
    pub fn lines_lost(&self) -> u64 {
        u64::try_from(self.lost.dropped_lines()).unwrap_or(u64::MAX)
    }
}

/// Starts logging; once a process. Fails if something else logs already.
pub fn init(options: Options) -> Result<Guard, TryInitError> {
    let (stderr, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_MAX)
        .thread_name("stderr")
        .finish(io::stderr());
    let lost = stderr.error_counter();
    let width = options.name_width.clamp(NAME_WIDTH, NAME_WIDTH_MAX);
    let on_stderr = Lines { form: Form::of_stderr(options.format), width, clock: Stamp::now };
    let in_file = Lines { form: Form::of_file(options.format), width, clock: Stamp::now };
    let (filter, handle) = reload::Layer::new(targets(options.level));
    let file = options.file.map(|file| layer::layer().event_format(in_file).with_writer(file));
    tracing_subscriber::registry()
        .with(filter)
        .with(layer::layer().event_format(on_stderr).with_writer(stderr).and_then(file))
        .try_init()?;
    Ok(Guard { lost, filter: handle, _worker: worker })
}

fn targets(level: Level) -> Targets {
    Targets::new()
        .with_target(env!("CARGO_PKG_NAME"), filter(level))
        .with_default(LevelFilter::WARN)
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The time of day, and colours.
    Coloured,
    /// The time of day.
    Terminal,
    /// Date and time: somebody reads it later.
    Plain,
    /// journald knows the time, and takes the level from a prefix.
    Journald,
    /// One object a line.
    Json,
}

impl Form {
    fn of_file(format: OwnLogFormat) -> Form {
        match format {
            OwnLogFormat::Text => Form::Plain,
            OwnLogFormat::Json => Form::Json,
        }
    }

    fn of_stderr(format: OwnLogFormat) -> Form {
        let stderr = io::stderr();
        match format {
            OwnLogFormat::Json => Form::Json,
            OwnLogFormat::Text if stderr.is_terminal() && wants_colour() => Form::Coloured,
            OwnLogFormat::Text if stderr.is_terminal() => Form::Terminal,
            OwnLogFormat::Text if leads_to_journald(&stderr) => Form::Journald,
            OwnLogFormat::Text => Form::Plain,
        }
    }
}

/// Colours are welcome on this person's terminals.
///
/// Source: <https://no-color.org>.
pub fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|it| !it.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|it| it != "dumb")
}

/// Whether this is the stream that systemd told of, and not one that replaced it.
///
/// Source: systemd.exec(5), `JOURNAL_STREAM`.
fn leads_to_journald(stream: &impl AsFd) -> bool {
    let Ok(told) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(stream).is_ok_and(|it| told == format!("{}:{}", it.st_dev, it.st_ino))
}

struct Lines {
    form: Form,
    width: usize,
    clock: fn() -> Stamp,
}

/// What an event says.
#[derive(Default)]
struct Said {
    service: String,
    text: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "service" {
            value.clone_into(&mut self.service);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        if said.service.is_empty() {
            env!("CARGO_PKG_NAME").clone_into(&mut said.service);
        }
        let mut line = String::with_capacity(128);
        self.write(&mut line, *event.metadata().level(), &said)?;
        writeln!(writer, "{line}")
    }
}

impl Lines {
    fn write(&self, line: &mut String, level: tracing::Level, said: &Said) -> fmt::Result {
        let (now, width, service) = ((self.clock)(), self.width, &said.service);
        let text = Tame(&said.text);
        let word = loud(level);
        match self.form {
            Form::Coloured => {
                let (on, off) = colour(level);
                let time = now.time_of_day();
                write!(line, "\x1b[2m{time}\x1b[0m \x1b[1m{service:<width$}\x1b[0m {on}{text}{off}")
            }
            Form::Terminal => {
                write!(line, "{} {service:<width$} {word}{text}", now.time_of_day())
            }
            Form::Plain => write!(line, "{now} {service:<width$} {word}{text}"),
            Form::Journald => write!(line, "<{}>{service}: {text}", priority(level)),
            Form::Json => {
                let level = level.as_str().to_ascii_lowercase();
                let text = serde_json::Value::from(said.text.as_str());
                let service = serde_json::Value::from(service.as_str());
                write!(
                    line,
                    r#"{{"at":"{now}","level":"{level}","service":{service},"text":{text}}}"#
                )
            }
        }
    }
}

/// The levels that must be seen where no colour shows them.
fn loud(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => "ERROR ",
        tracing::Level::WARN => "WARN ",
        tracing::Level::INFO | tracing::Level::DEBUG | tracing::Level::TRACE => "",
    }
}

fn colour(level: tracing::Level) -> (&'static str, &'static str) {
    match level {
        tracing::Level::ERROR => ("\x1b[1;31m", "\x1b[0m"),
        tracing::Level::WARN => ("\x1b[33m", "\x1b[0m"),
        tracing::Level::INFO => ("", ""),
        tracing::Level::DEBUG | tracing::Level::TRACE => ("\x1b[2m", "\x1b[0m"),
    }
}

/// Source: sd-daemon(3), syslog levels.
fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        tracing::Level::DEBUG | tracing::Level::TRACE => 7,
    }
}

/// A text without characters that move a terminal's cursor or begin a line.
pub struct Tame<'a>(pub &'a str);

impl fmt::Display for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|it| {
            if it.is_control() { write!(f, "{}", it.escape_debug()) } else { f.write_char(it) }
        })
    }
}

impl fmt::Debug for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(form: Form, log: impl FnOnce()) -> String {
        let clock = || "2026-01-02T12:03:04.512Z".parse().unwrap();
        let lines = Lines { form, width: NAME_WIDTH, clock };
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = layer::layer().event_format(lines).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn story() {
        tracing::info!(service = "api", "{}", "up, pid 4711");
        tracing::warn!(service = "api", "{}", "unhealthy: \"no\"\n\x1b[31mred");
        tracing::error!("cannot listen");
    }

    #[test]
    fn lines_for_people_are_aligned_and_can_not_be_forged() {
        assert_eq!(
            logged(Form::Terminal, story),
            "12:03:04.512 api      up, pid 4711\n\
             12:03:04.512 api      WARN unhealthy: \"no\"\\n\\u{1b}[31mred\n\
             12:03:04.512 keepup   ERROR cannot listen\n"
        );
        assert_eq!(
            logged(Form::Coloured, || tracing::warn!(service = "api", "slow")),
            "\x1b[2m12:03:04.512\x1b[0m \x1b[1mapi     \x1b[0m \x1b[33mslow\x1b[0m\n"
        );
    }

    #[test]
    fn a_file_has_the_date_and_journald_the_priority() {
        let one = || tracing::info!(service = "api", "up, pid 4711");
        assert_eq!(logged(Form::Plain, one), "2026-01-02T12:03:04.512Z api      up, pid 4711\n");
        assert_eq!(
            logged(Form::Journald, story),
            "<6>api: up, pid 4711\n\
             <4>api: unhealthy: \"no\"\\n\\u{1b}[31mred\n\
             <3>keepup: cannot listen\n"
        );
    }

    #[test]
    fn json_has_one_object_a_line() {
        let text = logged(Form::Json, story);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["at"], "2026-01-02T12:03:04.512Z");
        assert_eq!(lines[1]["level"], "warn");
        assert_eq!(lines[1]["text"], "unhealthy: \"no\"\n\x1b[31mred");
        assert_eq!(lines[2]["service"], "keepup");
    }
}
