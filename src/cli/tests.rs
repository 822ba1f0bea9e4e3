//! What people see of the status, and the exit codes of what cannot be done.

use super::output::Paint;
use super::status::{detail, overview};
use super::{Arguments, Error, Kind, perform};
use crate::core::event::{End, Exit};
use crate::status::tests::{service, stamp, status};
use crate::status::{Health, Issue, LastEnd, ProbeStatus, ServiceStatus, Stamp, State};
use clap::Parser;

fn now() -> Stamp {
    "2026-01-02T03:08:05.678Z".parse().unwrap()
}

fn worker() -> ServiceStatus {
    let exit = Exit::Code(1);
    ServiceStatus {
        state: State::Backoff,
        health: None,
        ready: false,
        pid: None,
        uptime_seconds: None,
        restarts: 7,
        next_start_in_seconds: Some(3.2),
        last_end: Some(LastEnd::of(&End::Exited(exit), Some(exit), stamp())),
        ..service("worker-mail")
    }
}

fn problem() -> Issue {
    let what = "ended after 2s: exit code 1; next start in 3.2s".to_owned();
    Issue { service: "worker-mail".to_owned(), what, since: Some(stamp()) }
}

#[test]
fn the_table_is_aligned_and_says_what_is_wrong() {
    let api = ServiceStatus { status_text: Some("serving \x1b[31m3".to_owned()), ..service("api") };
    let loads =
        ServiceStatus { ready: false, status_text: Some("loading".to_owned()), ..service("x") };
    let mut all = status(vec![api, loads, worker()]);
    all.supervisor.host.disk_used_percent = Some(81.4);
    let shown = overview(&all, &[problem()], now(), Paint::Plain);
    let expected = "\
keepup 0.1.0, pid 1, up 1h, degraded, disk 81%

NAME         STATE    HEALTH    PID  UPTIME  RESTARTS  WHY
api          up       healthy  4711  1m 33s         2  serving \\u{1b}[31m3
x            up       healthy  4711  1m 33s         2  not ready yet; says: loading
worker-mail  backoff  -           -       -         7  exit code 1; next start in 3.2s

worker-mail: ended after 2s: exit code 1; next start in 3.2s (for 4m, since 2026-01-02T03:04:05.678Z)
";
    assert_eq!(shown, expected);
    let painted = overview(&all, &[], now(), Paint::Colours);
    assert!(painted.contains("\x1b[33mbackoff\x1b[0m"), "{painted}");
}

#[test]
fn one_service_is_shown_with_its_probes() {
    let probe = |role: &str, ok, detail: Option<&str>| ProbeStatus {
        role: role.to_owned(),
        kind: "http".to_owned(),
        target: "http://127.0.0.1:8000/".to_owned(),
        ok,
        misses: 2,
        latency_ms: Some(12.5),
        class: None,
        detail: detail.map(str::to_owned),
    };
    let api = ServiceStatus {
        health: Some(Health::Degraded),
        memory_bytes: Some(13 << 20),
        uptime_percent_24h: Some(99.123),
        probes: vec![
            probe("liveness", Some(true), None),
            probe("readiness", Some(false), Some("502 Bad Gateway\u{1b}[2J")),
            probe("warning", None, None),
        ],
        last_end: worker().last_end,
        ..service("api")
    };
    let expected = "\
api: up, degraded, ready
  wanted    up
  process   pid 4711, run 3
  uptime    1m 33s, 99.1% of the last 24h
  restarts  2 (2 of 10 to the cap)
  memory    13.0 MiB
  last end  exit code 1 (4m ago, 2026-01-02T03:04:05.678Z)

  liveness   http  http://127.0.0.1:8000/  pass in 12ms
  readiness  http  http://127.0.0.1:8000/  missed 2: 502 Bad Gateway\\u{1b}[2J
  warning    http  http://127.0.0.1:8000/  not asked yet
";
    assert_eq!(detail(&api, &[], now(), Paint::Plain), expected);
}

fn refused(line: &[&str]) -> Error {
    let line = std::iter::once(&"keepup").chain(line);
    perform(Arguments::try_parse_from(line).unwrap()).unwrap_err()
}

#[test]
fn what_is_wrong_with_the_arguments_of_run_is_shown_in_them() {
    let error = refused(&["run", "--listen", "tcp::80", "--", "x"]);
    assert!(
        error.to_string().contains("must hold an address and a port, found `tcp::80`"),
        "{error}"
    );
    assert_eq!(error.kind.code(), 2);
    assert_eq!(refused(&["-c", "f", "run", "--", "x"]).kind.code(), 2);
}

#[test]
fn where_no_keepup_is_the_exit_code_is_5() {
    for line in [["status"].as_slice(), &["stop", "api"], &["events"], &["healthcheck"]] {
        let line: Vec<&str> = line.iter().copied().chain(["--socket", "/nonexistent/s"]).collect();
        let error = refused(&line);
        assert_eq!((error.kind, error.kind.code()), (Kind::Nobody, 5), "{line:?}");
        let text = error.to_string();
        assert!(text.starts_with("error: cannot talk to keepup at `/nonexistent/s`: "), "{text}");
    }
    assert_eq!(refused(&["stop", "a b", "--socket", "/nonexistent/s"]).kind.code(), 2);
}
