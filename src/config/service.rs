//! `[service.NAME]`, laid over `[defaults]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::heartbeat;
use super::listen;
use super::logs;
use super::section::Section;
use super::source::joined;
use super::unavailable::{self, Table};
use super::value::{At, Value, Zero};
use super::wrong::{Wrong, did_you_mean};
use super::{address, command, duration, probe, resources, restart};
use crate::plan::{EnvFile, Limit, Name, Probe, Resource, Rewrite, Role, Scope, Service, Signal};

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// A service, on top of the defaults.
    Service,
    /// The defaults by themselves: each key is checked, and nothing is missing.
    Defaults,
}

/// What services need from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside<'a> {
    pub(super) log_dir: &'a Path,
    /// The default of `logs.console`.
    pub(super) console: bool,
}

/// A service as it was read.
#[derive(Debug)]
pub(super) struct Draft<'t> {
    pub(super) name: Name,
    pub(super) after: Vec<(Name, At<'t>)>,
    pub(super) log_at: At<'t>,
    pub(super) heartbeat_at: At<'t>,
    /// Where the cap on restarts is explained best.
    pub(super) cap_at: At<'t>,
    pub(super) stop_timeout_at: Option<At<'t>>,
    /// Where each of its sockets stands.
    pub(super) listen_at: Vec<At<'t>>,
    probes_at: Vec<(Role, At<'t>)>,
    /// Nothing if a part of it is wrong, and reported.
    pub(super) plan: Option<Service>,
}

impl<'t> Draft<'t> {
    /// Where the probes of this role stand.
    pub(super) fn at_probe(&self, role: Role) -> At<'t> {
        let found = self.probes_at.iter().find(|it| it.0 == role);
        found.map_or(self.cap_at, |it| it.1)
    }
}

/// The keys of probes.
const ROLES: [(&str, Role); 4] = [
    ("startup", Role::Startup),
    ("liveness", Role::Liveness),
    ("readiness", Role::Readiness),
    ("warning", Role::Warning),
];

/// Reads one service.
pub(super) fn read<'t>(
    name: &str,
    at: At<'t>,
    section: &Section<'t>,
    outside: Outside<'_>,
    pass: Pass,
) -> Draft<'t> {
    let name: Name = name.into();
    let after = after(section, &name);
    let plan = plan(&name, at, section, outside, pass);
    unavailable::refuse(Table::Service, section);
    // Looked up before the unknown keys are told.
    let restart = section.section("restart");
    let cap_key = ["window", "max_restarts"].into_iter().find(|it| restart.get(it).is_some());
    let draft = Draft {
        log_at: section.section("logs").get("file").map_or(at, |it| it.at),
        heartbeat_at: section.section("heartbeat").at("file"),
        cap_at: cap_key.map_or(at, |key| restart.at(key)),
        stop_timeout_at: section.get("stop_timeout").map(|it| it.at),
        listen_at: section.get("listen").map(listen::places).unwrap_or_default(),
        probes_at: ROLES.map(|(key, role)| (role, section.at(key))).into(),
        after: after.clone().unwrap_or_default(),
        plan: plan.filter(|_| after.is_some()),
        name,
    };
    section.refuse_unknown();
    draft
}

fn plan(
    name: &Name,
    at: At<'_>,
    section: &Section<'_>,
    outside: Outside<'_>,
    pass: Pass,
) -> Option<Service> {
    let command = command(section, at, pass);
    let wait_for = section.or("wait_for", Vec::new(), |it| it.list_of(address::wait_for));
    let pre_start = section.or("pre_start", Vec::new(), command::hook);
    let post_stop = section.or("post_stop", Vec::new(), command::hook);
    let oneshot = section.or("oneshot", false, Value::truth);
    let restart = restart::read(&section.section("restart"), oneshot == Some(true), pass);
    let notify = section.or("notify", false, Value::truth);
    let heartbeat = heartbeat::read(section, notify == Some(true));
    let probes = probes(section, pass);
    let resources = resources::read(section, pass);
    let logs = logs::read(&section.section("logs"), name, outside);
    let process = process(section, at);
    let start_timeout = section.or("start_timeout", Duration::from_secs(60), Value::duration);
    let stop_signal = section.or("stop_signal", Signal::TERM, command::signal);
    let reload_signal = section.maybe("reload_signal", command::signal);
    let stop_timeout = section.or("stop_timeout", Duration::from_secs(8), Value::duration);
    let scopes = [("group", Scope::Group), ("main", Scope::Main)];
    let stop_scope = section.or("stop_scope", Scope::Group, |it| it.word(&scopes));
    let hang_signal = section.maybe("hang_signal", hang_signal);
    let evidence_timeout = section.or("evidence_timeout", Duration::from_secs(1), Value::duration);
    let rewrite = section.or("rewrite", Rewrite::default(), command::rewrite);
    let listen = section.or("listen", Vec::new(), listen::read);
    let autostart = section.or("autostart", true, Value::truth);
    let essential = section.or("essential", false, Value::truth);
    let after = section.or("after", Vec::new(), |it| it.list_of(Value::text));
    let process = process?;
    let service = Service {
        name: name.clone(),
        command: command?,
        directory: process.directory,
        user: process.user,
        group: process.group,
        env: process.env,
        env_file: process.env_file,
        clear_env: process.clear_env,
        umask: process.umask,
        nice: process.nice,
        oom_score_adj: process.oom_score_adj,
        no_new_privileges: process.no_new_privileges,
        limits: process.limits,
        listen: listen?,
        after: after?.iter().map(|it| it.as_str().into()).filter(|it| it != name).collect(),
        wait_for: wait_for?,
        pre_start: pre_start?,
        post_stop: post_stop?,
        oneshot: oneshot?,
        autostart: autostart?,
        essential: essential?,
        notify: notify?,
        start_timeout: start_timeout?,
        stop_signal: stop_signal?,
        reload_signal: reload_signal?,
        stop_timeout: stop_timeout?,
        stop_scope: stop_scope?,
        hang_signal: hang_signal?,
        evidence_timeout: evidence_timeout?,
        rewrite: rewrite?,
        resources: resources?,
        restart: restart?,
        probes: probes?,
        heartbeat: heartbeat?,
        logs: logs?,
    };
    if pass == Pass::Service {
        check(section, &service);
    }
    Some(service)
}

fn command(section: &Section<'_>, at: At<'_>, pass: Pass) -> Option<Vec<String>> {
    match (section.get("command"), pass) {
        (Some(value), _) => command::argv(value),
        (None, Pass::Defaults) => Some(Vec::new()),
        (None, Pass::Service) => {
            let hint = "add command = [\"program\", \"argument\"]";
            at.refuse(Wrong::hinted("the service has no `command`", hint));
            None
        }
    }
}

/// The names in `after`, with their places. A service whose defaults name itself does not mean it.
fn after<'t>(section: &Section<'t>, name: &Name) -> Option<Vec<(Name, At<'t>)>> {
    let Some((_, value)) = section.get_with_depth("after") else { return Some(Vec::new()) };
    let own = section.is_own("after");
    // Reading it reports what is wrong with it; the same report twice is told once.
    let names = value.list_of(|it| Some((Name::from(it.text()?.as_str()), it.at)))?;
    Some(names.into_iter().filter(|it| own || it.0 != *name).collect())
}

fn probes(section: &Section<'_>, pass: Pass) -> Option<Vec<Probe>> {
    let of_role = |(key, role)| probe::read(role, key, section, pass);
    let probes = ROLES.map(of_role);
    let probes: Option<Vec<Vec<Probe>>> = probes.into_iter().collect();
    Some(probes?.into_iter().flatten().collect())
}

/// What the process is born with.
struct Process {
    directory: PathBuf,
    user: Option<String>,
    group: Option<String>,
    env: BTreeMap<String, String>,
    env_file: Vec<EnvFile>,
    clear_env: bool,
    umask: u32,
    nice: i32,
    oom_score_adj: i32,
    no_new_privileges: bool,
    limits: BTreeMap<Resource, Limit>,
}

fn process(section: &Section<'_>, at: At<'_>) -> Option<Process> {
    let directory = section.or("directory", joined(&at.source.folder, ""), Value::path);
    let user = section.maybe("user", account);
    let group = section.maybe("group", account);
    let env = env(&section.section("env"));
    let env_file = section.or("env_file", Vec::new(), |it| it.list_of(env_file));
    let clear_env = section.or("clear_env", false, Value::truth);
    let umask = section.or("umask", 0o022, umask);
    let small = |it: Value<'_>, max: i64| it.whole(-max..=max).and_then(|it| it.try_into().ok());
    let nice = section.or("nice", 0, |it| it.whole(-20..=19).and_then(|it| it.try_into().ok()));
    let oom_score_adj = section.or("oom_score_adj", 0, |it| small(it, 1000));
    let no_new_privileges = section.or("no_new_privileges", false, Value::truth);
    let limits = limits(&section.section("limits"));
    Some(Process {
        directory: directory?,
        user: user?,
        group: group?,
        env: env?,
        env_file: env_file?,
        clear_env: clear_env?,
        umask: umask?,
        nice: nice?,
        oom_score_adj: oom_score_adj?,
        no_new_privileges: no_new_privileges?,
        limits: limits?,
    })
}

/// One that a program can answer: it is to say where it hangs.
fn hang_signal(value: Value<'_>) -> Option<Signal> {
    let signal = command::signal(value)?;
    if [Signal::KILL, Signal::STOP].contains(&signal) {
        let wrong = format!("must be a signal that a program can answer, found {signal}");
        value.refuse(Wrong::hinted(wrong, "write \"ABRT\", which Python's faulthandler answers"));
        return None;
    }
    Some(signal)
}

/// A user or a group, by name or number.
fn account(value: Value<'_>) -> Option<String> {
    if let DeValue::Integer(_) = value.item {
        return value.whole(0..=i64::from(u32::MAX - 1)).map(|id| id.to_string());
    }
    let text = value.full_text()?;
    if text.contains([':', '/']) || text.contains(char::is_whitespace) {
        let wrong = format!("must be one name or number, found `{text}`");
        value.refuse(Wrong::hinted(wrong, "the group has a key of its own: group = \"…\""));
        return None;
    }
    Some(text)
}

fn env(section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    let read = |it: Value<'_>| {
        let text = it.text();
        if it.key.is_empty() || it.key.contains(['=', '\0']) {
            it.refuse(Wrong::new("is not the name of a variable"));
            return None;
        }
        if ["KEEPUP_RUN", "KEEPUP_SERVICE"].contains(&it.key) {
            it.refuse(Wrong::new("is set by keepup itself"));
            return None;
        }
        Some((it.key.to_owned(), text?))
    };
    let entries: Vec<Option<_>> = section.entries().into_iter().map(read).collect();
    entries.into_iter().collect()
}

fn env_file(value: Value<'_>) -> Option<EnvFile> {
    let text = value.full_text()?;
    let (path, optional) = match text.strip_prefix('?') {
        Some(path) => (path, true),
        None => (text.as_str(), false),
    };
    if path.is_empty() {
        value.refuse(Wrong::new("must name a file after the `?`"));
        return None;
    }
    Some(EnvFile { path: joined(&value.at.source.folder, path), optional })
}

fn umask(value: Value<'_>) -> Option<u32> {
    let (text, number) = match value.item {
        DeValue::Integer(number) => (number.as_str().to_owned(), true),
        DeValue::String(_) => (value.text()?, false),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            value.must_be("an octal number in quotes", Some("write \"022\"".to_owned()));
            return None;
        }
    };
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let umask = u32::from_str_radix(&text, 8).ok().filter(|&umask| octal && umask <= 0o777);
    match umask {
        Some(umask) if !number => return Some(umask),
        Some(umask) => value.refuse(Wrong::hinted(
            "must be an octal number in quotes",
            format!("write \"{umask:03o}\""),
        )),
        None => value.refuse(Wrong::hinted(
            format!("must be an octal number of at most 777, found `{text}`"),
            "write \"022\"",
        )),
    }
    None
}

fn limits(section: &Section<'_>) -> Option<BTreeMap<Resource, Limit>> {
    let read = |it: Value<'_>| {
        let limit = limit(it);
        let resource = Resource::ALL.iter().find(|resource| resource.0 == it.key);
        if resource.is_none() {
            let hint = did_you_mean(it.key, Resource::ALL.iter().map(|it| it.0));
            let text = format!("unknown resource `{}`", it.key);
            section.key_at(it.key).refuse(Wrong { text, hint });
        }
        Some((resource?.1, limit?))
    };
    let entries: Vec<Option<_>> = section.entries().into_iter().map(read).collect();
    entries.into_iter().collect()
}

/// A number in the resource's unit, a size, a time for `cpu`, or `unlimited`.
fn limit(value: Value<'_>) -> Option<Limit> {
    let DeValue::String(_) = value.item else {
        let number = value.whole(0..=i64::MAX)?;
        return u64::try_from(number).ok().map(Limit::At);
    };
    if ["unlimited", "infinity"].contains(&value.text()?.as_str()) {
        return Some(Limit::Unlimited);
    }
    let limit = match value.key {
        "as" | "core" | "data" | "fsize" | "memlock" | "stack" => value.size_from(Zero::Allowed)?,
        "cpu" => value.duration()?.as_secs().max(1),
        _ => {
            value.must_be("a whole number or \"unlimited\"", None);
            return None;
        }
    };
    Some(Limit::At(limit))
}

/// What a service must not say, or probably does not mean, about itself.
fn check(section: &Section<'_>, service: &Service) {
    if service.oneshot {
        let sense = [
            ("liveness", "ends a oneshot that is still at work when it fails"),
            ("heartbeat", "ends a oneshot that is still at work when it stops"),
            ("readiness", "has no meaning for a oneshot, which is ready when it is done"),
        ];
        for (key, sense) in sense {
            if let Some(value) = section.get(key) {
                value.warn(Wrong::new(sense));
            }
        }
    }
    if let Some(value) = section.get("reload_signal")
        && service.env_file.is_empty()
    {
        value.warn(Wrong::new("is sent when an `env_file` has changed, and there is none"));
    }
    let startup = service.probes.iter().any(|it| it.role == Role::Startup);
    let gate = if startup { Role::Startup } else { Role::Liveness };
    let late = |it: &&Probe| it.role == gate && it.initial_delay >= service.start_timeout;
    if let Some(probe) = service.probes.iter().find(late) {
        let key = if startup { "startup" } else { "liveness" };
        let [delay, timeout] = [probe.initial_delay, service.start_timeout].map(duration::print);
        section.at(key).refuse(Wrong::hinted(
            format!("the service can never start: `initial_delay` is {delay}, and `start_timeout` {timeout}"),
            "raise start_timeout",
        ));
    }
}
