//! Start, readiness, signals, watchdog, stop.

use std::fs;
use std::time::Duration;

use crate::machine::{Unit, file, kill, pause, run, said, shell, text};

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn it_is_active_once_its_services_have_started_and_not_before() {
    let keys = "[service.api.startup]\nexec = [\"test\", \"-e\", \"/run/keepup-NAME/go\"]\n\
        interval = \"100ms\"";
    let unit = Unit::new("start", &shell("api", "exec sleep 100000", keys));
    said(&["systemctl", "start", "--no-block", &unit.unit]);
    unit.wait("api", "health", "starting");
    pause(Duration::from_secs(1));
    assert_eq!(unit.show("ActiveState"), "activating");
    fs::write(file("/run/keepup-start/go"), "").unwrap();
    unit.wait_show("ActiveState", "active");
    unit.wait("api", "health", "healthy");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_service_that_fails_does_not_hold_up_the_boot() {
    let file = shell("bad", "exit 1", "") + &shell("api", "exec sleep 100000", "");
    let unit = Unit::start("bad", &file);
    unit.wait("bad", "state", "backoff");
    assert_eq!(unit.show("ActiveState"), "active");
    unit.wait_until("the status says so", || unit.show("StatusText").contains("bad"));
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn the_status_text_says_how_the_services_are() {
    let file = shell("api", "exec sleep 100000", "restart = { delay = \"1m\", jitter = 0.0 }")
        + &shell("worker", "exec sleep 100000", "");
    let unit = Unit::start("text", &file);
    unit.wait_until("both are up", || unit.show("StatusText").contains("2 of 2 up"));
    let pid = unit.service("api")["pid"].to_string();
    kill(&pid, "KILL");
    unit.wait_until("one is not", || {
        let text = unit.show("StatusText");
        text.contains("1 of 2 up") && text.contains("api")
    });
    unit.keepup(&["start", "api"]);
    unit.wait_until("both are up again", || unit.show("StatusText").contains("2 of 2 up"));
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn stop_leaves_nothing_and_takes_no_longer_than_it_must() {
    let script = "trap '' HUP; (setsid sh -c \"trap '' TERM; sleep 71; :\" &)
        sleep 72 & trap 'echo bye; exit' TERM; while :; do sleep 0.1; done";
    let unit = Unit::start("stop", &shell("api", script, ""));
    unit.wait_until("all are there", || {
        !unit.processes("sleep 71").is_empty() && !unit.processes("sleep 72").is_empty()
    });
    unit.systemctl("stop");
    assert_eq!(unit.show("ActiveState"), "inactive");
    assert_eq!(unit.show("Result"), "success", "{}", unit.journal());
    for left in ["sleep 71", "sleep 72"] {
        assert!(unit.processes(left).is_empty(), "{left}");
    }
    let journal = unit.journal();
    assert!(journal.contains("bye"), "{journal}");
    // systemd had nothing left to kill.
    assert!(!journal.contains("Killing process"), "{journal}");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn systemctl_kill_means_what_the_signal_means() {
    let unit = Unit::start("kill", &shell("api", "exec sleep 73", "stop_timeout = \"5s\""));
    let main = unit.main_pid();
    unit.wait("api", "state", "up");
    // To keepup alone, which is not to reload for a signal that is not HUP, or to end for one.
    for signal in ["USR1", "USR2", "PIPE", "WINCH"] {
        said(&["systemctl", "kill", "-s", signal, "--kill-who=main", &unit.unit]);
    }
    pause(Duration::from_millis(500));
    assert_eq!(unit.main_pid(), main);
    assert_eq!(unit.service("api")["run"], 1);
    // To everybody: keepup and its services end, and it counts as asked for.
    said(&["systemctl", "kill", "-s", "TERM", &unit.unit]);
    unit.wait_show("ActiveState", "inactive");
    assert_eq!(unit.show("Result"), "success", "{}", unit.journal());
    assert_eq!(unit.show("NRestarts"), "0");
    assert!(unit.processes("sleep 73").is_empty());
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_keepup_that_was_killed_is_started_again_and_no_service_is_doubled() {
    // One that goes away from it as far as it can.
    let script = "(setsid setsid sleep 74 &); exec sleep 75";
    let unit = Unit::start("killed", &shell("api", script, ""));
    let main = unit.main_pid();
    unit.wait("api", "state", "up");
    said(&["systemctl", "kill", "-s", "KILL", "--kill-who=main", &unit.unit]);
    unit.wait_until("there is another", || !["0", &main].contains(&unit.main_pid().as_str()));
    unit.wait_show("ActiveState", "active");
    unit.wait("api", "state", "up");
    for once in ["sleep 74", "sleep 75"] {
        unit.wait_until("there is one of each", || unit.processes(once).len() == 1);
    }
    assert_eq!(unit.show("NRestarts"), "1");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_keepup_that_hangs_is_started_again_and_no_service_is_doubled() {
    let unit = Unit::new("watchdog", &shell("api", "exec sleep 76", ""));
    unit.drop_in("WatchdogSec=2s\nTimeoutAbortSec=1s");
    unit.systemctl("start");
    let main = unit.main_pid();
    unit.wait("api", "state", "up");
    // It beats: nothing happens in the time of two watchdogs.
    pause(Duration::from_secs(4));
    assert_eq!(unit.main_pid(), main, "{}", unit.journal());
    kill(&main, "STOP");
    unit.wait_until("there is another", || !["0", &main].contains(&unit.main_pid().as_str()));
    unit.wait_show("ActiveState", "active");
    unit.wait("api", "state", "up");
    assert_eq!(unit.processes("sleep 76").len(), 1);
    assert_eq!(unit.show("NRestarts"), "1");
    let journal = said(&["journalctl", "--no-pager", "-u", &unit.unit]);
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_restart_keeps_what_an_operator_said() {
    let keys = "restart = { policy = \"unless-stopped\" }";
    let file = shell("worker", "exec sleep 77", keys) + &shell("api", "exec sleep 78", "");
    let unit = Unit::start("restart", &file);
    unit.wait("worker", "state", "up");
    let stopped = unit.keepup(&["stop", "worker"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    let main = unit.main_pid();
    unit.systemctl("restart");
    assert_ne!(unit.main_pid(), main);
    unit.wait("api", "state", "up");
    assert_eq!(unit.service("worker")["state"], "down");
    assert!(unit.processes("sleep 77").is_empty());
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_file_with_a_problem_is_a_failed_start_with_its_place_in_the_journal() {
    let unit = Unit::new("wrong", "[service.api]\ncomand = \"x\"\n");
    unit.drop_in("Restart=no");
    let output = run(&["systemctl", "start", &unit.unit]);
    assert!(!output.status.success());
    assert_eq!(unit.show("ActiveState"), "failed");
    assert_eq!(unit.show("ExecMainStatus"), "3");
    let journal = unit.journal();
    assert!(journal.contains("wrong.toml:4:1: unknown key `comand`"), "{journal}");
}

/// The end of an essential service is the unit's.
#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn the_exit_code_of_an_essential_service_is_the_units() {
    let keys = "essential = true\nrestart = { policy = \"never\" }";
    let unit = Unit::new("essential", &shell("api", "exit 23", keys));
    unit.drop_in("Restart=no");
    // It may have been active for a moment.
    let _ = run(&["systemctl", "start", &unit.unit]);
    unit.wait_show("ActiveState", "failed");
    assert_eq!(unit.show("ExecMainStatus"), "23");
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn a_reload_applies_the_file_and_one_with_problems_changes_nothing() {
    let both = |more: &str| {
        shell("api", "exec sleep 100000", more) + &shell("web", "exec sleep 100000", "")
    };
    let unit = Unit::start("reload", &both(""));
    let main = unit.main_pid();
    let pid_of = |name: &str| unit.wait(name, "state", "up")["pid"].to_string();
    let (api, web) = (pid_of("api"), pid_of("web"));
    unit.write(&both("nice = 1"));
    unit.systemctl("reload");
    unit.wait("api", "run", 2);
    assert_ne!(pid_of("api"), api);
    assert_eq!((pid_of("web"), unit.main_pid()), (web, main.clone()));
    unit.write(&both("nice = 77"));
    let output = run(&["systemctl", "reload", &unit.unit]);
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(unit.show("ActiveState"), "active", "{}", unit.journal());
    assert!(unit.journal().contains("reload.toml:7:8: "), "{}", unit.journal());
    // By hand, too: keepup says itself when it is through.
    unit.write(&both(""));
    said(&["systemctl", "kill", "-s", "HUP", "--kill-who=main", &unit.unit]);
    unit.wait("api", "run", 3);
    unit.wait_show("ActiveState", "active");
    assert_eq!(unit.main_pid(), main);
}
