//! `keepup status`: all services in a table, or one in detail.

use std::fmt::Write as _;
use std::time::Duration;

use super::error::{Error, Kind};
use super::output::{Colour, Paint, print};
use super::remote::{Remote, name};
use super::table::{Cell, aligned};
use crate::control::protocol::{PROBLEMS, STATUS, service_path};
use crate::core::event::Short;
use crate::report::log::Tame;
use crate::status::{Health, Issue, Level, ProbeStatus, ServiceStatus, Stamp, State, Status, Want};

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Columns and colours.
    People,
    /// What keepup answers, unchanged.
    Json,
}

/// Shows all services, or one.
pub(super) fn status(remote: &Remote, service: Option<&str>, form: Form) -> Result<(), Error> {
    let path = match service {
        Some(service) => service_path(name(service)?),
        None => STATUS.to_owned(),
    };
    let body = remote.get(&path)?.body;
    if form == Form::Json {
        return print(String::from_utf8_lossy(&body));
    }
    let unread = |it| Error::new(Kind::Failed, format!("cannot read the status: {it}"));
    let problems: Vec<Issue> = remote.look(PROBLEMS)?;
    let (paint, now) = (Paint::of_stdout(), Stamp::now());
    print(match service {
        Some(service) => {
            let own: Vec<Issue> = problems.into_iter().filter(|it| it.service == service).collect();
            detail(&serde_json::from_slice(&body).map_err(unread)?, &own, now, paint)
        }
        None => overview(&serde_json::from_slice(&body).map_err(unread)?, &problems, now, paint),
    })
}

/// All services, and what is wrong.
pub(super) fn overview(status: &Status, problems: &[Issue], now: Stamp, paint: Paint) -> String {
    let supervisor = &status.supervisor;
    let level = paint.paint(colour_of_level(supervisor.level), supervisor.level.name());
    let uptime = short(supervisor.uptime_seconds);
    let mut out = format!(
        "keepup {}, pid {}, up {uptime}, {level}{}\n",
        supervisor.version,
        supervisor.pid,
        host(status)
    );
    if status.services.is_empty() {
        return out + "no services\n";
    }
    out.push('\n');
    let head = ["NAME", "STATE", "HEALTH", "PID", "UPTIME", "RESTARTS", "WHY"];
    let mut rows = vec![
        head.into_iter()
            .enumerate()
            .map(|(column, it)| {
                let cell = if (3..6).contains(&column) { Cell::right } else { Cell::left };
                cell(it, Colour::Dim)
            })
            .collect(),
    ];
    rows.extend(status.services.iter().map(row));
    out.push_str(&aligned(&rows, paint));
    out.push_str(&lines_of(problems, now, paint));
    let troubled = status.services.iter().filter(|it| it.log.problem.is_some());
    for (nth, service) in troubled.enumerate() {
        let gap = if nth == 0 && problems.is_empty() { "\n" } else { "" };
        let name = paint.paint(Colour::Bad, &service.name);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{gap}{name}: log: {}", log(service, now).unwrap_or_default());
    }
    out
}

fn host(status: &Status) -> String {
    let host = status.supervisor.host;
    let mut out = String::new();
    for (what, figure) in [("memory", host.memory_used_percent), ("disk", host.disk_used_percent)] {
        if let Some(figure) = figure {
            // Writing to a string cannot fail.
            let _ = write!(out, ", {what} {figure:.0}%");
        }
    }
    if let Some(load) = host.load1 {
        let _ = write!(out, ", load {load:.2}");
    }
    out
}

fn row(service: &ServiceStatus) -> Vec<Cell> {
    let dash = || "-".to_owned();
    vec![
        Cell::left(&service.name, Colour::Strong),
        Cell::left(service.state.name(), colour_of_state(service.state)),
        Cell::left(
            service.health.map_or("-", Health::name),
            service.health.map_or(Colour::Dim, colour_of_health),
        ),
        Cell::right(service.pid.map_or_else(dash, |it| it.to_string()), Colour::None),
        Cell::right(service.uptime_seconds.map_or_else(dash, short), Colour::None),
        Cell::right(service.restarts.to_string(), Colour::None),
        Cell::left(why(service), Colour::None),
    ]
}

/// Why it does not run, and when it will; of a service that is well, what it says itself.
fn why(service: &ServiceStatus) -> String {
    let end = service.last_end.as_ref().map(|it| Tame(&it.in_words()).to_string());
    let mut why = match service.state {
        State::Up | State::Starting | State::Done | State::Waiting => String::new(),
        State::Down if service.run == 0 => "not started".to_owned(),
        State::Down | State::Stopping | State::Backoff | State::Failed => end.unwrap_or_default(),
    };
    if let Some(wait) = service.next_start_in_seconds {
        let gap = if why.is_empty() { "" } else { "; " };
        let _ = write!(why, "{gap}next start in {}", short(wait));
    }
    if why.is_empty() && service.state == State::Up && !service.ready {
        let failing = service.probes.iter().find(|it| it.ok == Some(false));
        why = failing.map_or_else(|| "not ready yet".to_owned(), |it| format!("{} fails", it.role));
    }
    if let Some(text) = service.status_text.as_ref().filter(|_| service.state == State::Up) {
        let gap = if why.is_empty() { "" } else { "; says: " };
        let _ = write!(why, "{gap}{}", Tame(text));
    }
    why
}

fn lines_of(problems: &[Issue], now: Stamp, paint: Paint) -> String {
    let mut out = String::new();
    for problem in problems {
        let gap = if out.is_empty() { "\n" } else { "" };
        let name = paint.paint(Colour::Bad, &problem.service);
        let _ = write!(out, "{gap}{name}: {}", Tame(&problem.what));
        if let Some(since) = problem.since {
            let _ = write!(out, " (for {}, since {since})", short(between(since, now)));
        }
        out.push('\n');
    }
    out
}

/// One service.
pub(super) fn detail(
    service: &ServiceStatus,
    problems: &[Issue],
    now: Stamp,
    paint: Paint,
) -> String {
    let mut head = paint.paint(Colour::Strong, &service.name);
    let state = paint.paint(colour_of_state(service.state), service.state.name());
    let _ = write!(head, ": {state}");
    if let Some(health) = service.health {
        let _ = write!(head, ", {}", paint.paint(colour_of_health(health), health.name()));
    }
    head.push_str(if service.ready { ", ready" } else { ", not ready" });
    let mut rows = Vec::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let key = Cell::left(format!("  {key}"), Colour::Dim);
            rows.push(vec![key, Cell::left(value, Colour::None)]);
        }
    };
    add("wanted", Some(wanted(service.want).to_owned()));
    add("process", service.pid.map(|pid| format!("pid {pid}, run {}", service.run)));
    add("uptime", uptime(service));
    add("restarts", Some(restarts(service)));
    add("next start", service.next_start_in_seconds.map(|it| format!("in {}", short(it))));
    add("memory", service.memory_bytes.map(mebibytes));
    add("cpu", service.cpu_percent.map(|it| format!("{it:.1}%")));
    add("errors", service.errors_last_hour.map(|it| format!("{it} lines within an hour")));
    add("log", log(service, now));
    add("open files", service.open_files.map(|it| it.to_string()));
    add("threads", service.threads.map(|it| it.to_string()));
    add("heartbeat", service.heartbeat_age_seconds.map(|it| format!("{} ago", short(it))));
    add("says", service.status_text.as_ref().map(|it| Tame(it).to_string()));
    add(
        "last end",
        service.last_end.as_ref().map(|end| {
            let ago = short(between(end.at, now));
            format!("{} ({ago} ago, {})", Tame(&end.in_words()), end.at)
        }),
    );
    add("incident", service.last_end.as_ref().and_then(|it| it.incident.clone()));
    let mut out = format!("{head}\n{}", aligned(&rows, paint));
    if !service.probes.is_empty() {
        let rows: Vec<Vec<Cell>> = service.probes.iter().map(probe).collect();
        let _ = write!(out, "\n{}", aligned(&rows, paint));
    }
    out.push_str(&lines_of(problems, now, paint));
    out
}

/// What is wrong with its log, or was.
fn log(service: &ServiceStatus, now: Stamp) -> Option<String> {
    let log = &service.log;
    let lost = match log.lines_lost {
        0 => None,
        1 => Some("1 line lost so far".to_owned()),
        lines => Some(format!("{} lines lost so far", thousands(lines))),
    };
    let problem = log.problem.as_ref().map(|problem| {
        let since =
            log.since.map(|since| format!(" (for {}, since {since})", short(between(since, now))));
        format!("{}{}", Tame(problem), since.unwrap_or_default())
    });
    let parts: Vec<String> = lost.into_iter().chain(problem).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `1,204`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn wanted(want: Want) -> &'static str {
    match want {
        Want::Up => "up",
        Want::Down => "down",
    }
}

fn uptime(service: &ServiceStatus) -> Option<String> {
    let day = service.uptime_percent_24h.map(|it| format!("{it:.1}% of the last 24h"));
    let parts: Vec<String> = service.uptime_seconds.map(short).into_iter().chain(day).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn restarts(service: &ServiceStatus) -> String {
    let mut out = service.restarts.to_string();
    if service.max_restarts > 0 {
        let _ =
            write!(out, " ({} of {} to the cap)", service.restarts_in_window, service.max_restarts);
    }
    match service.failures_in_row {
        0 => {}
        1 => out.push_str(", 1 failure since it was stable"),
        failures => {
            let _ = write!(out, ", {failures} failures in a row");
        }
    }
    out
}

fn probe(probe: &ProbeStatus) -> Vec<Cell> {
    let answer = match (probe.ok, probe.latency_ms) {
        (None, _) => Cell::left("not asked yet", Colour::Dim),
        (Some(true), None) => Cell::left("pass", Colour::Good),
        (Some(true), Some(took)) => {
            Cell::left(format!("pass in {}", short(took / 1e3)), Colour::Good)
        }
        (Some(false), _) => {
            let what = probe.detail.as_deref().unwrap_or("missed");
            Cell::left(format!("missed {}: {}", probe.misses, Tame(what)), Colour::Bad)
        }
    };
    vec![
        Cell::left(format!("  {}", probe.role), Colour::Dim),
        Cell::left(&probe.kind, Colour::None),
        Cell::left(Tame(&probe.target).to_string(), Colour::None),
        answer,
    ]
}

fn colour_of_level(level: Level) -> Colour {
    match level {
        Level::Normal => Colour::Good,
        Level::Warning | Level::Degraded => Colour::Warning,
        Level::Critical => Colour::Bad,
    }
}

fn colour_of_state(state: State) -> Colour {
    match state {
        State::Up | State::Done => Colour::Good,
        State::Waiting | State::Starting | State::Stopping | State::Backoff => Colour::Warning,
        State::Down => Colour::Dim,
        State::Failed => Colour::Bad,
    }
}

fn colour_of_health(health: Health) -> Colour {
    match health {
        Health::Healthy => Colour::Good,
        Health::Starting | Health::Degraded => Colour::Warning,
        Health::Unhealthy => Colour::Bad,
    }
}

fn short(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "-".to_owned(), |it| Short(it).to_string())
}

fn between(since: Stamp, now: Stamp) -> f64 {
    now.0.duration_since(since.0).as_secs_f64().max(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
