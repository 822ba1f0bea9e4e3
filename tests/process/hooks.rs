//! `pre_start` and `post_stop`: the commands beside a run.

use crate::harness::{Keepup, shell};
use crate::world::{kill, pids, wait_until};

/// How many processes sleep for so long.
fn sleepers(seconds: u32) -> usize {
    let wanted = format!("sleep\0{seconds}\0");
    let is_it = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it == wanted.as_bytes())
    };
    pids().filter(is_it).count()
}

#[test]
fn hooks_run_where_the_service_runs_and_print_to_its_log() {
    let hooks = "pre_start = [\"sh\", \"-c\", \"echo ready $GREETING; pwd >here\"]\n\
                 post_stop = [\"sh\", \"-c\", \"echo $KEEPUP_REASON $KEEPUP_EXIT_CODE $KEEPUP_EXIT_SIGNAL >over\"]\n\
                 env = { GREETING = \"hello\" }\n\
                 restart = { delay = \"10ms\" }";
    let mut keepup = Keepup::start(&shell("api", "cat here; exec sleep 1000", hooks));
    let pid = keepup.up("api");
    let folder = keepup.folder.0.display().to_string();
    wait_until("both are in the log", || {
        keepup.folder.read("logs/api.log") == format!("ready hello\n{folder}\n")
    });
    kill(pid, libc::SIGKILL);
    keepup.event("api", "ended");
    assert_eq!(keepup.folder.wait_line("over"), "exited 137 SIGKILL", "it follows a crash");
    keepup.up("api");
    std::fs::remove_file(keepup.folder.path("over")).unwrap();
    keepup.end();
    assert_eq!(keepup.folder.wait_line("over"), "asked 143 SIGTERM", "and keepup's own end");
}

#[test]
fn a_failed_preparation_is_a_failed_start_and_is_tried_again() {
    let hooks = "pre_start = [\"sh\", \"-c\", \"test -e ready || exit 3\"]\n\
                 restart = { delay = \"10ms\", max_restarts = 0 }";
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", hooks));
    let text = keepup.event("api", "ended")["text"].to_string();
    assert!(
        text.contains("pre_start `sh -c test -e ready || exit 3` failed: exit code 3"),
        "{text}"
    );
    assert_eq!(keepup.service("api")["last_end"]["reason"], "spawn-failed");
    keepup.folder.write("ready", "");
    keepup.up("api");
    keepup.end();
}

#[test]
fn a_hook_that_hangs_is_killed_with_all_it_started() {
    // In a session of its own, as a daemon would be.
    let hooks = "pre_start = [\"sh\", \"-c\", \"setsid sleep 7411 & exec sleep 7411\"]\n\
                 start_timeout = \"300ms\"\nrestart = { delay = \"1h\", max_delay = \"1h\", max_restarts = 0 }";
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", hooks));
    let text = keepup.event("api", "ended")["text"].to_string();
    assert!(text.contains("did not end within 300ms, and was killed"), "{text}");
    assert_eq!(sleepers(7411), 0, "nothing of it is left when its end is told");
    keepup.end();
}

#[test]
fn what_a_hook_leaves_running_goes_with_it() {
    let hooks = "pre_start = [\"sh\", \"-c\", \"setsid sleep 7412 & sleep 7412 &\"]";
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", hooks));
    keepup.up("api");
    assert_eq!(sleepers(7412), 0);
    keepup.end();
}

#[test]
fn an_operator_stops_a_service_that_is_being_prepared() {
    let hooks = "pre_start = [\"sleep\", \"7413\"]";
    let mut keepup = Keepup::start(&shell("api", "exec sleep 1000", hooks));
    keepup.event("api", "starting");
    wait_until("it is prepared", || sleepers(7413) == 1);
    keepup.ask(&["stop", "api"]);
    assert_eq!(sleepers(7413), 0);
    assert_eq!(keepup.service("api")["state"], "down");
    keepup.end();
}
