//! `keepup run … -- COMMAND`: one service and no file.

use std::process::Command;

use crate::harness::{Folder, Keepup};
use crate::world::{free_port, get, is_root, wait_until};

/// Whatever it writes, it writes into the test's folder.
pub(crate) fn folders(folder: &Folder, keepup: &mut Command) {
    keepup.env("STATE_DIRECTORY", folder.path("state"));
    keepup.env("RUNTIME_DIRECTORY", folder.path("run"));
    keepup.env("LOGS_DIRECTORY", folder.path("logs"));
}

/// One service under a policy, with folders of its own.
fn service(arguments: &[&str]) -> Keepup {
    let folder = Folder::new();
    let mut keepup = folder.keepup();
    keepup.arg("run").args(arguments);
    folders(&folder, &mut keepup);
    Keepup::launch(folder, keepup)
}

#[test]
fn one_command_is_kept_up_without_a_file() {
    let mut keepup = service(&[
        "--name",
        "web",
        "--",
        "sh",
        "-c",
        "echo run >> runs; test $(wc -l < runs) -lt 3 || exec sleep 1000",
    ]);
    wait_until("it was restarted twice", || keepup.folder.read("runs").lines().count() == 3);
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 0);
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

#[test]
fn the_final_end_of_the_command_is_the_end_of_keepup() {
    let mut keepup = service(&["--restart", "on-failure", "--", "true"]);
    assert_eq!(keepup.wait_code(), 0);
    let mut keepup = service(&["--restart", "on-failure:1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(keepup.wait_code(), 7);
}

#[test]
fn liveness_heartbeat_and_endpoint_can_be_asked_for_on_the_command_line() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let script = "while :; do echo > beat; sleep 0.1; done";
    let mut keepup =
        service(&["--heartbeat", "beat", "--http", &address, "--", "sh", "-c", script]);
    wait_until("it is ready", || {
        get(port, "/readyz").is_ok_and(|it| it.starts_with("HTTP/1.1 200"))
    });
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 0);
}

#[test]
fn an_ordinary_user_can_run_it() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    crate::harness::set_mode(&folder.0, 0o777);
    let mut command = folder.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", crate::harness::KEEPUP]);
    command.args(["run", "--restart", "never", "--", "id", "-u"]).env("HOME", &folder.0);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "65534\n", "{output:?}");
}
