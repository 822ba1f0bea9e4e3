//! Plans with the defaults of `supervisor.toml`, to be changed where a story needs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use keepup::plan::{
    Errors, ExitMatch, Heartbeat, Host, HttpAddress, Level, Logs, OnCap, OwnLogFormat, Plan,
    Policy, Probe, ProbeKind, Question, Resources, Restart, Rewrite, Role, Scope, Service, Signal,
    Socket, Supervisor, WaitFor,
};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn plan(services: Vec<Service>) -> Plan {
    let supervisor = Supervisor {
        name: "keepup".to_owned(),
        config: None,
        state_dir: PathBuf::from("/state"),
        runtime_dir: PathBuf::from("/run"),
        log_dir: PathBuf::from("/log"),
        listen: None,
        control_group: None,
        log_level: Level::Info,
        log_format: OwnLogFormat::Text,
        shutdown_timeout: s(25),
        stay: false,
        incidents_keep: 100,
        host: Host::default(),
    };
    Plan { supervisor, services }
}

/// A service with all defaults but a jitter of 0, changed by `change`.
pub(crate) fn service(name: &str, change: impl FnOnce(&mut Service)) -> Service {
    let mut service = Service {
        name: name.into(),
        command: vec![format!("/bin/{name}")],
        directory: PathBuf::from("/"),
        user: None,
        group: None,
        env: BTreeMap::new(),
        env_file: Vec::new(),
        clear_env: false,
        umask: 0o022,
        nice: 0,
        oom_score_adj: 0,
        no_new_privileges: false,
        limits: BTreeMap::new(),
        listen: Vec::new(),
        after: Vec::new(),
        wait_for: Vec::new(),
        pre_start: Vec::new(),
        post_stop: Vec::new(),
        oneshot: false,
        autostart: true,
        essential: false,
        notify: false,
        start_timeout: s(60),
        stop_signal: Signal::TERM,
        reload_signal: None,
        stop_timeout: s(8),
        stop_scope: Scope::Group,
        hang_signal: None,
        evidence_timeout: s(1),
        rewrite: Rewrite::default(),
        resources: Resources::default(),
        restart: restart_defaults(),
        probes: Vec::new(),
        heartbeat: None,
        logs: logs(name),
    };
    change(&mut service);
    // As in a plan that was checked: in the order of roles.
    service.probes.sort_by_key(|probe| probe.role);
    service
}

/// A oneshot: its policy is on-failure.
pub(crate) fn oneshot(name: &str, change: impl FnOnce(&mut Service)) -> Service {
    service(name, |it| {
        it.oneshot = true;
        it.restart.policy = Policy::OnFailure;
        change(it);
    })
}

/// Something that a service needs, at a host and port.
pub(crate) fn need(written: &str) -> WaitFor {
    let question = Question::Connect(HttpAddress::Tcp("db".to_owned(), 5432));
    WaitFor { written: written.to_owned(), question }
}

fn restart_defaults() -> Restart {
    Restart {
        policy: Policy::Always,
        delay: ms(500),
        max_delay: s(60),
        factor: 2.0,
        jitter: 0.0,
        max_restarts: 10,
        window: s(30 * 60),
        stable_after: s(60),
        on_cap: OnCap::Retry,
        retry_after: s(5 * 60),
        success_codes: vec![ExitMatch::Code(0)],
        fatal_codes: Vec::new(),
    }
}

fn logs(name: &str) -> Logs {
    Logs::usual(PathBuf::from(format!("/log/{name}.log")))
}

/// More than so many error lines within an hour are too many.
pub(crate) fn errors(per_hour: u32) -> Errors {
    Errors { pattern: "ERROR".to_owned(), per_hour: Some(per_hour) }
}

/// `on-failure:N`, as Docker spells it.
pub(crate) fn on_failure_at_most(restarts: u32) -> impl FnOnce(&mut Service) {
    move |it| {
        it.restart.policy = Policy::OnFailure;
        it.restart.max_restarts = restarts;
        it.restart.on_cap = OnCap::Fail;
    }
}

/// A probe of the port 80 of a host with the name of its role.
pub(crate) fn probe(role: Role, change: impl FnOnce(&mut Probe)) -> Probe {
    let mut probe = Probe {
        role,
        kind: ProbeKind::Tcp(format!("{role}:80")),
        interval: s(10),
        retry_interval: s(3),
        timeout: s(5),
        failures: 3,
        successes: 1,
        initial_delay: Duration::ZERO,
        slow: None,
        definite: Vec::new(),
    };
    change(&mut probe);
    probe
}

/// One to be held.
pub(crate) fn socket() -> Socket {
    Socket::Systemd("http".to_owned())
}

pub(crate) fn liveness() -> Probe {
    probe(Role::Liveness, |_| {})
}

pub(crate) fn heartbeat(degraded_after: Duration, unhealthy_after: Duration) -> Heartbeat {
    Heartbeat { file: Some(PathBuf::from("/run/beat")), degraded_after, unhealthy_after }
}

/// Beats are WATCHDOG=1 alone.
pub(crate) fn watchdog(degraded_after: Duration, unhealthy_after: Duration) -> Heartbeat {
    Heartbeat { file: None, degraded_after, unhealthy_after }
}
