//! `wait_for`: what a service needs answers before every start of it.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{Shutdown, shutdown};

use crate::harness::{Folder, Keepup, shell};
use crate::world::{kill, wait_until};

/// A port of nobody, and a way to hold it.
fn port() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

#[test]
fn nothing_starts_or_restarts_while_a_port_does_not_answer() {
    let (port, listener) = port();
    drop(listener);
    let needs = format!("wait_for = [\"tcp:127.0.0.1:{port}\"]\nrestart = {{ delay = \"10ms\" }}");
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", &needs));
    let waiting = keepup.event("api", "waiting");
    let reason = format!("tcp:127.0.0.1:{port}: connection refused");
    assert_eq!(waiting["why"], reason.as_str(), "{waiting}");
    keepup.wait_status("api", "state", "waiting");
    let shown = String::from_utf8(keepup.client(&["status"]).stdout).unwrap();
    assert!(shown.contains(&format!("waits for {reason}")), "{shown}");
    assert_eq!(keepup.service("api")["run"], 0);

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let pid = keepup.up("api");
    // Not by closing it: what another test starts may hold it until its exec.
    shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
    kill(pid, libc::SIGKILL);
    assert_eq!(keepup.event("api", "waiting")["why"], reason.as_str());
    assert_eq!(keepup.service("api")["restarts"], 0, "no restart is used up");
    drop(listener);
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    keepup.up("api");
    assert_eq!(keepup.service("api")["restarts"], 1);
    assert_eq!(keepup.events("api", "waiting").len(), 2, "it is told once each time");
    keepup.end();
}

#[test]
fn a_unix_socket_need_only_take_connections() {
    let folder = Folder::new();
    let socket = folder.path("db.sock");
    let needs = format!("wait_for = [\"unix:{}\"]", socket.display());
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", &needs));
    let why = keepup.event("api", "waiting")["why"].to_string();
    assert!(why.contains("db.sock"), "{why}");
    let _listener = UnixListener::bind(socket).unwrap();
    keepup.up("api");
    keepup.end();
}

#[test]
fn keepup_ends_while_a_service_waits_for_a_host_that_does_not_answer() {
    // An address for documentation: nobody has it. Source: RFC 5737.
    let mut keepup =
        Keepup::start(&shell("api", "exec sleep 1000", "wait_for = [\"tcp:192.0.2.1:5432\"]"));
    wait_until("it is asked", || keepup.client(&["status"]).status.code() == Some(0));
    keepup.end();
}
