//! keepup as PID 1 of a PID namespace, as in a container.

use crate::harness::{Folder, KEEPUP, Keepup, STDOUT, shell, supervisor};
use crate::world::{is_root, kill, lives, pids, state_and_parent, wait_until, zombies_of};

/// A command in a PID namespace of its own, in which it is PID 1.
fn in_namespace(folder: &Folder, arguments: &[&str]) -> std::process::Command {
    let mut command = folder.command("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", "--mount-proc"]).args(arguments);
    command
}

/// Starts keepup as PID 1.
fn start(services: &str) -> Keepup {
    let folder = Folder::new();
    folder.write("supervisor.toml", &format!("{}{services}", supervisor("")));
    let command = in_namespace(&folder, &[KEEPUP, "run", "-c", "supervisor.toml"]);
    let mut keepup = Keepup::launch(folder, command);
    find_inside(&mut keepup);
    keepup
}

/// Signals are for the keepup inside, and not for the `unshare` that waits for it.
fn find_inside(keepup: &mut Keepup) {
    wait_until("unshare has its child", || {
        let inside = child_of(keepup.child.id().cast_signed());
        keepup.pid = inside.unwrap_or(keepup.pid);
        // It may have ended before it was found.
        inside.is_some() || keepup.child.try_wait().unwrap().is_some()
    });
}

fn child_of(parent: i32) -> Option<i32> {
    pids().find(|&pid| state_and_parent(pid).is_some_and(|it| it.1 == parent))
}

#[test]
fn as_pid_1_it_reaps_every_orphan_and_ends_everything_when_asked() {
    let script =
        "for it in 1 2 3 4 5 6 7 8 9; do (setsid sleep 0.05 &); done; (setsid sleep 1000 &)
        echo here is the api; echo > forked; exec sleep 1000";
    let mut keepup = start(&shell("api", script, ""));
    keepup.up("api");
    assert_eq!(keepup.service("api")["state"], "up");
    assert_eq!(keepup.status()["supervisor"]["pid"], 1);
    keepup.folder.wait_line("forked");
    // unshare, keepup, the service and one orphan that lives.
    wait_until("the others are reaped", || keepup.folder.processes().len() == 4);
    wait_until("no zombie is left", || zombies_of(keepup.pid).is_empty());
    // For `docker logs`.
    wait_until("its line is on the console", || {
        keepup.folder.read(STDOUT).lines().any(|it| it.contains("api") && it.contains("here is"))
    });
    keepup.end();
}

#[test]
fn as_pid_1_it_ends_with_the_code_of_the_service_at_its_cap() {
    let keys = "[service.api.restart]\nmax_restarts = 1\ndelay = \"5ms\"\non_cap = \"exit\"\n";
    let mut keepup = start(&shell("api", "exit 23", keys));
    assert_eq!(keepup.wait_code(), 23);
}

#[test]
fn as_pid_1_it_restarts_a_killed_service() {
    let mut keepup =
        start(&shell("api", "exec sleep 1000", "[service.api.restart]\ndelay = \"10ms\"\n"));
    keepup.up("api");
    let outer = child_of(keepup.pid).unwrap();
    kill(outer, libc::SIGKILL);
    assert_eq!(keepup.event("api", "ended")["exit"]["signal"], "SIGKILL");
    keepup.up("api");
    assert!(!lives(outer));
}

#[test]
fn as_pid_1_a_plain_init_reaps_and_forwards_and_ends_with_its_command() {
    let folder = Folder::new();
    let script = "trap 'exit 9' TERM; (setsid sleep 0.05 &); echo > there
        while :; do sleep 1000 & wait; done";
    let arguments = [KEEPUP, "run", "--restart", "never", "--", "sh", "-c", script];
    let command = in_namespace(&folder, &arguments);
    let mut keepup = Keepup::launch(folder, command);
    find_inside(&mut keepup);
    keepup.folder.wait_line("there");
    // unshare, keepup, sh, its sleep.
    wait_until("the orphan is reaped", || keepup.folder.processes().len() == 4);
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 9);
}
