//! `keepup run … -- COMMAND`: one service and no file.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Folder, Keepup};
use crate::world::{free_port, get, is_root, wait_until};

/// A plain init.
fn init(folder: &Folder, command: &[&str]) -> Command {
    let mut keepup = folder.keepup();
    keepup.args(["run", "--restart", "never", "--"]).args(command);
    folders(folder, &mut keepup);
    keepup
}

/// Whatever it writes, it writes into the test's folder.
fn folders(folder: &Folder, keepup: &mut Command) {
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
fn a_plain_init_ends_with_the_code_of_its_command() {
    let folder = Folder::new();
    folder.write("not-executable", "#!/bin/sh\n");
    let code = |command: &[&str]| {
        let output = init(&folder, command).output().unwrap();
        output.status.code().unwrap_or_else(|| panic!("{output:?}"))
    };
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "exit 255"]), 255);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), 128 + 9);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 128 + 15);
    assert_eq!(code(&["no-such-program"]), 127);
    assert_eq!(code(&["./no-such-program"]), 127);
    assert_eq!(code(&["./not-executable"]), 126);
    let files: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(files.len(), 1, "no file is written: {files:?}");
}

#[test]
fn a_plain_init_reads_no_file_and_leaves_the_streams_to_its_command() {
    let folder = Folder::new();
    folder.write("supervisor.toml", "this is no TOML");
    let mut child = init(&folder, &["cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through and through").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"through and through");
    assert_eq!(output.stderr, b"", "it says nothing of its own");
}

#[test]
fn a_plain_init_forwards_every_signal_and_none_has_a_meaning_of_its_own() {
    let script = "for it in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $it >> heard\" $it; done
        trap 'exit 9' TERM; echo > there; while :; do sleep 1000 & wait; done";
    let folder = Folder::new();
    let command = init(&folder, &["sh", "-c", script]);
    let mut keepup = Keepup::launch(folder, command);
    keepup.folder.wait_line("there");
    let signals = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("WINCH", libc::SIGWINCH),
    ];
    for (nth, (name, signal)) in signals.into_iter().enumerate() {
        keepup.signal(signal);
        wait_until(&format!("{name} was heard"), || {
            keepup.folder.read("heard").lines().nth(nth) == Some(name)
        });
    }
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 9);
    assert_eq!(keepup.folder.read("heard").lines().count(), signals.len());
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
