//! `keepup run --restart never -- COMMAND`: in the place of tini and dumb-init.
//!
//! | what tini and dumb-init document | here |
//! |---|---|
//! | tini: the exit code is the command's, 128+n for a signal | the same: `every_exit_code…`, `every_fatal_signal…` |
//! | tini: 127 not found, 126 not executable | the same, and why on stderr: `a_command_that_cannot_be_run…` |
//! | both: every signal is forwarded | the same, real-time signals too: `every_signal_that_can_be_caught…` |
//! | tini `-g`, dumb-init: to the whole group | always: `signals_reach_the_whole_group` |
//! | dumb-init `--rewrite 15:3`, 0 drops | the same, and by name: `signals_are_rewritten_or_dropped` |
//! | dumb-init: TSTP, TTIN, TTOU stop the command | unless it catches them: `a_stop_signal…` |
//! | tini `-s`: orphans are reaped below PID 1 too | always: `orphans_are_reaped…`, `init::as_pid_1_…` |
//! | tini: the command's signal mask is as it was given | clean, and so are dispositions: `…with_a_clean_mask…` |
//! | both: streams, folder, environment, descriptors, umask are the command's | the same: `the_command_has_what…` |
//! | dumb-init: a session of its own | unless stdin is the terminal: `without_a_terminal…`, and `terminal` |
//! | tini: the command is put into the foreground | the same, only if keepup was there: `terminal` |
//! | both: leave behind what the command leaves behind | ended: `what_the_command_left_is_ended` |

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::harness::{Folder, KEEPUP, Keepup, STDOUT};
use crate::run_command::folders;
use crate::world::{kill, lives, state_and_parent, wait_until, zombies_of};

/// A plain init with `options`.
fn init_with(folder: &Folder, options: &[&str], command: &[&str]) -> Command {
    let mut keepup = folder.keepup();
    keepup.args(["run", "--restart", "never"]).args(options).arg("--").args(command);
    folders(folder, &mut keepup);
    keepup
}

fn init(folder: &Folder, command: &[&str]) -> Command {
    init_with(folder, &[], command)
}

/// Starts it on a shell script; returns when that has written a line into `there`.
fn script_with(options: &[&str], script: &str) -> Keepup {
    let folder = Folder::new();
    let command = init_with(&folder, options, &["sh", "-c", script]);
    let keepup = Keepup::launch(folder, command);
    keepup.folder.wait_line("there");
    keepup
}

fn script(script: &str) -> Keepup {
    script_with(&[], script)
}

fn code(folder: &Folder, command: &[&str]) -> i32 {
    let output = init(folder, command).output().unwrap();
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn state(pid: i32) -> char {
    state_and_parent(pid).unwrap().0
}

#[test]
fn every_exit_code_is_the_commands() {
    let folder = Folder::new();
    for expected in 0..256 {
        assert_eq!(code(&folder, &["sh", "-c", &format!("exit {expected}")]), expected);
    }
    let files: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(files.len(), 0, "no file is written: {files:?}");
}

#[test]
fn every_fatal_signal_is_told_as_128_more() {
    let folder = Folder::new();
    // Those that stop, go on, or do nothing.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    for signal in (1..=64).filter(|it| !harmless.contains(it)) {
        let script = format!("ulimit -c 0; kill -{signal} $$; exit 99");
        assert_eq!(code(&folder, &["sh", "-c", &script]), 128 + signal);
    }
}

#[test]
fn a_command_that_cannot_be_run_is_told_in_one_line() {
    let folder = Folder::new();
    folder.write("not-executable", "#!/bin/sh\n");
    folder.write("no-interpreter", "#!/no/such/thing\n");
    crate::harness::set_mode(&folder.path("no-interpreter"), 0o755);
    for (program, code, why) in [
        ("no-such-program", 127, "not found in PATH"),
        ("./no-such-program", 127, "no such file"),
        ("./not-executable", 126, "is not executable"),
        (".", 126, "is a directory"),
        ("./no-interpreter", 126, "`/no/such/thing`"),
    ] {
        let program = if program == "." { "./" } else { program };
        let output = init(&folder, &[program]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program}: {said}");
        assert!(said.starts_with(&format!("error: cannot start `{program}`: ")), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn it_reads_no_file_and_leaves_the_streams_to_its_command() {
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
fn every_signal_that_can_be_caught_is_forwarded_and_none_has_a_meaning_of_its_own() {
    let program = "import signal, time
def heard(number, frame):
    with open('heard', 'a') as file: print(number, file=file)
for it in range(1, 65):
    if it not in (9, 19, 32, 33): signal.signal(it, heard)
open('there', 'w').write('\\n')
while True: time.sleep(1000)";
    let folder = Folder::new();
    let command = init(&folder, &["python3", "-c", program]);
    let mut keepup = Keepup::launch(folder, command);
    keepup.folder.wait_line("there");
    // KILL and STOP cannot be caught, and libc has no name for 32 and 33.
    let signals: Vec<i32> = (1..=64).filter(|it| ![9, 19, 32, 33].contains(it)).collect();
    for (nth, signal) in signals.iter().enumerate() {
        keepup.signal(*signal);
        wait_until(&format!("{signal} was heard"), || {
            keepup.folder.read("heard").lines().nth(nth) == Some(&signal.to_string())
        });
    }
    assert_eq!(keepup.folder.read("heard").lines().count(), signals.len());
    assert_ne!(state(keepup.pid), 'T');
    // A killed command, and not a killed keepup.
    let command = keepup.folder.processes().into_iter().find(|&it| it != keepup.pid).unwrap();
    kill(command, libc::SIGKILL);
    assert_eq!(keepup.wait_code(), 137);
}

#[test]
fn signals_are_rewritten_or_dropped() {
    let script = "for it in HUP INT QUIT USR1; do trap \"echo $it >> heard\" $it; done
        echo > there; while :; do sleep 1000 & wait; done";
    let options = ["--rewrite", "15:3", "--rewrite", "SIGHUP:usr1", "--rewrite", "INT:0"];
    let keepup = script_with(&options, script);
    for (nth, (sent, heard)) in
        [(libc::SIGTERM, "QUIT"), (libc::SIGHUP, "USR1")].into_iter().enumerate()
    {
        keepup.signal(libc::SIGINT);
        keepup.signal(sent);
        wait_until(heard, || keepup.folder.read("heard").lines().nth(nth) == Some(heard));
    }
    assert_eq!(keepup.folder.read("heard"), "QUIT\nUSR1\n");
}

#[test]
fn a_wrong_rewriting_is_a_usage_error() {
    let folder = Folder::new();
    for (wrong, words) in [("TREM:1", "did you mean `TERM`?"), ("15", "15:3"), ("1:65", "`65`")] {
        let output = init_with(&folder, &["--rewrite", wrong], &["true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn signals_reach_the_whole_group() {
    // A shell without job control keeps its children in its group.
    let mut keepup = script(
        "(trap 'echo child >> heard; exit' TERM; echo > ready; while :; do sleep 0.01; done) &
        trap 'wait; exit 3' TERM; until test -e ready; do sleep 0.01; done; echo > there
        while :; do sleep 0.01; done",
    );
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 3);
    assert_eq!(keepup.folder.read("heard"), "child\n");
}

#[test]
fn a_signal_in_the_first_moment_is_not_lost() {
    let sleeper = || {
        let folder = Folder::new();
        let command = init(&folder, &["sleep", "1000"]);
        Keepup::launch(folder, command)
    };
    for _ in 0..50 {
        let mut keepup = sleeper();
        let children = format!("/proc/{0}/task/{0}/children", keepup.pid);
        // No pause between the looks: the command must not have come far.
        while std::fs::read_to_string(&children).unwrap().is_empty() {}
        keepup.signal(libc::SIGTERM);
        assert_eq!(keepup.wait_code(), 143);
    }
    // Before it is the command's proxy, a signal ends keepup itself.
    let mut keepup = sleeper();
    keepup.signal(libc::SIGTERM);
    let status = keepup.wait_exit();
    assert!(status.code() == Some(143) || status.signal() == Some(15), "{status}");
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

#[test]
fn a_stop_signal_stops_a_command_that_does_not_catch_it_and_cont_continues_it() {
    let keepup = script("echo $$ > there; exec sleep 1000");
    let command = keepup.folder.wait_pid("there");
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        wait_until("it runs", || state(command) == 'S');
        keepup.signal(signal);
        wait_until("it is stopped", || state(command) == 'T');
        assert_ne!(state(keepup.pid), 'T', "no shell waits for this keepup");
        keepup.signal(libc::SIGCONT);
    }
    wait_until("it runs", || state(command) == 'S');
}

#[test]
fn without_a_terminal_the_command_has_a_session_of_its_own() {
    let keepup = script("echo $$ > there; cat /proc/$$/stat > stat; exec sleep 1000");
    let command = keepup.folder.wait_pid("there");
    let stat = std::fs::read_to_string(format!("/proc/{command}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Parent, group, session.
    let expected = [keepup.pid, command, command].map(|it| it.to_string());
    assert_eq!(fields[1..4], expected);
}

#[test]
fn the_command_starts_with_a_clean_mask_and_default_dispositions() {
    let folder = Folder::new();
    let program = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for it in (1, 2, 13, 15, 17, 20, 22): signal.signal(it, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])";
    let mut command = folder.command("python3");
    command.args(["-c", program, KEEPUP, "run", "--restart", "never", "--"]);
    command.args(["cat", "/proc/self/status"]);
    let mut keepup = Keepup::launch(folder, command);
    assert_eq!(keepup.wait_code(), 0, "with CHLD ignored, too, its end is seen");
    let status = keepup.folder.read(STDOUT);
    for key in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert!(status.contains(&format!("{key}:\t0000000000000000\n")), "{key}: {status}");
    }
}

#[test]
fn the_command_has_what_keepup_was_started_with() {
    let folder = Folder::new();
    folder.write("seven", "of the seventh descriptor\n");
    let script = format!(
        "umask 0137; exec 7< seven; cd /; exec {KEEPUP} run --restart never -- \
         sh -c 'pwd; umask; cat <&7; env'"
    );
    let mut command = folder.command("sh");
    command.args(["-c", &script]).env("NOTIFY_SOCKET", "/n").env("LISTEN_FDS", "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("/\n0137\nof the seventh descriptor\n"), "{said} {output:?}");
    assert!(said.contains("NOTIFY_SOCKET=/n\n") && said.contains("LISTEN_FDS=1\n"), "{said}");
    assert!(!said.contains("KEEPUP_RUN") && !said.contains("KEEPUP_SERVICE"), "{said}");
}

#[test]
fn orphans_are_reaped_below_pid_1_too() {
    let keepup =
        script("for it in 1 2 3 4 5; do (setsid true &); done; echo > there; exec sleep 1000");
    // keepup and its command.
    wait_until("the orphans are gone", || keepup.folder.processes().len() == 2);
    wait_until("no zombie is left", || zombies_of(keepup.pid).is_empty());
}

#[test]
fn what_the_command_left_is_ended() {
    let mut keepup = script(
        "trap '' TERM; sleep 1000 & setsid sh -c 'echo $$ > far; exec sleep 1000' &
        until test -s far; do sleep 0.01; done; echo > there; exit 5",
    );
    let far = keepup.folder.wait_pid("far");
    assert_eq!(keepup.wait_code(), 5);
    assert!(!lives(far));
    assert_eq!(keepup.folder.processes(), [0; 0]);
}

#[test]
fn nothing_is_killed_on_a_timer() {
    // Longer than an impatient supervisor would wait, shorter than a test should.
    let mut keepup =
        script("trap 'sleep 2; exit 6' TERM; echo > there; while :; do sleep 0.01; done");
    keepup.signal(libc::SIGTERM);
    assert_eq!(keepup.wait_code(), 6);
}

#[test]
fn something_to_watch_makes_it_a_supervisor() {
    let folder = Folder::new();
    let options = ["--heartbeat", "beat"];
    let output = init_with(&folder, &options, &["sh", "-c", "exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(folder.path("state").exists(), "{output:?}");
}
