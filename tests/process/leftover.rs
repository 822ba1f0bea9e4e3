//! What outlives a run, or keepup itself: never two copies of anything.

use std::net::TcpListener;

use crate::harness::{Folder, Keepup, shell};
use crate::world::{free_port, kill, lives, state_and_parent, wait_until, zombies_of};

const SOON: &str = "[service.api.restart]\ndelay = \"10ms\"\n";

#[test]
fn what_a_crash_leaves_in_the_group_is_gone_before_the_successor_starts() {
    let script =
        "test -e child && { kill -0 $(cat child) && echo alive > seen || echo gone > seen; }
        sleep 1000 & echo $! > child.new; mv child.new child; wait";
    let mut keepup = Keepup::start(&shell("api", script, SOON));
    let pid = keepup.up("api");
    let child = keepup.folder.wait_pid("child");
    kill(pid, libc::SIGKILL);
    assert_eq!(keepup.folder.wait_line("seen"), "gone");
    assert!(!lives(child));
}

#[test]
fn what_a_crash_leaves_in_a_session_of_its_own_is_gone_when_keepup_ends() {
    let script = "test -e grandchild || setsid sh -c 'echo $$ > grandchild; exec sleep 1000' &
        wait; exec sleep 1000";
    let script = script.replace("wait; exec", "sleep 0.1; exec");
    let mut keepup = Keepup::start(&shell("api", &script, SOON));
    let pid = keepup.up("api");
    let grandchild = keepup.folder.wait_pid("grandchild");
    kill(pid, libc::SIGKILL);
    keepup.up("api");
    keepup.end();
    assert!(!lives(grandchild));
}

#[test]
fn what_a_crash_leaves_in_a_session_of_its_own_is_gone_before_the_successor_starts() {
    let script =
        "test -e child && { kill -0 $(cat child) && echo alive > seen || echo gone > seen; }
        setsid sh -c 'echo $$ > child.new; mv child.new child; exec sleep 1000' & exec sleep 1000";
    let mut keepup = Keepup::start(&shell("api", script, SOON));
    let pid = keepup.up("api");
    keepup.folder.wait_pid("child");
    kill(pid, libc::SIGKILL);
    assert_eq!(keepup.folder.wait_line("seen"), "gone");
}

#[test]
fn orphans_come_to_keepup_and_are_reaped() {
    let script = "for it in 1 2 3 4 5; do (sleep 0.05 &); done; echo > forked; exec sleep 1000";
    let mut keepup = Keepup::start(&shell("api", script, ""));
    keepup.up("api");
    keepup.folder.wait_line("forked");
    wait_until("keepup and its service are alone", || keepup.folder.processes().len() == 2);
    wait_until("no zombie is left", || zombies_of(keepup.pid).is_empty());
}

#[test]
fn one_service_is_not_touched_by_the_crash_of_another() {
    let script = "setsid sleep 1000 & echo $! > child; wait";
    let services = shell("quiet", script, "") + &shell("api", "exec sleep 1000", SOON);
    let mut keepup = Keepup::start(&services);
    let api = keepup.up("api");
    let quiet_child = keepup.folder.wait_pid("child");
    kill(api, libc::SIGKILL);
    keepup.up("api");
    assert!(lives(quiet_child));
    assert_eq!(keepup.service("quiet")["run"], 1);
}

#[test]
fn what_forks_for_ever_is_ended_though_its_keepup_was_killed() {
    let script = "exec env -i python3 -c '
import os, time
end = time.monotonic() + 60
beat = os.open(\"beat\", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
while time.monotonic() < end:
    if os.fork(): os._exit(0)
    os.setsid()
    os.write(beat, b\".\")'";
    let keys = "oneshot = true\n[service.api.restart]\npolicy = \"never\"\n";
    let waiting = shell("api", &format!("({script}) & exec sleep 1000"), keys);
    let mut keepup = Keepup::start(&waiting);
    keepup.up("api");
    let count = |folder: &Folder| folder.read("beat").len();
    wait_until("it forks", || count(&keepup.folder) > 100);
    let folder = keepup.die();
    let before = count(&folder);
    wait_until("it forks on", || count(&folder) > before);
    let mut keepup = Keepup::start_in(folder, "", &shell("next", "exec sleep 1000", ""));
    keepup.up("next");
    let after = count(&keepup.folder);
    crate::world::wait(std::time::Duration::from_millis(200));
    assert_eq!(count(&keepup.folder), after, "{}", keepup.said());
    keepup.end();
}

#[test]
fn what_a_killed_keepup_left_is_ended_before_anything_starts() {
    let port = free_port();
    // Refuses to run beside another copy: its port is taken then.
    let script = format!(
        "exec python3 -c '
import socket, time
tcp = socket.socket(); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind((\"127.0.0.1\", {port})); tcp.listen()
print(\"serving\", flush=True)
while True: time.sleep(1000)
'"
    );
    let keys = "[service.api.restart]\npolicy = \"never\"\n";
    let mut keepup = Keepup::start(&shell("api", &script, keys));
    let old = keepup.up("api");
    let log = |folder: &Folder| std::fs::read_to_string(folder.path("logs/api.log"));
    // What is still in its pipe dies with it.
    wait_until("it serves", || log(&keepup.folder).is_ok_and(|it| it == "serving\n"));
    let folder = keepup.die();
    assert!(lives(old), "nothing is lost by a crash of keepup itself");
    let mut keepup = Keepup::start_in(folder, "", &shell("api", &script, keys));
    let new = keepup.up("api");
    assert_ne!(old, new);
    assert!(!lives(old));
    wait_until("it serves again", || {
        log(&keepup.folder).is_ok_and(|it| it == "serving\nserving\n")
    });
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "the new one has the port");
}

#[test]
fn the_children_that_a_killed_keepup_left_are_ended_too() {
    let script =
        "sleep 1000 & echo $! > child; setsid sh -c 'echo $$ > far; exec sleep 1000' & wait";
    let services = shell("api", script, "");
    let mut keepup = Keepup::start(&services);
    let main = keepup.up("api");
    let (child, far) = (keepup.folder.wait_pid("child"), keepup.folder.wait_pid("far"));
    let folder = keepup.die();
    // The main process is gone already when the next keepup looks.
    kill(main, libc::SIGKILL);
    wait_until("it is gone", || state_and_parent(main).is_none_or(|it| it.0 == 'Z'));
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.up("api");
    assert!(!lives(child), "a member of its group");
    assert!(!lives(far), "a process in a session of its own");
}

#[test]
fn who_keepup_is_stands_on_the_disk_before_anything_starts() {
    let mut keepup = Keepup::start(&shell("api", "cp state/state.json seen; exec sleep 1000", ""));
    keepup.up("api");
    let pid = keepup.pid;
    wait_until("the service has seen it", || {
        let state = keepup.folder.read("seen");
        let state: Result<serde_json::Value, _> = serde_json::from_str(&state);
        state.is_ok_and(|it| it["keepup"]["pid"] == pid)
    });
}

#[test]
fn a_stranger_with_the_number_of_a_remembered_process_is_left_alone() {
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", ""));
    let pid = keepup.up("api");
    let state = || std::fs::read_to_string(keepup.folder.path("state/state.json"));
    wait_until("its run is written down", || state().is_ok_and(|it| it.contains(&pid.to_string())));
    let folder = keepup.die();
    kill(pid, libc::SIGKILL);
    // As after a wrap of the process numbers: the number is somebody else's now.
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let state = folder.read("state/state.json");
    let state = state.replace(&pid.to_string(), &stranger.id().to_string());
    folder.write("state/state.json", &state);
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", ""));
    keepup.up("api");
    assert!(stranger.try_wait().unwrap().is_none(), "it lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_corrupt_state_file_is_set_aside_and_told() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("state")).unwrap();
    folder.write("state/state.json", "{ half a");
    let mut keepup = Keepup::start_in(folder, "", &shell("api", "exec sleep 1000", ""));
    keepup.wait_for(&["state.json"]);
    keepup.up("api");
    let kept = std::fs::read_dir(keepup.folder.path("state"))
        .unwrap()
        .any(|it| std::fs::read_to_string(it.unwrap().path()).is_ok_and(|it| it == "{ half a"));
    assert!(kept, "nothing is thrown away");
}

#[test]
fn a_second_keepup_on_the_same_state_is_refused_and_names_the_first() {
    let mut first = Keepup::start(&shell("api", "echo run >> runs; exec sleep 1000", ""));
    first.up("api");
    let output = first.client(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&first.pid.to_string()), "{said}");
    assert_eq!(first.service("api")["state"], "up");
    first.folder.wait_line("runs");
    assert_eq!(first.folder.read("runs"), "run\n");
}
