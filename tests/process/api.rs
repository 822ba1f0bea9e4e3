//! The main job: a real uvicorn is kept up.

use std::time::{Duration, Instant};

use crate::harness::{Folder, Keepup};
use crate::world::{
    at, body, code, free_port, get, kill, lives, repository, uvicorn, venv, wait_until,
};

/// A keepup with the demo's API, and `more` lines for `[service.api]`.
struct Api {
    keepup: Keepup,
    port: u16,
    pid: i32,
}

fn api(more: &str) -> Api {
    let port = free_port();
    let keepup = Keepup::start(&service(port, more));
    ready(keepup, port)
}

fn service(port: u16, more: &str) -> String {
    let (uvicorn, app) = (uvicorn(), repository().join("packaging/demo"));
    format!(
        "[service.api]\n\
         command = [\"{}\", \"app:app\", \"--app-dir\", \"{}\", \"--port\", \"{port}\"]\n\
         env = {{ HEARTBEAT = \"beat\", PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         {more}\n",
        uvicorn.display(),
        app.display()
    )
}

fn ready(mut keepup: Keepup, port: u16) -> Api {
    let pid = keepup.up("api");
    keepup.event("api", "ready");
    Api { keepup, port, pid }
}

fn liveness(port: u16) -> String {
    format!(
        "[service.api.liveness]\n\
         http = \"http://127.0.0.1:{port}/\"\n\
         json = {{ status = \"healthy\" }}\n\
         interval = \"400ms\"\nretry_interval = \"100ms\"\ntimeout = \"400ms\"\nfailures = 2\n"
    )
}

/// From a hang to its verdict at the latest: the interval, and each miss with its pause.
const CONFIRMED_WITHIN: i64 = 400 + 2 * (400 + 100);

/// What a busy machine may add to it.
const SLACK: i64 = 5000;

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// An API with a liveness probe.
fn probed(more: &str) -> Api {
    let port = free_port();
    let keepup = Keepup::start(&service(port, &format!("{more}\n{}", liveness(port))));
    ready(keepup, port)
}

impl Api {
    /// Waits until the API answers again, as another process.
    fn comes_back(&mut self) {
        let old = std::mem::replace(&mut self.pid, self.keepup.up("api"));
        assert_ne!(old, self.pid);
        assert!(!lives(old), "the old one is gone before the new one starts");
        self.keepup.event("api", "ready");
        let answer = get(self.port, "/").unwrap();
        assert!(body(&answer).contains(&format!("\"pid\": {}", self.pid)), "{answer}");
    }
}

#[test]
fn the_file_of_the_repository_runs_its_setup_and_then_an_api_that_answers() {
    let folder = Folder::new();
    let (port, endpoint) = (free_port(), free_port());
    let file = std::fs::read_to_string(repository().join("supervisor.toml")).unwrap();
    let packaging = repository().join("packaging/demo");
    let file = file
        .replace("target/demo/venv", venv().to_str().unwrap())
        .replace("target/demo/", "")
        .replace("packaging/demo", packaging.to_str().unwrap())
        .replace("8000", &port.to_string())
        .replace("9180", &endpoint.to_string());
    folder.write("supervisor.toml", &file);
    let command = folder.keepup();
    let mut keepup = Keepup::launch(folder, command);
    keepup.event("setup", "done");
    keepup.event("api", "starting");
    keepup.event("api", "ready");
    let answer = get(port, "/").unwrap();
    assert_eq!(code(&answer), 200, "{answer}");
    assert!(body(&answer).contains("healthy"), "{answer}");
    assert_eq!(code(&get(endpoint, "/readyz").unwrap()), 200);
    keepup.end();
}

#[test]
fn a_killed_api_answers_again_within_two_seconds() {
    let mut api = probed("[service.api.restart]\ndelay = \"100ms\"\n");
    kill(api.pid, libc::SIGKILL);
    let killed = Instant::now();
    let old = format!("\"pid\": {}", api.pid);
    wait_until("another API answers", || {
        get(api.port, "/").is_ok_and(|it| it.contains("healthy") && !it.contains(&old))
    });
    let took = killed.elapsed();
    // It takes less than 2 s where nothing else runs.
    assert!(took < Duration::from_secs(10), "{took:?}");
    let ended = api.keepup.event("api", "ended");
    assert_eq!(ended["reason"], "exited");
    assert_eq!(ended["exit"]["signal"], "SIGKILL");
    api.comes_back();
}

#[test]
fn a_stopped_process_is_noticed_in_its_probes_time_and_cured() {
    let mut api = probed("stop_timeout = \"1s\"\n[service.api.restart]\ndelay = \"10ms\"\n");
    let begin = now();
    kill(api.pid, libc::SIGSTOP);
    let unhealthy = api.keepup.event("api", "unhealthy");
    let took = at(&unhealthy) - begin;
    assert!(took <= CONFIRMED_WITHIN + SLACK, "{took} ms: {unhealthy}");
    assert!(unhealthy["why"].as_str().unwrap().contains("timed out"), "{unhealthy}");
    let ended = api.keepup.event("api", "ended");
    assert_eq!(ended["reason"], "unhealthy", "{ended}");
    api.comes_back();
}

#[test]
fn a_blocked_event_loop_is_noticed_by_the_probe_and_cured() {
    let mut api = probed("stop_timeout = \"200ms\"\n[service.api.restart]\ndelay = \"10ms\"\n");
    let (port, begin) = (api.port, now());
    std::thread::spawn(move || get(port, "/hang"));
    let unhealthy = api.keepup.event("api", "unhealthy");
    let took = at(&unhealthy) - begin;
    assert!(took <= CONFIRMED_WITHIN + SLACK, "{took} ms: {unhealthy}");
    // Its event loop would have to heed the TERM.
    api.keepup.event("api", "killing");
    assert_eq!(api.keepup.event("api", "ended")["exit"]["signal"], "SIGKILL");
    api.comes_back();
}

#[test]
fn a_blocked_event_loop_is_noticed_by_its_missing_heartbeat_and_cured() {
    let mut api = api("stop_timeout = \"200ms\"\n[service.api.restart]\ndelay = \"10ms\"\n\
         [service.api.heartbeat]\nfile = \"beat\"\n\
         degraded_after = \"1300ms\"\nunhealthy_after = \"1800ms\"\n");
    let (port, begin) = (api.port, now());
    std::thread::spawn(move || get(port, "/hang"));
    let degraded = api.keepup.event("api", "degraded");
    assert!(degraded["why"].as_str().unwrap().contains("heartbeat"), "{degraded}");
    let unhealthy = api.keepup.event("api", "unhealthy");
    let took = at(&unhealthy) - begin;
    assert!(took <= 1800 + SLACK, "{took} ms: {unhealthy}");
    assert_eq!(api.keepup.event("api", "ended")["reason"], "heartbeat-lost");
    let old = std::mem::replace(&mut api.pid, api.keepup.up("api"));
    assert!(!lives(old));
    // The file that the old run left is no beat of the new one.
    api.keepup.event("api", "ready");
    assert_eq!(code(&get(api.port, "/").unwrap()), 200);
}

#[test]
fn an_api_that_ends_its_process_comes_back() {
    let mut api = probed("[service.api.restart]\ndelay = \"10ms\"\n");
    assert!(get(api.port, "/crash").is_err());
    let ended = api.keepup.event("api", "ended");
    assert_eq!((&ended["reason"], &ended["exit"]["code"]), (&"exited".into(), &1.into()));
    assert_eq!(api.keepup.event("api", "backoff")["failures"], 1);
    api.comes_back();
}

#[test]
fn a_terminated_api_that_exits_cleanly_unasked_comes_back() {
    let mut api = probed("[service.api.restart]\ndelay = \"10ms\"\n");
    kill(api.pid, libc::SIGTERM);
    assert_eq!(api.keepup.event("api", "ended")["reason"], "exited");
    api.comes_back();
    api.keepup.end();
}

#[test]
fn uvicorn_says_with_exit_code_3_that_a_start_is_hopeless() {
    let mut keepup = Keepup::start(&format!(
        "[service.api]\ncommand = [\"{}\", \"no_such_module:app\"]\n\
         [service.api.restart]\nfatal_codes = [3]\n",
        uvicorn().display()
    ));
    assert_eq!(keepup.event("api", "ended")["exit"]["code"], 3);
    keepup.event("api", "gave-up");
    assert_eq!(keepup.wait_code(), 4);
    assert_eq!(keepup.events("api", "starting").len(), 1, "never restarted");
    assert!(keepup.folder.read("logs/api.log").contains("Could not import module"));
}
