//! The files in packaging/examples, as they stand there: only times are made shorter and ports are
//! made free. Programs that may not be here have a stand-in of the same name in `PATH`.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use keepup::config::duration;
use serde_json::{Value, json};

use crate::harness::{Folder, Keepup, set_mode, supervisor};
use crate::world::{at, free_port, repository, wait_until};

/// A running example.
struct Example {
    keepup: Keepup,
    ports: BTreeMap<u16, u16>,
}

fn text(name: &str) -> String {
    fs::read_to_string(repository().join("packaging/examples").join(name)).unwrap()
}

/// The text with every duration in quotes divided by this.
fn faster(text: &str, by: u32) -> String {
    let lines = text.split('\n').map(|line| {
        // A busy machine answers as late as that, and not for what is asked here.
        let at_least = if line.starts_with("timeout") { TIMEOUT_MIN } else { Duration::ZERO };
        let parts = line.split('"').enumerate().map(|(nth, part)| match duration::parse(part) {
            Ok(it) if nth % 2 == 1 => {
                let millis = u64::try_from((it / by).max(at_least).as_millis()).unwrap();
                duration::print(Duration::from_millis(millis))
            }
            _ => part.to_owned(),
        });
        parts.collect::<Vec<String>>().join("\"")
    });
    lines.collect::<Vec<String>>().join("\n")
}

const TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// Every port of the examples, and a free one in its place.
fn ports() -> BTreeMap<u16, u16> {
    let all = [8000, 8080, 9180, 5432, 3000, 3001, 3002, 3003, 3005, 3006, 3008];
    all.map(|port| (port, free_port())).into()
}

/// The text with free ports.
fn moved(text: &str, ports: &BTreeMap<u16, u16>) -> String {
    ports
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(&from.to_string(), &to.to_string()))
}

/// A folder with the stand-ins.
fn folder(ports: &BTreeMap<u16, u16>) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("bin")).unwrap();
    let stand_in = include_str!("stand_in.py");
    for name in ["uvicorn", "node", "nginx"] {
        folder.write(&format!("bin/{name}"), &format!("#!/usr/bin/env python3\n{stand_in}"));
        set_mode(&folder.path("bin").join(name), 0o755);
    }
    folder.write("bin/ports.json", &json!({ "nginx": ports[&8080] }).to_string());
    let ready =
        "#!/bin/sh\ntest -e rejects || exit 0\necho \"$2:$4 - rejecting connections\"\nexit 1\n";
    folder.write("bin/pg_isready", ready);
    set_mode(&folder.path("bin/pg_isready"), 0o755);
    folder
}

fn launch(name: &str, by: u32, folder: Folder, ports: BTreeMap<u16, u16>) -> Example {
    let text = moved(&faster(&text(name), by), &ports);
    let (own, rest) = match text.split_once("[supervisor]\n") {
        Some((before, after)) => (before.to_owned(), after.to_owned()),
        None => (String::new(), text),
    };
    folder.write("supervisor.toml", &format!("{own}{}{rest}", supervisor("")));
    let mut command = folder.keepup();
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", folder.path("bin").display()));
    command.env("AGENT_API_KEY", "s3cret").env("PGPORT", ports[&5432].to_string());
    command.env_remove("PGHOST");
    Example { keepup: Keepup::launch(folder, command), ports }
}

fn start(name: &str, by: u32) -> Example {
    let ports = ports();
    launch(name, by, folder(&ports), ports)
}

impl Example {
    /// From now on the server at this port of the file answers so.
    fn answer(&self, port: u16, answers: &Value) {
        let port = self.ports[&port];
        let new = self.keepup.folder.write("new", &answers.to_string());
        fs::rename(new, self.keepup.folder.path(&format!("answers-{port}.json"))).unwrap();
    }

    /// What `/readyz` complains of.
    fn issues(&self) -> Value {
        let answer = crate::world::get(self.ports[&9180], "/readyz").unwrap();
        serde_json::from_str(crate::world::body(&answer)).unwrap()
    }
}

fn names() -> Vec<String> {
    let files = fs::read_dir(repository().join("packaging/examples")).unwrap();
    let mut names: Vec<String> =
        files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_example_is_accepted_as_it_is_and_without_a_warning() {
    assert!(names().len() >= 6);
    for name in names() {
        let folder = Folder::new();
        folder.write("supervisor.toml", &text(&name));
        let output = folder.keepup().arg("check").env("AGENT_API_KEY", "s3cret").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{name}");
    }
}

#[test]
fn an_api_is_asked_at_its_root_and_restarted_when_it_says_it_is_not_well() {
    let mut it = start("api.toml", 20);
    let first = it.keepup.up("api");
    it.keepup.event("api", "ready");
    assert!(it.keepup.service("api")["probes"][0]["target"].as_str().unwrap().ends_with('/'));
    it.answer(8000, &json!({ "/": [200, "{\"status\": \"broken\"}", 0] }));
    let unhealthy = it.keepup.event("api", "unhealthy");
    assert!(unhealthy["why"].as_str().unwrap().contains(r#"status is "broken""#), "{unhealthy}");
    it.answer(8000, &json!({ "/": [200, "{\"status\": \"healthy\"}", 0] }));
    assert_ne!(it.keepup.up("api"), first);
    it.keepup.event("api", "ready");
}

#[test]
fn a_bad_gateway_is_told_at_once_and_the_proxy_lives() {
    let mut it = start("proxy.toml", 20);
    it.answer(8080, &json!({ "/": [200, "", 0] }));
    it.keepup.event("proxy", "ready");
    it.keepup.event("api", "ready");
    assert_eq!(it.issues(), json!([]));
    let page = "upstream connect error\nsecond line";
    it.answer(8080, &json!({ "/": [502, page, 0] }));
    let miss = it.keepup.event("proxy", "miss");
    assert_eq!(miss["detail"], "502 Bad Gateway: upstream connect error", "{miss}");
    let degraded = it.keepup.event("proxy", "degraded");
    let why = "readiness fails: 502 Bad Gateway: upstream connect error";
    assert_eq!(degraded["why"], why);
    assert_eq!((&miss["count"], &miss["of"]), (&1.into(), &1.into()), "the first counts: {miss}");
    let issues = it.issues();
    assert_eq!(issues[0]["service"], "proxy", "{issues}");
    assert!(issues[0]["what"].as_str().unwrap().contains("502 Bad Gateway"), "{issues}");
    it.answer(8080, &json!({ "/": [200, "", 0] }));
    it.keepup.event("proxy", "ready");
    assert_eq!(it.keepup.service("proxy")["run"], 1);
    it.keepup.end();
}

/// A daemon that beats, counts, and does what a file `mood` says.
const DAEMON: &str = r#"
import json, os, pathlib, time
failures = 0
while True:
    mood = pathlib.Path("mood").read_text() if os.path.exists("mood") else ""
    if "mute" not in mood:
        pathlib.Path("daemon-heartbeat.txt").write_text(str(time.time()))
    failures = failures + 1 if "fails" in mood else 0
    status = "struggling" if failures else "running"
    metrics = {"status": status, "consecutive_failures": failures, "pid": os.getpid()}
    pathlib.Path("daemon-metrics.new").write_text(json.dumps(metrics))
    os.rename("daemon-metrics.new", "daemon-metrics.json")
    time.sleep(PERIOD)
"#;

#[test]
fn a_daemon_is_degraded_after_60_s_without_a_beat_and_restarted_after_120_s_or_5_failures() {
    const FASTER: u32 = 40;
    let ports = ports();
    let folder = folder(&ports);
    let period = Duration::from_secs(30) / FASTER;
    folder.write("daemon.py", &DAEMON.replace("PERIOD", &period.as_secs_f64().to_string()));
    // Left by an earlier run: neither a beat nor an accusation.
    folder.write("daemon-heartbeat.txt", "0");
    folder.write(
        "daemon-metrics.json",
        r#"{"status": "running", "consecutive_failures": 9, "pid": 1}"#,
    );
    let mut it = launch("daemon.toml", FASTER, folder, ports);
    it.keepup.event("daemon", "ready");
    assert_eq!(it.keepup.events("daemon", "unhealthy"), [] as [Value; 0]);

    it.keepup.folder.write("mood", "mute");
    let degraded = it.keepup.event("daemon", "degraded");
    assert!(degraded["why"].as_str().unwrap().starts_with("no heartbeat for 1.5s"), "{degraded}");
    let unhealthy = it.keepup.event("daemon", "unhealthy");
    assert!(unhealthy["why"].as_str().unwrap().starts_with("no heartbeat for 3"), "{unhealthy}");
    let between = at(&unhealthy) - at(&degraded);
    assert!((1_200..2_500).contains(&between), "{between} ms");
    assert_eq!(it.keepup.event("daemon", "ended")["reason"], "heartbeat-lost");

    it.keepup.folder.write("mood", "");
    it.keepup.event("daemon", "ready");
    it.keepup.folder.write("mood", "fails");
    let degraded = it.keepup.event("daemon", "degraded");
    let why = r#"warning fails: status is "struggling", wanted "running""#;
    assert_eq!(degraded["why"], why);
    let unhealthy = it.keepup.event("daemon", "unhealthy");
    let why = unhealthy["why"].as_str().unwrap();
    assert!(why.ends_with("consecutive_failures is 5, wanted at most 4"), "{unhealthy}");
    it.keepup.folder.write("mood", "");
    it.keepup.event("daemon", "ready");
    assert_eq!(it.keepup.service("api")["run"], 1, "the API beside it goes on");
}

#[test]
fn of_seven_services_a_slow_one_is_degraded_and_one_that_takes_too_long_fails() {
    let mut it = start("services.toml", 5);
    let names = ["auth", "users", "orders", "search", "mail", "reports", "gateway"];
    for name in names {
        it.keepup.event(name, "ready");
    }
    let slow = |seconds: f64| json!({ "/health": [200, "", seconds] });
    it.answer(3005, &slow(0.6));
    it.answer(3006, &slow(30.0));
    let degraded = it
        .keepup
        .event_with("search", "degraded", |it| it["why"].as_str().unwrap().contains("slow"));
    assert!(degraded["why"].as_str().unwrap().ends_with("slow is 400ms"), "{degraded}");
    let miss = it.keepup.event("mail", "miss");
    assert_eq!(
        (&miss["class"], &miss["detail"]),
        (&"timeout".into(), &"timed out after 2s".into())
    );
    it.keepup.event("mail", "unhealthy");
    it.answer(3006, &slow(0.0));
    it.keepup.event("mail", "ended");
    it.keepup.event("mail", "ready");
    assert_eq!(it.keepup.service("search")["run"], 1, "a slow one is not restarted");
    assert_eq!(it.keepup.service("search")["ready"], true);
}

#[test]
fn an_agent_is_asked_by_post_with_its_key() {
    let mut it = start("agent.toml", 50);
    it.answer(8000, &json!({ "/v1/agent": [200, "{\"status\": \"ok\"}", 0] }));
    it.keepup.event("agent", "ready");
    let asked = it.keepup.folder.read(&format!("asked-{}.json", it.ports[&8000]));
    let asked: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!((&asked["method"], &asked["path"]), (&"POST".into(), &"/v1/agent".into()));
    assert_eq!(asked["headers"]["x-api-key"], "s3cret", "{asked}");
    assert_eq!(asked["headers"]["content-type"], "application/json", "{asked}");
    assert_eq!(asked["body"], r#"{"message": "ping"}"#);
    it.answer(8000, &json!({ "/v1/agent": [401, "no such key", 0] }));
    let miss = it.keepup.event_with("agent", "miss", |it| it["count"] == 1);
    assert_eq!(miss["detail"], "401 Unauthorized: no such key");
    let all = format!("{}{}", it.keepup.said(), it.keepup.ask(&["status", "--json"]));
    assert!(!all.contains("s3cret"), "the key is not told:\n{all}");
}

#[test]
fn a_lost_database_degrades_the_api_and_does_not_kill_it() {
    let ports = ports();
    let database = TcpListener::bind(("127.0.0.1", ports[&5432])).unwrap();
    let mut it = launch("database.toml", 20, folder(&ports), ports);
    it.keepup.event("api", "ready");
    it.keepup.folder.write("rejects", "");
    let degraded = it.keepup.event("api", "degraded");
    let why = degraded["why"].as_str().unwrap();
    assert!(why.starts_with("warning fails: exit code 1: 127.0.0.1:"), "{degraded}");
    assert!(why.ends_with("rejecting connections"), "{degraded}");
    fs::remove_file(it.keepup.folder.path("rejects")).unwrap();
    it.keepup.event("api", "healthy");
    drop(database);
    let degraded = it.keepup.event("api", "degraded");
    // It may have been about to be taken from the queue of the socket that is gone.
    let why = degraded["why"].as_str().unwrap();
    let whys = ["connection refused", "connection reset while connecting"];
    assert!(whys.iter().any(|it| why == format!("warning fails: {it}")), "{degraded}");
    wait_until("it goes on", || it.keepup.service("api")["ready"] == true);
    assert_eq!(it.keepup.service("api")["run"], 1);
    assert_eq!(it.keepup.status()["supervisor"]["level"], "degraded");
    let _again = TcpListener::bind(("127.0.0.1", it.ports[&5432])).unwrap();
    it.keepup.event("api", "healthy");
    it.keepup.end();
}
