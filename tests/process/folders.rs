//! Folders that cannot be written, or that another keepup has.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Folder, KEEPUP, Keepup, shell, supervisor};
use crate::world::{is_root, kill, wait_until};

#[test]
fn read_only_state_and_log_folders_are_warnings() {
    let folder = Folder::new();
    let service =
        shell("api", "echo line; exec sleep 1000", "[service.api.restart]\ndelay = \"10ms\"\n");
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    fs::create_dir(folder.path("state")).unwrap();
    fs::create_dir(folder.path("logs")).unwrap();
    let mount = format!(
        "mount -t tmpfs -o ro none state && mount -t tmpfs -o ro none logs && exec {KEEPUP}"
    );
    let mut command = folder.command("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", &mount]);
    let mut keepup = Keepup::launch(folder, command);
    wait_until("it answers", || keepup.client(&["status"]).status.success());
    keepup.wait_status("api", "state", "up");
    let pid = keepup.service("api")["pid"].as_i64().unwrap();
    kill(i32::try_from(pid).unwrap(), libc::SIGKILL);
    keepup.wait_status("api", "run", 2);
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 0);
    let said = keepup.said();
    for name in ["/state", "/logs"] {
        let warned = said.lines().any(|it| it.contains("WARN") && it.contains(name));
        assert!(warned, "no warning names {name}:\n{said}");
    }
}

#[test]
fn folders_are_made_where_they_are_missing() {
    let folder = Folder::new();
    let text = "[supervisor]\nstate_dir = \"a/b/state\"\nruntime_dir = \"a/c/run\"\nlog_dir = \"a/d/logs\"\n";
    folder.write("supervisor.toml", &format!("{text}{}", shell("api", "exec sleep 1000", "")));
    let command = folder.keepup();
    let keepup = Keepup::launch(folder, command);
    wait_until("all are there", || {
        keepup.folder.path("a/b/state/events.jsonl").exists()
            && keepup.folder.path("a/c/run/control.sock").exists()
            && keepup.folder.path("a/d/logs/keepup.log").exists()
    });
}

#[test]
fn the_folders_that_systemd_names_are_taken() {
    let folder = Folder::new();
    let text = format!("[supervisor]\n{}", shell("api", "echo hello; exec sleep 1000", ""));
    folder.write("supervisor.toml", &text);
    let mut command = folder.keepup();
    command.env("STATE_DIRECTORY", folder.path("state"));
    command.env("RUNTIME_DIRECTORY", folder.path("run"));
    command.env("LOGS_DIRECTORY", folder.path("logs"));
    let mut keepup = Keepup::launch(folder, command);
    keepup.up("api");
    keepup.folder.wait_line("logs/api.log");
    assert!(keepup.folder.path("run/control.sock").exists());
}

#[test]
fn the_control_socket_is_for_its_owner_alone() {
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", ""));
    keepup.up("api");
    let socket = fs::metadata(keepup.folder.path("run/control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    keepup.end();
    assert!(!keepup.folder.path("run/control.sock").exists(), "it is gone with keepup");
}

#[test]
fn a_stale_control_socket_is_replaced() {
    let service = shell("api", "exec sleep 1000", "");
    let mut keepup = Keepup::start(&service);
    keepup.up("api");
    let folder = keepup.die();
    assert!(folder.path("run/control.sock").exists());
    let mut keepup = Keepup::start_in(folder, "", &service);
    keepup.up("api");
    keepup.wait_status("api", "state", "up");
}
