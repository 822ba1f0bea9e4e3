//! `docker stop`, `kill` and `restart`.

use std::time::Duration;

use crate::engine::{Container, idle, pause, said, shell};

/// Docker kills after so long.
const DOCKERS_PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn stop_ends_everything_in_order_and_in_time_with_code_0() {
    let far = "(setsid sleep 100000 &); trap 'echo bye of db; exit' TERM
        while :; do sleep 0.1; done";
    let near = "trap 'echo bye of api; exit' TERM; while :; do sleep 0.1; done";
    let file = shell("db", far, "") + &shell("api", near, "after = [\"db\"]");
    let container = Container::start(&[], &file);
    container.up("api");
    let (code, took) = container.stop();
    assert_eq!(code, 0, "{:?}", container.logs());
    assert!(took < Duration::from_secs(6), "{took:?}");
    let out = container.logs().0;
    let (api, db) = (out.find("bye of api").unwrap(), out.find("bye of db").unwrap());
    assert!(api < db, "{out}");
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn stop_ends_what_ignores_it_before_the_engine_loses_its_patience() {
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    // Longer than Docker waits: what counts is the limit of everything together.
    let container = Container::start(&[], &shell("api", script, "stop_timeout = \"1m\""));
    container.wait_line(&["api", "deaf"]);
    let (code, took) = container.stop();
    assert_eq!(code, 0, "{:?}", container.logs());
    assert!(took < DOCKERS_PATIENCE + Duration::from_secs(2), "{took:?}");
    container.wait_line(&["api", "killing"]);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn term_int_and_quit_end_it_and_kill_kills_it() {
    for (signal, code) in [("TERM", 0), ("INT", 0), ("QUIT", 0), ("KILL", 137)] {
        let container = Container::start(&[], &idle("api", ""));
        container.up("api");
        container.signal(signal);
        assert_eq!(container.wait_code(), code, "{signal}: {:?}", container.logs());
    }
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn the_second_term_kills_what_is_left() {
    let script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done";
    let container = Container::start(&[], &shell("api", script, "stop_timeout = \"1m\""));
    container.wait_line(&["api", "deaf"]);
    container.signal("TERM");
    container.wait_line(&["received", "ending"]);
    container.signal("TERM");
    assert_eq!(container.wait_code(), 0);
    container.wait_line(&["received", "killing what is left"]);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn hup_usr2_and_pipe_leave_the_services_alone() {
    let container = Container::start(&[], &idle("api", ""));
    let pid = container.up("api");
    for signal in ["HUP", "USR2", "PIPE", "WINCH", "CHLD", "CONT", "URG"] {
        container.signal(signal);
    }
    pause(Duration::from_secs(1));
    assert_eq!(container.up("api"), pid);
    assert_eq!(container.service("api")["run"], 1);
    assert_eq!(container.stop().0, 0);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn usr1_opens_the_logs_again() {
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done";
    let container = Container::start(&[], &shell("api", script, ""));
    let log = "/var/log/keepup/api.log";
    container.up("api");
    container
        .wait_until("the log is there", || container.exec(&["test", "-s", log]).status.success());
    container.ask(&["mv", log, "/var/log/keepup/moved"]);
    container.signal("USR1");
    container.wait_until("the log is there again", || {
        container.exec(&["test", "-s", log]).status.success()
    });
    // Not one line is lost in between.
    let logs = container.ask(&["cat", "/var/log/keepup/moved", log]);
    for (nth, line) in logs.lines().enumerate() {
        assert_eq!(line, format!("line {}", nth + 1), "{logs}");
    }
}

/// A container's second keepup has the same number, the same files and, it may be, even the same
/// numbers of services as the first.
#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn it_is_restarted_with_its_state_after_any_end() {
    let file = idle("api", "") + &idle("worker", "restart = { policy = \"unless-stopped\" }");
    let container = Container::start(&[], &file);
    container.up("api");
    container.up("worker");
    container.ask(&["keepup", "stop", "worker"]);
    for kill in [false, true, true] {
        if kill {
            container.signal("KILL");
            assert_eq!(container.wait_code(), 137);
            said(&["start", &container.name]);
        } else {
            said(&["restart", &container.name]);
        }
        container.up("api");
        assert_eq!(container.service("worker")["state"], "down", "{:?}", container.logs());
        let sleeping = container.ask(&["sh", "-c", "ps -o comm | grep -c sleep"]);
        assert_eq!(sleeping, "1");
    }
    let err = container.logs().1;
    assert!(!err.contains("cannot"), "{err}");
    assert_eq!(container.stop().0, 0);
}
