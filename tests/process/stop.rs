//! How keepup ends, and how it stops a service: in time, and with nothing left.

use std::time::{Duration, Instant};

use crate::harness::{Folder, Keepup, shell};
use crate::world::{lives, wait_until};

const DEAF: &str = "trap '' TERM INT; touch deaf; while :; do sleep 1000 & wait; done";

#[test]
fn asked_to_end_it_stops_everything_within_shutdown_timeout_and_leaves_nothing() {
    let services = shell("polite", "exec sleep 1000", "")
        + &shell("deaf", DEAF, "stop_timeout = \"20s\"")
        + &shell("parent", "sleep 1000 & echo $! > child; wait", "")
        + &shell("crashing", "exit 1", "[service.crashing.restart]\ndelay = \"20s\"");
    let mut keepup = Keepup::start_in(Folder::new(), "shutdown_timeout = \"1s\"", &services);
    for name in ["polite", "deaf", "parent"] {
        keepup.up(name);
    }
    wait_until("it is deaf", || keepup.folder.path("deaf").exists());
    let child = keepup.folder.wait_pid("child");
    let begin = Instant::now();
    keepup.end();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(took > Duration::from_millis(500), "the deaf one had its time: {took:?}");
    assert!(!lives(child));
    let ended = &keepup.events("deaf", "ended")[0];
    assert_eq!(ended["exit"]["signal"], "SIGKILL", "{ended}");
    let ended = &keepup.events("polite", "ended")[0];
    assert_eq!(ended["exit"]["signal"], "SIGTERM", "{ended}");
}

#[test]
fn a_second_signal_kills_at_once() {
    let services = shell("deaf", DEAF, "stop_timeout = \"20s\"");
    let mut keepup = Keepup::start(&services);
    keepup.up("deaf");
    wait_until("it is deaf", || keepup.folder.path("deaf").exists());
    keepup.signal(libc::SIGTERM);
    keepup.event("deaf", "stopping");
    let begin = Instant::now();
    keepup.signal(libc::SIGINT);
    assert_eq!(keepup.wait_code(), 0);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

#[test]
fn each_signal_that_asks_for_an_end_is_heard() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", ""));
        keepup.up("api");
        keepup.signal(signal);
        assert_eq!(keepup.wait_code(), 0, "signal {signal}");
    }
}

#[test]
fn a_service_that_does_not_stop_in_time_is_killed_with_its_children() {
    let services = shell("deaf", DEAF, "stop_timeout = \"150ms\"");
    let mut keepup = Keepup::start(&services);
    let pid = keepup.up("deaf");
    wait_until("it is deaf", || keepup.folder.path("deaf").exists());
    keepup.ask(&["stop", "deaf"]);
    keepup.event("deaf", "killing");
    assert!(!lives(pid));
    wait_until("keepup is alone", || keepup.folder.processes() == [keepup.pid]);
}

#[test]
fn a_child_that_outlives_its_stopped_parent_is_gone_as_well() {
    // The child heeds no TERM; the parent ends at once.
    let script = "(trap '' TERM; echo > deaf; while :; do sleep 1000 & wait; done) & wait";
    let services = shell("parent", script, "stop_timeout = \"300ms\"");
    let mut keepup = Keepup::start(&services);
    keepup.up("parent");
    wait_until("the child is deaf", || keepup.folder.path("deaf").exists());
    keepup.ask(&["stop", "parent"]);
    keepup.event("parent", "down");
    assert_eq!(keepup.folder.processes(), [keepup.pid]);
}

#[test]
fn its_own_stop_signal_is_what_a_service_gets() {
    let script = "trap 'echo heard > signal; exit 0' USR1; trap '' TERM; echo > there
        while :; do sleep 1000 & wait; done";
    let services = shell("api", script, "stop_signal = \"USR1\"\nstop_timeout = \"10s\"");
    let mut keepup = Keepup::start(&services);
    keepup.up("api");
    wait_until("it listens", || keepup.folder.path("there").exists());
    keepup.end();
    assert_eq!(keepup.folder.read("signal"), "heard\n");
}

#[test]
fn what_a_service_forked_into_sessions_of_their_own_is_gone_with_it() {
    let script =
        "while :; do setsid sleep 1000 & setsid sh -c 'sleep 1000 & wait' & sleep 0.01; done";
    let mut keepup = Keepup::start(&shell("forks", script, ""));
    keepup.up("forks");
    wait_until("it forked", || keepup.folder.processes().len() > 20);
    keepup.end();
}

#[test]
fn a_service_that_is_asked_to_stop_while_it_is_stopped_heeds_it() {
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", "stop_timeout = \"20s\""));
    let pid = keepup.up("api");
    crate::world::kill(pid, libc::SIGSTOP);
    keepup.ask(&["stop", "api"]);
    assert_eq!(keepup.event("api", "ended")["exit"]["signal"], "SIGTERM");
}
