//! The HTTP endpoint: what machines read.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::{Folder, Keepup, shell};
use crate::world::{body, code, free_port, get, request, wait_until};

struct Endpoint {
    keepup: Keepup,
    port: u16,
}

fn start(services: &str) -> Endpoint {
    let port = free_port();
    let keys = format!("listen = \"127.0.0.1:{port}\"");
    let keepup = Keepup::start_in(Folder::new(), &keys, services);
    wait_until("it answers", || get(port, "/healthz").is_ok());
    Endpoint { keepup, port }
}

impl Endpoint {
    fn get(&self, path: &str) -> String {
        get(self.port, path).unwrap()
    }
}

const SLOW: &str =
    "[service.api.readiness]\nexec = [\"test\", \"-e\", \"ok\"]\ninterval = \"20ms\"\n";

#[test]
fn readyz_says_what_is_not_ready_until_all_is() {
    let services = shell("api", "exec sleep 1000", SLOW) + &shell("worker", "exec sleep 1000", "");
    let mut endpoint = start(&services);
    endpoint.keepup.event("worker", "ready");
    assert_eq!(code(&endpoint.get("/healthz")), 200);
    let answer = endpoint.get("/readyz");
    assert_eq!(code(&answer), 503, "{answer}");
    assert!(body(&answer).contains("api") && !body(&answer).contains("worker"), "{answer}");
    endpoint.keepup.folder.write("ok", "");
    wait_until("it is ready", || code(&endpoint.get("/readyz")) == 200);
    // Readiness lost is no reason for a restart, but for traffic to go elsewhere.
    std::fs::remove_file(endpoint.keepup.folder.path("ok")).unwrap();
    wait_until("it is not ready", || code(&endpoint.get("/readyz")) == 503);
    let status = endpoint.keepup.service("api");
    assert_eq!((&status["state"], &status["run"]), (&"up".into(), &1.into()));
    assert_eq!((&status["health"], &status["ready"]), (&"degraded".into(), &false.into()));
    assert_eq!(code(&endpoint.get("/healthz")), 200, "keepup itself is well");
}

#[test]
fn a_stop_by_an_operator_is_no_issue_but_a_given_up_service_is() {
    let keys = "[service.bad.restart]\npolicy = \"never\"\n";
    let services = shell("api", "exec sleep 1000", "")
        + &shell("bad", "test -e die && exit 1; sleep 0.1; exit 1", keys);
    let endpoint = start(&services);
    endpoint.keepup.ask(&["stop", "api"]);
    wait_until("the bad one is given up", || endpoint.keepup.service("bad")["state"] == "failed");
    let answer = endpoint.get("/readyz");
    assert_eq!(code(&answer), 503, "{answer}");
    assert!(body(&answer).contains("bad") && !body(&answer).contains("api"), "{answer}");
    endpoint.keepup.ask(&["stop", "bad"]);
    assert_eq!(code(&endpoint.get("/readyz")), 200);
}

#[test]
fn status_over_http_is_the_status_of_the_command_line() {
    let endpoint = start(&shell("api", "exec sleep 1000", ""));
    endpoint.keepup.wait_status("api", "state", "up");
    let still = |mut status: Value| {
        status["supervisor"]["uptime_seconds"].take();
        status["supervisor"]["host"].take();
        let moving = ["uptime_seconds", "memory_bytes", "cpu_percent", "uptime_percent_24h"];
        for service in status["services"].as_array_mut().unwrap() {
            for field in moving {
                service[field].take();
            }
        }
        status
    };
    let over_http = serde_json::from_str(body(&endpoint.get("/v1/status"))).unwrap();
    assert_eq!(still(over_http), still(endpoint.keepup.status()));
    wait_until("its memory is known", || {
        endpoint.keepup.service("api")["memory_bytes"].as_u64() > Some(1000)
    });
}

#[test]
fn metrics_have_the_promised_names_and_parse() {
    let keys = "[service.api.liveness]\nexec = [\"true\"]\ninterval = \"20ms\"\n\
        [service.api.readiness]\nexec = [\"false\"]\ninterval = \"20ms\"\n\
        [service.api.warning]\nexec = [\"sleep\", \"1000\"]\ninterval = \"20ms\"\ntimeout = \"30ms\"\n\
        [service.api.heartbeat]\nfile = \"beat\"\ndegraded_after = \"20s\"\nunhealthy_after = \"40s\"\n";
    let script = "while :; do echo > beat; echo line; sleep 0.05; done";
    let mut endpoint = start(&shell("api", script, keys));
    endpoint.keepup.up("api");
    endpoint.keepup.ask(&["restart", "api"]);
    wait_until("its probes were counted", || {
        let answer = endpoint.get("/metrics");
        ["role=\"readiness\"", "class=\"timeout\""].iter().all(|it| answer.contains(it))
    });
    let answer = endpoint.get("/metrics");
    assert!(answer.to_lowercase().contains("content-type: text/plain"), "{answer}");
    let mut names = BTreeSet::new();
    for line in body(&answer).lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        names.insert(name.to_owned());
    }
    for name in [
        "keepup_service_up",
        "keepup_service_ready",
        "keepup_service_state",
        "keepup_service_starts_total",
        "keepup_service_ends_total",
        "keepup_service_failures_in_row",
        "keepup_service_start_time_seconds",
        "keepup_service_heartbeat_age_seconds",
        "keepup_service_memory_bytes",
        "keepup_service_cpu_seconds_total",
        "keepup_probe_duration_seconds_bucket",
        "keepup_probe_duration_seconds_sum",
        "keepup_probe_duration_seconds_count",
        "keepup_probe_misses_total",
        "keepup_log_bytes_total",
        "keepup_log_lines_lost_total",
        "keepup_build_info",
    ] {
        assert!(names.contains(name), "{name} is missing in {names:?}");
    }
    let line = |start: &str| {
        let line = body(&answer).lines().find(|it| it.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start}:\n{answer}")).to_owned()
    };
    assert_eq!(line("keepup_service_up{service=\"api\"}"), "keepup_service_up{service=\"api\"} 1");
    let misses = "keepup_probe_misses_total{class=\"timeout\",role=\"warning\",service=\"api\"}";
    assert!(!line(misses).ends_with(" 0"));
}

#[test]
fn nothing_can_be_changed_over_tcp() {
    let endpoint = start(&shell("api", "exec sleep 1000", ""));
    endpoint.keepup.wait_status("api", "state", "up");
    for path in ["/v1/services/api/stop", "/v1/services/api/restart", "/v1/reload", "/v1/status"] {
        let answer = request(endpoint.port, "POST", path).unwrap();
        assert!((400..500).contains(&code(&answer)), "{path}: {answer}");
    }
    let status = endpoint.keepup.service("api");
    assert_eq!((&status["state"], &status["run"]), (&"up".into(), &1.into()));
    assert_eq!(code(&endpoint.get("/no-such-page")), 404);
}

#[test]
fn there_is_a_page_for_people() {
    let endpoint = start(&shell("api", "exec sleep 1000", ""));
    let answer = endpoint.get("/");
    assert_eq!(code(&answer), 200);
    assert!(answer.to_lowercase().contains("content-type: text/html"), "{answer}");
    assert!(body(&answer).contains("api"), "{answer}");
}

#[test]
fn a_taken_port_is_a_warning_and_tried_again() {
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let keys = format!("listen = \"127.0.0.1:{port}\"");
    let services = shell("api", "exec sleep 1000", "");
    let mut keepup = Keepup::start_in(Folder::new(), &keys, &services);
    keepup.wait_for(&["WARN", &port.to_string()]);
    keepup.up("api");
    drop(taken);
    wait_until("it has the port", || get(port, "/healthz").is_ok());
}

#[test]
fn connections_that_say_nothing_hold_up_nobody() {
    let mut endpoint = start(&shell("api", "exec sleep 1000", ""));
    let silent: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", endpoint.port)).unwrap())
        .collect();
    // At the limit of connections an answer may be refused, but the supervision goes on.
    let _ = get(endpoint.port, "/healthz");
    assert_eq!(endpoint.keepup.service("api")["state"], "up");
    endpoint.keepup.end();
    drop(silent);
}
