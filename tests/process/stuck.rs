//! Processes that the kernel holds, and does not even let be killed: nothing waits for them, and
//! nothing is doubled.

use crate::freezer::{DeadMount, Freezer, cannot_freeze};
use crate::harness::{Folder, Keepup, shell};
use crate::world::{is_root, kill, lives, state_and_parent, wait_until};

const SOON: &str = "[service.api.restart]\ndelay = \"10ms\"\n";

/// Writes to the disk once it is told to.
const WRITER: &str = "echo $$ >> pids; until test -e go; do sleep 0.02; done
    echo written > disk/file; exec sleep 1000";

fn hangs(pid: i32) {
    wait_until("the kernel holds it", || state_and_parent(pid).is_some_and(|it| it.0 == 'D'));
}

/// Another service is watched as ever.
fn others_are_kept_up(keepup: &mut Keepup) {
    keepup.wait_status("other", "state", "up");
    let pid = keepup.service("other")["pid"].as_i64().unwrap();
    kill(i32::try_from(pid).unwrap(), libc::SIGKILL);
    keepup.event("other", "ended");
    keepup.up("other");
    assert_ne!(keepup.service("other")["pid"], pid);
}

const OTHER: &str = "restart = { delay = \"10ms\" }";

#[test]
fn a_process_that_cannot_be_killed_is_told_and_never_doubled() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let mut disk = Freezer::new(&folder, "disk");
    let keys = format!("stop_timeout = \"200ms\"\n{SOON}");
    let services = shell("api", WRITER, &keys) + &shell("other", "exec sleep 1000", OTHER);
    let mut keepup = Keepup::start_in(folder, "", &services);
    let pid = keepup.up("api");
    disk.freeze();
    keepup.folder.write("go", "");
    hangs(pid);
    keepup.ask(&["restart", "--no-wait", "api"]);
    let stuck = keepup.event("api", "stuck");
    let text = stuck["text"].as_str().unwrap();
    assert!(text.contains(&format!("process {pid} ")), "{text}");
    // Asked again, too: there is one of it, which was started once.
    keepup.ask(&["restart", "--no-wait", "api"]);
    others_are_kept_up(&mut keepup);
    assert!(lives(pid));
    assert_eq!(keepup.folder.read("pids").lines().count(), 1);
    assert_eq!(keepup.events("api", "starting").len(), 1);

    disk.thaw();
    keepup.event("api", "ended");
    assert_ne!(keepup.up("api"), pid);
    assert!(!lives(pid));
    keepup.end();
    drop(disk);
}

#[test]
fn what_a_crash_leaves_and_cannot_be_killed_holds_up_the_successor_alone() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let mut disk = Freezer::new(&folder, "disk");
    // In the same group as its parent, which crashes.
    let parent = format!("({WRITER}) & echo $! > child; wait");
    let services = shell("api", &parent, SOON) + &shell("other", "exec sleep 1000", OTHER);
    let mut keepup = Keepup::start_in(folder, "", &services);
    let pid = keepup.up("api");
    let child = keepup.folder.wait_pid("child");
    disk.freeze();
    keepup.folder.write("go", "");
    hangs(child);
    kill(pid, libc::SIGKILL);
    keepup.event("api", "stuck");
    others_are_kept_up(&mut keepup);
    assert_eq!(keepup.events("api", "starting").len(), 1);
    disk.thaw();
    keepup.up("api");
    assert!(!lives(child));
    keepup.end();
    drop(disk);
}

#[test]
fn keepup_ends_though_one_of_its_services_cannot_and_names_it() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let mut disk = Freezer::new(&folder, "disk");
    let services = shell("api", WRITER, "stop_timeout = \"200ms\"");
    let mut keepup = Keepup::start_in(folder, "shutdown_timeout = \"1s\"", &services);
    let pid = keepup.up("api");
    disk.freeze();
    keepup.folder.write("go", "");
    hangs(pid);
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 1);
    let said = keepup.said();
    assert!(said.contains(&pid.to_string()), "{said}");
    disk.thaw();
    wait_until("it dies", || !lives(pid));
}

#[test]
fn programs_on_a_dead_mount_hold_up_nobody_and_are_stopped() {
    if !is_root() {
        return cannot_freeze();
    }
    let folder = Folder::new();
    let dead = DeadMount::new(&folder, "dead");
    // More than there are threads to start them.
    let names = ["first", "second", "third", "fourth"];
    let program = |name: &&str| {
        let path = dead.path.join("program");
        format!("[service.{name}]\ncommand = [\"{}\"]\nstop_timeout = \"200ms\"\n", path.display())
    };
    let hanging: String = names.iter().map(program).collect();
    let services = hanging + &shell("other", "exec sleep 1000", OTHER);
    let mut keepup = Keepup::start_in(folder, "", &services);
    keepup.up("other");
    others_are_kept_up(&mut keepup);
    for name in names {
        assert!(keepup.events(name, "up").is_empty());
    }
    keepup.ask(&["stop", "first"]);
    assert_eq!(keepup.service("first")["state"], "down");
    others_are_kept_up(&mut keepup);
    keepup.end();
    drop(dead);
}
