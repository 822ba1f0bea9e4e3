//! `keepup check [FILE]`: what the file means, or everything that is wrong with it.
//!
//! Starts nothing, and says nothing that the plan does not say.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Checked, Surroundings, duration, resources, schedule, size};
use crate::core::restart::delay;
use crate::plan::{
    Logs, OnCap, Plan, Policy, Probe, Restart, Role, Scope, Service, Socket, Supervisor,
};

/// A file with problems, or that cannot be read.
const CODE_CONFIG: u8 = 3;
/// What was found cannot be printed.
const CODE_SYSTEM: u8 = 1;

/// Delays that are shown; more of them tell nothing new.
const DELAYS_SHOWN: u32 = 12;

/// Prints the plan of a file to `out`, warnings and problems to `err`; the exit code.
pub fn run(
    path: &Path,
    surroundings: &Surroundings,
    out: &mut impl Write,
    err: &mut impl Write,
) -> u8 {
    let said = match config::load(path, surroundings) {
        Ok(checked) => tell(path, &checked, out, err).map(|()| 0),
        Err(problems) => {
            let count = count(problems.list.len(), "problem");
            let summary = match problems.cause {
                config::Cause::Unreadable => String::new(),
                config::Cause::Invalid => format!("\n{}: {count}\n", path.display()),
            };
            write!(err, "{problems}\n{summary}").map(|()| CODE_CONFIG)
        }
    };
    said.unwrap_or(CODE_SYSTEM)
}

fn tell(
    path: &Path,
    checked: &Checked,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    let Checked { plan, warnings } = checked;
    let mut page = Page::default();
    let services = count(plan.services.len(), "service");
    page.line(&format!("{}: valid, {services}", path.display()));
    of_keepup(&plan.supervisor, &mut page);
    for (n, service) in in_order(plan).into_iter().enumerate() {
        of_service(n + 1, service, &mut page);
    }
    out.write_all(page.text.as_bytes())?;
    out.flush()?;
    for warning in warnings {
        write!(err, "\n{warning}\n")?;
    }
    err.flush()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The text, as it grows.
#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        // A file must not play tricks on the terminal.
        let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        self.text.extend(line.chars().map(printable));
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        self.line("");
        self.line(title);
    }

    fn row(&mut self, key: &str, value: &str) {
        self.line(&format!("  {key:<10} {value}"));
    }
}

/// The services in the order in which they start: each after what it waits for.
fn in_order(plan: &Plan) -> Vec<&Service> {
    let mut left: Vec<&Service> = plan.services.iter().collect();
    let mut order: Vec<&Service> = Vec::new();
    while !left.is_empty() {
        let waits = |it: &Service| it.after.iter().any(|name| left.iter().any(|l| l.name == *name));
        // A checked plan has no cycles, so that there is always one that waits for nothing.
        let next = left.iter().position(|it| !waits(it)).unwrap_or(0);
        order.push(left.remove(next));
    }
    order
}

fn of_keepup(supervisor: &Supervisor, page: &mut Page) {
    page.title("keepup");
    page.row("state", &supervisor.state_dir.display().to_string());
    page.row("runtime", &supervisor.runtime_dir.display().to_string());
    page.row("logs", &supervisor.log_dir.display().to_string());
    if let Some(listen) = supervisor.listen {
        page.row("http", &listen.to_string());
    }
    let timeout = duration::print(supervisor.shutdown_timeout);
    page.row("shutdown", &format!("everything within {timeout}"));
}

/// A held socket, and who may connect to it.
fn of_socket(socket: &Socket) -> String {
    match socket {
        Socket::Tcp { address, v6_only: false } if address.is_ipv6() => {
            format!("{socket}, IPv4 too")
        }
        Socket::Unix { mode, .. } => format!("{socket}, mode {mode:04o}"),
        Socket::Tcp { .. } | Socket::Systemd(_) => socket.to_string(),
    }
}

fn of_service(number: usize, service: &Service, page: &mut Page) {
    page.title(&format!("{number}. {}{}", service.name, traits(service)));
    page.row("command", &words(&service.command));
    page.row("directory", &service.directory.display().to_string());
    if let Some(user) = account(service) {
        page.row("user", &user);
    }
    for socket in &service.listen {
        page.row("listen", &of_socket(socket));
    }
    page.row("start", &start(service));
    if !service.pre_start.is_empty() {
        page.row("first", &words(&service.pre_start));
    }
    for probe in &service.probes {
        page.row(&probe.role.to_string(), &of_probe(probe));
    }
    if let Some(heartbeat) = &service.heartbeat {
        let [degraded, unhealthy] =
            [heartbeat.degraded_after, heartbeat.unhealthy_after].map(duration::print);
        let file = heartbeat.file.as_ref().map(|it| it.display().to_string());
        let way = file.unwrap_or_else(|| "WATCHDOG=1".to_owned());
        let text = format!("{way}: degraded after {degraded}, restarted after {unhealthy}");
        page.row("heartbeat", &text);
    }
    if service.notify {
        page.row("started", "when it says READY=1");
    }
    let limits = resources::print(&service.resources);
    if !limits.is_empty() {
        page.row("limits", &limits);
    }
    if schedule::hang_noticed(service).is_none() && !service.oneshot {
        page.row("hang", "would not be noticed: no liveness probe, no heartbeat");
    }
    let stop_timeout = duration::print(service.stop_timeout);
    let whom = match service.stop_scope {
        Scope::Group => "",
        Scope::Main => " to the main process alone",
    };
    page.row("stop", &format!("{}{whom}, KILL after {stop_timeout}", service.stop_signal));
    if !service.post_stop.is_empty() {
        page.row("then", &words(&service.post_stop));
    }
    page.row("logs", &of_logs(&service.logs));
    of_restart(service, page);
}

fn traits(service: &Service) -> String {
    let traits = [
        (service.oneshot, "oneshot"),
        (service.essential, "essential"),
        (!service.autostart, "not started by itself"),
    ];
    let traits: Vec<&str> = traits.iter().filter(|it| it.0).map(|it| it.1).collect();
    if traits.is_empty() { String::new() } else { format!(" ({})", traits.join(", ")) }
}

fn account(service: &Service) -> Option<String> {
    match (&service.user, &service.group) {
        (Some(user), Some(group)) => Some(format!("{user}, group {group}")),
        (Some(user), None) => Some(user.clone()),
        (None, Some(group)) => Some(format!("keepup's own, group {group}")),
        (None, None) => None,
    }
}

/// Words as a shell would have to read them.
fn words(words: &[String]) -> String {
    let quoted = shlex::try_join(words.iter().map(String::as_str));
    quoted.unwrap_or_else(|_| words.join(" "))
}

fn start(service: &Service) -> String {
    let timeout = duration::print(service.start_timeout);
    let when = match service.after.as_slice() {
        [] => "at once".to_owned(),
        names => format!("after {}", names.join(", ")),
    };
    match service.wait_for.as_slice() {
        [] => format!("{when}, within {timeout}"),
        needs => {
            let needs: Vec<&str> = needs.iter().map(|it| it.written.as_str()).collect();
            format!("{when}, as soon as {} answers, within {timeout}", needs.join(" and "))
        }
    }
}

fn of_probe(probe: &Probe) -> String {
    let interval = duration::print(probe.interval);
    let target = match &probe.kind {
        crate::plan::ProbeKind::Exec(command) => words(command),
        crate::plan::ProbeKind::Http(_)
        | crate::plan::ProbeKind::Tcp(_)
        | crate::plan::ProbeKind::File(_)
        | crate::plan::ProbeKind::Listening(_)
        | crate::plan::ProbeKind::Grpc(_) => probe.kind.target(),
    };
    let noticed = duration::print(schedule::detection(probe));
    let what = match probe.role {
        Role::Startup => String::new(),
        Role::Liveness => format!(": a hang is noticed within {noticed}, and restarted"),
        Role::Readiness => format!(": not ready within {noticed}"),
        Role::Warning => format!(": degraded within {noticed}"),
    };
    format!("{} {target} every {interval}{what}", probe.kind.name())
}

fn of_logs(logs: &Logs) -> String {
    let size = size::print(logs.max_size);
    let console = if logs.console { ", also on the console" } else { "" };
    format!("{}, rotated at {size}, {} kept{console}", logs.file.display(), logs.keep)
}

fn of_restart(service: &Service, page: &mut Page) {
    let restart = &service.restart;
    page.row("restart", policy(restart.policy));
    if restart.policy == Policy::Never {
        return;
    }
    page.row("delays", &delays(restart));
    if restart.max_restarts == 0 {
        page.row("cap", "none: restarts go on for ever");
        return;
    }
    let window = duration::print(restart.window);
    let then = on_cap(restart);
    let restarts = count(restart.max_restarts.try_into().unwrap_or(usize::MAX), "restart");
    page.row("cap", &format!("{restarts} within {window}, then {then}"));
    for way in schedule::ways(service) {
        let text = match schedule::time_to_cap(restart, way.each) {
            Some(time) if schedule::is_reached(restart, way.each) => {
                format!("reached after {}", duration::print(time))
            }
            Some(_) | None => "never reached".to_owned(),
        };
        page.row("", &format!("if it {}: {text}", way.what));
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Always => "after every end",
        Policy::OnFailure => "after every end that is no success",
        Policy::UnlessStopped => "after every end, unless an operator stopped it",
        Policy::Never => "never",
    }
}

fn on_cap(restart: &Restart) -> String {
    match restart.on_cap {
        OnCap::Retry => format!("one attempt every {}", duration::print(restart.retry_after)),
        OnCap::Fail => "it is given up".to_owned(),
        OnCap::Exit => "keepup ends with its exit code".to_owned(),
    }
}

/// The delays up to the cap, or until they are all alike.
fn delays(restart: &Restart) -> String {
    let last = match restart.max_restarts {
        0 => DELAYS_SHOWN,
        cap => cap.min(DELAYS_SHOWN),
    };
    let mut shown: Vec<String> = Vec::new();
    let mut more = restart.max_restarts != last;
    for n in 1..=last {
        let next = delay(restart, n);
        if n > 1 && next == delay(restart, n - 1) {
            more = true;
            break;
        }
        shown.push(duration::print(next));
    }
    let more = if more { ", …" } else { "" };
    let jitter = match restart.jitter {
        0.0 => String::new(),
        jitter => format!(" (and up to {}% more)", jitter * 100.0),
    };
    format!("{}{more}{jitter}", shown.join(", "))
}
