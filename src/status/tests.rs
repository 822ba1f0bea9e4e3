//! The shape of the status, and the level.

use std::time::Duration;

use super::*;
use crate::core::event::Asker;
use crate::plan::{Class, Signal};

/// A service as it is when all is well.
pub(crate) fn service(name: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        want: Want::Up,
        state: State::Up,
        health: Some(Health::Healthy),
        ready: true,
        pid: Some(4711),
        run: 3,
        uptime_seconds: Some(93.5),
        restarts: 2,
        failures_in_row: 0,
        restarts_in_window: 2,
        max_restarts: 10,
        next_start_in_seconds: None,
        memory_bytes: None,
        cpu_percent: None,
        open_files: None,
        threads: None,
        uptime_percent_24h: None,
        heartbeat_age_seconds: None,
        errors_last_hour: None,
        log: LogStatus::default(),
        status_text: None,
        last_end: None,
        probes: Vec::new(),
        given_up: false,
        uses_much: false,
        trouble: None,
        awaits: None,
        cpu_seconds: None,
    }
}

/// The status of these services.
pub(crate) fn status(services: Vec<ServiceStatus>) -> Status {
    let supervisor = SupervisorStatus {
        version: "0.1.0".to_owned(),
        pid: 1,
        uptime_seconds: 3600.25,
        config: Some("/etc/keepup/supervisor.toml".to_owned()),
        level: Level::of(&services),
        host: Host::default(),
    };
    Status { supervisor, services }
}

/// A moment of a test.
pub(crate) fn stamp() -> Stamp {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

#[test]
fn every_field_is_present_and_null_when_unknown() {
    let exit = Exit::Signal { signal: Signal::KILL, core_dumped: false };
    let miss = Miss { class: Class::Refused, text: "connection refused".to_owned() };
    let unasked = ProbeStatus {
        role: "liveness".to_owned(),
        kind: "http".to_owned(),
        target: "http://127.0.0.1:8000/".to_owned(),
        ok: None,
        misses: 0,
        latency_ms: None,
        class: None,
        detail: None,
    };
    let api = ServiceStatus {
        last_end: Some(LastEnd::of(&End::Exited(exit), Some(exit), stamp())),
        errors_last_hour: Some(3),
        log: LogStatus {
            bytes: 5,
            lines_lost: 2,
            problem: Some("cannot write".to_owned()),
            since: Some(stamp()),
        },
        probes: vec![
            unasked.clone(),
            unasked.answered(Some(&miss), 2, Duration::from_micros(1_250)),
        ],
        ..service("api")
    };
    let never = LastEnd::of(&End::Asked(Asker::Operator(0)), None, stamp());
    let idle = ServiceStatus {
        want: Want::Down,
        state: State::Down,
        health: None,
        ready: false,
        pid: None,
        run: 0,
        uptime_seconds: None,
        last_end: Some(never),
        ..service("idle")
    };
    let text = serde_json::to_string(&status(vec![api, idle])).unwrap();
    let expected = concat!(
        r#"{"supervisor":{"version":"0.1.0","pid":1,"uptime_seconds":3600.25,"#,
        r#""config":"/etc/keepup/supervisor.toml","level":"normal","#,
        r#""host":{"memory_used_percent":null,"disk_used_percent":null,"load1":null}},"#,
        r#""services":[{"name":"api","want":"up","state":"up","health":"healthy","ready":true,"#,
        r#""pid":4711,"run":3,"uptime_seconds":93.5,"restarts":2,"failures_in_row":0,"#,
        r#""restarts_in_window":2,"max_restarts":10,"next_start_in_seconds":null,"#,
        r#""memory_bytes":null,"cpu_percent":null,"open_files":null,"threads":null,"#,
        r#""uptime_percent_24h":null,"#,
        r#""heartbeat_age_seconds":null,"errors_last_hour":3,"log":{"bytes":5,"lines_lost":2,"#,
        r#""problem":"cannot write","since":"2026-01-02T03:04:05.678Z"},"status_text":null,"#,
        r#""last_end":{"reason":"exited","exit":{"code":null,"#,
        r#""signal":"SIGKILL","core_dumped":false,"oom":null,"text":"killed by SIGKILL"},"#,
        r#""at":"2026-01-02T03:04:05.678Z","incident":null},"probes":[{"role":"liveness","#,
        r#""kind":"http","target":"http://127.0.0.1:8000/","ok":null,"misses":0,"#,
        r#""latency_ms":null,"class":null,"detail":null},{"role":"liveness","kind":"http","#,
        r#""target":"http://127.0.0.1:8000/","ok":false,"misses":2,"latency_ms":1.25,"#,
        r#""class":"refused","detail":"connection refused"}]},"#,
        r#"{"name":"idle","want":"down","state":"down","health":null,"ready":false,"pid":null,"#,
        r#""run":0,"uptime_seconds":null,"restarts":2,"failures_in_row":0,"#,
        r#""restarts_in_window":2,"max_restarts":10,"next_start_in_seconds":null,"#,
        r#""memory_bytes":null,"cpu_percent":null,"open_files":null,"threads":null,"#,
        r#""uptime_percent_24h":null,"heartbeat_age_seconds":null,"errors_last_hour":null,"#,
        r#""log":{"bytes":0,"lines_lost":0,"problem":null,"since":null},"status_text":null,"#,
        r#""last_end":{"reason":"asked","exit":null,"#,
        r#""at":"2026-01-02T03:04:05.678Z","incident":null},"probes":[]}]}"#,
    );
    assert_eq!(text, expected);
    let back: Status = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), expected);
}

#[test]
fn the_level_follows_the_worst_service() {
    let well = service("a");
    let degraded = ServiceStatus { health: Some(Health::Degraded), ..service("b") };
    let unhealthy = ServiceStatus { health: Some(Health::Unhealthy), ..service("c") };
    let crashed = ServiceStatus { health: None, state: State::Backoff, ..service("d") };
    let failed = ServiceStatus { health: None, state: State::Failed, ..service("e") };
    let retried = ServiceStatus { given_up: true, ..crashed.clone() };
    let fat = ServiceStatus { uses_much: true, ..degraded.clone() };
    let level = |them: &[&ServiceStatus]| {
        Level::of(&them.iter().map(|it| (*it).clone()).collect::<Vec<_>>())
    };
    assert_eq!(level(&[&well]), Level::Normal);
    assert_eq!(level(&[&well, &fat]), Level::Warning);
    assert_eq!(level(&[&fat, &degraded]), Level::Degraded);
    assert_eq!(level(&[&well, &degraded]), Level::Degraded);
    assert_eq!(level(&[&well, &unhealthy]), Level::Degraded);
    assert_eq!(level(&[&crashed]), Level::Degraded);
    assert_eq!(level(&[&crashed, &unhealthy]), Level::Critical);
    assert_eq!(level(&[&well, &failed]), Level::Critical);
    assert_eq!(level(&[&retried]), Level::Critical);
}

#[test]
fn issues_are_of_services_wanted_up_or_given_up() {
    let since = stamp();
    let trouble = Some(Trouble { what: "exit code 1".to_owned(), since });
    let stopped = ServiceStatus {
        want: Want::Down,
        state: State::Down,
        ready: false,
        health: None,
        ..service("stopped")
    };
    let failed = ServiceStatus { state: State::Failed, ready: false, ..stopped.clone() };
    let crashed = ServiceStatus {
        state: State::Backoff,
        ready: false,
        health: None,
        next_start_in_seconds: Some(2.5),
        trouble,
        ..service("crashed")
    };
    let done = ServiceStatus { state: State::Done, ready: false, health: None, ..service("done") };
    let slow = ServiceStatus { health: Some(Health::Degraded), ..service("slow") };
    let all = status(vec![service("api"), stopped, failed, crashed, done, slow]);
    let issues = all.issues();
    let said: Vec<_> = issues.iter().map(|it| format!("{}: {}", it.service, it.what)).collect();
    assert_eq!(said, ["stopped: given up", "crashed: exit code 1; next start in 2.5s"]);
    assert_eq!(issues.iter().map(|it| it.since).collect::<Vec<_>>(), [None, Some(since)]);
    let problems = all.problems();
    assert_eq!(problems.last().map(|it| it.service.as_str()), Some("slow"));
    assert_eq!(problems.len(), 3);
}

#[test]
fn seconds_are_rounded_to_the_millisecond() {
    assert!((seconds(Duration::from_micros(1_234_567)) - 1.235).abs() < f64::EPSILON);
}
