//! What an operator says, and is told.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;

use crate::harness::{Folder, Keepup, shell, supervisor};
use crate::world::{body, code, exchange, kill, lives, wait, wait_until};

fn sleeper(more: &str) -> Keepup {
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", more));
    keepup.up("api");
    keepup
}

#[test]
fn status_as_json_has_every_field() {
    let keepup = sleeper(
        "[service.api.liveness]\nexec = [\"true\"]\n[service.api.heartbeat]\nfile = \"beat\"\n\
         degraded_after = \"10s\"\nunhealthy_after = \"20s\"\n",
    );
    wait_until("its probe was asked", || keepup.service("api")["probes"][0]["ok"] == true);
    let status = keepup.status();
    let keys = |value: &serde_json::Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let supervisor = &status["supervisor"];
    assert_eq!(keys(supervisor), ["config", "host", "level", "pid", "uptime_seconds", "version"]);
    assert_eq!(supervisor["pid"], keepup.pid);
    assert_eq!(supervisor["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(keys(&supervisor["host"]), ["disk_used_percent", "load1", "memory_used_percent"]);
    let api = &status["services"][0];
    let expected = [
        "cpu_percent",
        "errors_last_hour",
        "failures_in_row",
        "health",
        "heartbeat_age_seconds",
        "last_end",
        "log",
        "max_restarts",
        "memory_bytes",
        "name",
        "next_start_in_seconds",
        "open_files",
        "pid",
        "probes",
        "ready",
        "restarts",
        "restarts_in_window",
        "run",
        "state",
        "status_text",
        "threads",
        "uptime_percent_24h",
        "uptime_seconds",
        "want",
    ];
    assert_eq!(keys(api), expected);
    assert_eq!((&api["want"], &api["state"], &api["run"]), (&"up".into(), &"up".into(), &1.into()));
    assert_eq!(api["health"], "starting", "no heartbeat came yet");
    assert_eq!(
        keys(&api["probes"][0]),
        ["class", "detail", "kind", "latency_ms", "misses", "ok", "role", "target"]
    );
    let pid = i32::try_from(api["pid"].as_i64().unwrap()).unwrap();
    kill(pid, libc::SIGKILL);
    wait_until("it ended", || !keepup.service("api")["last_end"].is_null());
    let last_end = keepup.service("api")["last_end"].clone();
    assert_eq!(keys(&last_end), ["at", "exit", "incident", "reason"]);
    assert_eq!(keys(&last_end["exit"]), ["code", "core_dumped", "oom", "signal", "text"]);
    assert_eq!(last_end["exit"]["signal"], "SIGKILL");
}

#[test]
fn status_as_a_table_shows_each_service_and_can_show_one() {
    let mut keepup = Keepup::start(
        &(shell("api", "exec sleep 1000", "") + &shell("worker", "exec sleep 1000", "")),
    );
    let pid = keepup.up("api").to_string();
    let table = keepup.ask(&["status"]);
    assert!(table.lines().any(|it| it.contains("api") && it.contains(&pid)), "{table}");
    assert!(table.contains("worker"), "{table}");
    let one = keepup.ask(&["status", "api"]);
    assert!(one.contains(&pid) && !one.contains("worker"), "{one}");
}

#[test]
fn stop_returns_when_it_is_down_and_the_policy_leaves_it_down() {
    let mut keepup = sleeper("[service.api.restart]\ndelay = \"1ms\"\n");
    let pid = i32::try_from(keepup.service("api")["pid"].as_i64().unwrap()).unwrap();
    keepup.ask(&["stop", "api"]);
    assert!(!lives(pid));
    let status = keepup.service("api");
    assert_eq!((&status["want"], &status["state"]), (&"down".into(), &"down".into()));
    let stopping = keepup.event("api", "stopping");
    assert!(stopping["by"].is_number(), "by whom: {stopping}");
    // A hundred delays.
    wait(std::time::Duration::from_millis(100));
    assert_eq!(keepup.service("api")["state"], "down");
    assert_eq!(keepup.service("api")["run"], 1);
    assert!(keepup.child.try_wait().unwrap().is_none(), "an operator may start it again");
    keepup.ask(&["start", "api"]);
    assert_eq!(keepup.service("api")["state"], "up");
    assert_eq!(keepup.service("api")["run"], 2);
}

#[test]
fn restart_returns_when_another_run_is_up_and_does_not_count() {
    let keepup = sleeper("[service.api.restart]\nmax_restarts = 1\n");
    let old = keepup.service("api")["pid"].clone();
    for run in 2..5 {
        keepup.ask(&["restart", "api"]);
        let status = keepup.service("api");
        assert_eq!((&status["state"], &status["run"]), (&"up".into(), &run.into()));
        assert_ne!(status["pid"], old);
        for count in ["restarts", "restarts_in_window", "failures_in_row"] {
            assert_eq!(status[count], 0, "{count}: {status}");
        }
    }
}

#[test]
fn start_waits_for_readiness_and_fails_if_the_service_does() {
    let readiness = "autostart = false\n[service.api.liveness]\n\
        exec = [\"test\", \"-e\", \"ready\"]\ninterval = \"50ms\"\n";
    let fails = "autostart = false\n[service.bad.liveness]\nexec = [\"false\"]\n\
        [service.bad.restart]\npolicy = \"never\"\n";
    let services = shell("api", "sleep 0.2; touch ready; exec sleep 1000", readiness)
        + &shell("bad", "exit 1", fails);
    let keepup = Keepup::start(&services);
    wait_until("it answers", || keepup.client(&["status"]).status.success());
    assert_eq!(keepup.service("api")["state"], "down");
    keepup.ask(&["start", "api"]);
    assert_eq!(keepup.service("api")["ready"], true);
    let output = keepup.client(&["start", "bad"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("exit code 1"), "{said}");
}

#[test]
fn start_gives_a_failed_service_a_clean_slate() {
    let keys = "[service.api.restart]\nmax_restarts = 1\ndelay = \"5ms\"\non_cap = \"fail\"\n";
    let services = shell("api", "test -e ok || exit 1; exec sleep 1000", keys)
        + &shell("other", "exec sleep 1000", "");
    let mut keepup = Keepup::start(&services);
    keepup.event("api", "gave-up");
    keepup.folder.write("ok", "");
    keepup.ask(&["start", "api"]);
    let status = keepup.service("api");
    assert_eq!((&status["state"], &status["failures_in_row"]), (&"up".into(), &0.into()));
}

#[test]
fn a_stop_reaches_a_service_that_waits_for_its_next_start() {
    let keys = "[service.api.restart]\ndelay = \"20s\"\n";
    let mut keepup = Keepup::start(&shell("api", "exit 1", keys));
    keepup.event("api", "backoff");
    let left = keepup.service("api")["next_start_in_seconds"].as_f64().unwrap();
    assert!(left > 10.0 && left < 23.0, "{left}");
    keepup.ask(&["stop", "api"]);
    assert_eq!(keepup.service("api")["state"], "down");
}

#[test]
fn with_no_wait_a_stop_returns_at_once() {
    let script = "trap '' TERM; echo > deaf; while :; do sleep 1000 & wait; done";
    let keepup = Keepup::start(&shell("api", script, "stop_timeout = \"20s\""));
    keepup.folder.wait_line("deaf");
    keepup.ask(&["stop", "--no-wait", "api"]);
    assert_eq!(keepup.service("api")["state"], "stopping");
}

#[test]
fn whoever_stops_what_another_starts_is_told_so() {
    let script = "trap '' TERM; echo > deaf; while :; do sleep 1000 & wait; done";
    let mut keepup = Keepup::start(&shell("api", script, "stop_timeout = \"500ms\""));
    keepup.folder.wait_line("deaf");
    let mut stop = keepup.folder.keepup();
    stop.args(["stop", "api"]).stderr(std::process::Stdio::piped());
    let mut stop = stop.spawn().unwrap();
    keepup.event("api", "stopping");
    keepup.ask(&["start", "api"]);
    wait_until("the one who stops it is answered", || stop.try_wait().unwrap().is_some());
    let output = stop.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was started again"), "{said}");
    assert_eq!(keepup.service("api")["run"], 2);
}

#[test]
fn whoever_waits_or_follows_hears_the_end() {
    let keys = "[service.api.liveness]\nexec = [\"false\"]\n";
    let services = shell("well", "exec sleep 1000", "") + &shell("api", "exec sleep 1000", keys);
    let mut keepup = Keepup::start(&services);
    keepup.up("well");
    let client = |arguments: &[&str]| {
        let mut client = keepup.folder.keepup();
        client.args(arguments);
        client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        client.spawn().unwrap()
    };
    let mut follower = client(&["events", "--follow", "--json"]);
    let mut events = BufReader::new(follower.stdout.take().unwrap()).lines();
    events.next().unwrap().unwrap();
    let waiting = client(&["restart", "api"]);
    keepup.event_with("api", "starting", |it| it["by"].is_number());
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 0, "{}", keepup.said());
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("keepup is ending") || said.contains("was stopped again"), "{said}");
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let events: Vec<String> = events.map(Result::unwrap).collect();
    assert!(events.last().unwrap().contains(r#""event":"down""#), "{events:?}");
}

#[test]
fn one_follower_too_many_is_told_so() {
    let keepup = sleeper("");
    let follow = || {
        let mut client = keepup.folder.keepup();
        client.args(["events", "--follow"]);
        client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        client.spawn().unwrap()
    };
    let mut followers: Vec<_> = (0..16).map(|_| follow()).collect();
    for follower in &mut followers {
        let mut line = String::new();
        BufReader::new(follower.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("api"), "{line}");
    }
    let output = follow().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("too many clients"), "{said}");
    for mut follower in followers {
        follower.kill().unwrap();
        follower.wait().unwrap();
    }
}

#[test]
fn several_services_are_stopped_by_one_command() {
    let keepup = Keepup::start(
        &(shell("one", "exec sleep 1000", "") + &shell("two", "exec sleep 1000", "")),
    );
    wait_until("it answers", || keepup.client(&["status"]).status.success());
    keepup.ask(&["stop", "one", "two"]);
    assert_eq!(keepup.service("one")["state"], "down");
    assert_eq!(keepup.service("two")["state"], "down");
}

#[test]
fn an_unknown_name_is_told_with_the_one_that_was_meant() {
    let keepup = sleeper("");
    for command in ["status", "start", "stop", "restart"] {
        let output = keepup.client(&[command, "apo"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("did you mean") && said.contains("`api`"), "{command}: {said}");
    }
    // None of several is touched if one is unknown.
    assert_eq!(keepup.client(&["stop", "api", "apo"]).status.code(), Some(2));
    assert_eq!(keepup.service("api")["state"], "up");
}

#[test]
fn without_a_keepup_a_client_says_so() {
    let folder = Folder::new();
    folder.write("supervisor.toml", &(supervisor("") + &shell("api", "true", "")));
    for command in [&["status"][..], &["stop", "api"], &["restart", "api"]] {
        let output = folder.keepup().args(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {said}");
        assert!(said.contains("control.sock"), "{said}");
    }
}

#[test]
fn clients_work_although_somebody_broke_the_file() {
    let keepup = sleeper("");
    let file = keepup.folder.read("supervisor.toml");
    for broken in ["\n[service.api.", "\n[service.b]\nno_such_key = \"${NOT_SET}\"\n"] {
        keepup.folder.write("supervisor.toml", &format!("{file}{broken}"));
        assert_eq!(keepup.client(&["status"]).status.code(), Some(0), "{broken}");
    }
    std::fs::remove_file(keepup.folder.path("supervisor.toml")).unwrap();
    let socket = keepup.folder.path("run/control.sock");
    keepup.ask(&["status", "--socket", socket.to_str().unwrap()]);
    let mut client = keepup.folder.keepup();
    client.arg("status").env("KEEPUP_SOCKET", &socket);
    assert!(client.output().unwrap().status.success());
}

#[test]
fn check_tells_each_problem_with_its_place() {
    let folder = Folder::new();
    let good = supervisor("") + &shell("api", "exec sleep 1000", "");
    folder.write("supervisor.toml", &good);
    let output = folder.keepup().arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let bad = format!("{good}stop_timeout = 5\nautostrat = true\n");
    folder.write("bad.toml", &bad);
    for command in [&["check", "bad.toml"][..], &["run", "-c", "bad.toml"], &["-c", "bad.toml"]] {
        let output = folder.keepup().args(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {output:?}");
        let lines = bad.lines().count();
        assert!(said.contains(&format!("bad.toml:{}:", lines - 1)), "{said}");
        assert!(said.contains(&format!("bad.toml:{lines}:1: ")), "{said}");
        assert!(said.contains("autostart"), "did you mean: {said}");
    }
    let output = folder.keepup().args(["check", "no-such-file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!folder.path("state").exists(), "nothing was touched");
}

#[test]
fn a_wrong_argument_is_a_usage_error() {
    let folder = Folder::new();
    for arguments in [
        &["no-such-command"][..],
        &["run", "--no-such-flag"],
        &["start"],
        &["run", "--restart", "sometimes", "--", "true"],
        &["run", "--name", "A B", "--", "true"],
        &["run", "--liveness", "nowhere", "--", "true"],
        &["run", "--"],
    ] {
        let output = folder.keepup().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_stop_outlives_keepup_where_the_policy_is_unless_stopped() {
    let services = shell(
        "careful",
        "exec sleep 1000",
        "[service.careful.restart]\npolicy = \"unless-stopped\"\n",
    ) + &shell("eager", "exec sleep 1000", "");
    let mut keepup = Keepup::start(&services);
    keepup.up("eager");
    keepup.ask(&["stop", "careful", "eager"]);
    keepup.end();
    let folder = std::mem::replace(&mut keepup.folder, Folder(std::path::PathBuf::new()));
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.up("eager");
    assert_eq!(keepup.service("careful")["state"], "down");
    assert_eq!(keepup.events("careful", "starting").len(), 0);
    keepup.ask(&["start", "careful"]);
    assert_eq!(keepup.service("careful")["state"], "up");
    // Wanted up again, also after a crash of keepup itself once that stands on the disk.
    wait_until("it is written down", || {
        let state = keepup.folder.read("state/state.json");
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        state["services"]["careful"]["want_down"] == false
    });
    let folder = keepup.die();
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.up("careful");
}

#[test]
fn the_control_socket_speaks_plain_http() {
    let keepup = sleeper("");
    let ask = |method: &str, path: &str| {
        let stream = UnixStream::connect(keepup.folder.path("run/control.sock")).unwrap();
        exchange(stream, method, path).unwrap()
    };
    let answer = ask("GET", "/v1/status");
    assert_eq!(code(&answer), 200, "{answer}");
    let answer = ask("GET", "/v1/services/api");
    let one: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(one["name"], "api", "{answer}");
    let answer = ask("POST", "/v1/services/api/stop");
    assert!(code(&answer) < 300, "{answer}");
    keepup.wait_status("api", "state", "down");
    let answer = ask("POST", "/v1/services/apo/stop");
    assert_eq!(code(&answer), 404, "{answer}");
    let error: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert!(error["error"].as_str().unwrap().contains("`apo`"), "{answer}");
    assert!(error["hint"].as_str().unwrap().contains("api"), "{answer}");
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let mut keepup = sleeper("");
    let socket = keepup.folder.path("run/control.sock");
    let silent: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(keepup.service("api")["state"], "up");
    keepup.end();
    drop(silent);
}

#[test]
#[ignore = "`keepup logs` is not there yet"]
fn the_last_lines_of_a_log_are_shown() {
    let keepup = Keepup::start(&shell("api", "seq 1 5; exec sleep 1000", ""));
    wait_until("it wrote", || keepup.folder.read("logs/api.log").ends_with("5\n"));
    assert_eq!(keepup.ask(&["logs", "api", "-n", "2"]), "4\n5\n");
}

#[test]
fn the_command_line_shows_the_events_and_answers_health_checks() {
    let mut keepup = sleeper("");
    let events = keepup.ask(&["events", "--json"]);
    let up = events.lines().find(|it| it.contains("\"event\":\"up\"")).unwrap();
    let up: serde_json::Value = serde_json::from_str(up).unwrap();
    assert_eq!(up["service"], "api");
    assert_eq!(keepup.client(&["healthcheck"]).status.code(), Some(0));
    keepup.end();
    assert_ne!(keepup.client(&["healthcheck"]).status.code(), Some(0));
}

#[test]
fn a_signal_is_passed_on_and_rewritten() {
    let script = "for it in HUP USR1 USR2; do trap \"echo $it >> heard\" $it; done
        echo > there; while :; do sleep 1000 & wait; done";
    let keys = "rewrite = { USR1 = \"USR2\", QUIT = 0 }";
    let keepup = Keepup::start(&shell("api", script, keys));
    keepup.folder.wait_line("there");
    for (signal, heard) in [("HUP", "HUP"), ("10", "USR2"), ("sigusr2", "USR2")] {
        std::fs::remove_file(keepup.folder.path("heard")).ok();
        let said = keepup.ask(&["signal", "api", signal]);
        assert!(said.starts_with("sent SIG"), "{said}");
        assert_eq!(keepup.folder.wait_line("heard"), heard);
    }
    let said = keepup.ask(&["signal", "api", "QUIT"]);
    assert!(said.contains("SIGQUIT is dropped"), "{said}");
    assert_eq!(keepup.service("api")["run"], 1);
    let said = keepup.folder.read("logs/keepup.log");
    assert!(said.contains("sent SIGUSR2 for SIGUSR1") && said.contains("by uid"), "{said}");
}

#[test]
fn a_signal_that_cannot_be_sent_is_refused() {
    let keepup = sleeper("");
    for (arguments, code, words) in [
        (["api", "TREM"], 2, "did you mean `TERM`?"),
        (["api", "65"], 2, "`65`"),
        (["apo", "TERM"], 2, "did you mean `api`?"),
    ] {
        let output = keepup.client(&[&["signal"][..], &arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let ask = |query: &str| {
        let stream = UnixStream::connect(keepup.folder.path("run/control.sock")).unwrap();
        exchange(stream, "POST", &format!("/v1/services/api/signal{query}")).unwrap()
    };
    assert_eq!(code(&ask("")), 400);
    assert!(body(&ask("?signal=urs1")).contains("did you mean `USR1`"));
    keepup.ask(&["stop", "api"]);
    let output = keepup.client(&["signal", "api", "HUP"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot send SIGHUP to api: it is not running"), "{said}");
}
