//! What tini and dumb-init are known for, case by case: keepup as a plain init does what is
//! documented, and so do they, where they are installed. Where keepup differs on purpose, the case
//! says so, and README, "In the place of tini or dumb-init", says why.

#![expect(clippy::print_stderr, reason = "a peer that is not there is named")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Folder, KEEPUP, Keepup};
use crate::run_command::folders;
use crate::world::{kill, lives, state_and_parent, wait_until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Init {
    Keepup,
    /// As a subreaper, which it must be told to be where it is not PID 1; with more options.
    Tini(&'static [&'static str]),
    Dumb(&'static [&'static str]),
}

const USUAL: [Init; 3] = [Init::Keepup, Init::Tini(&[]), Init::Dumb(&[])];
const GROUP: [Init; 3] = [Init::Keepup, Init::Tini(&["-g"]), Init::Dumb(&[])];

const SIGNALS: [(&str, i32); 8] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("WINCH", libc::SIGWINCH),
];

/// For `env`: what whoever runs the tests ignores (HUP, with nohup) is not ignored. keepup sees to
/// that for its command by itself.
const DEFAULTS: &str = "--default-signal";

/// Those that are here.
fn here(inits: [Init; 3]) -> impl Iterator<Item = Init> {
    let path = std::env::var("PATH").unwrap();
    inits.into_iter().filter(move |init| {
        let name = match init {
            Init::Keepup => return true,
            Init::Tini(_) => "tini",
            Init::Dumb(_) => "dumb-init",
        };
        let is_here = path.split(':').any(|it| Path::new(it).join(name).exists());
        if !is_here {
            eprintln!("NOT COMPARED with {name}, which is not installed");
        }
        is_here
    })
}

impl Init {
    fn of(self, folder: &Folder, command: &[&str]) -> Command {
        let mut init = match self {
            Init::Keepup => {
                let mut init = folder.command(KEEPUP);
                folders(folder, init.args(["run", "--restart", "never"]));
                init
            }
            Init::Tini(options) => {
                let mut init = folder.command("env");
                init.args([DEFAULTS, "tini", "-s"]).args(options);
                init
            }
            Init::Dumb(options) => {
                let mut init = folder.command("env");
                init.args([DEFAULTS, "dumb-init"]).args(options);
                init
            }
        };
        init.arg("--").args(command);
        init
    }

    fn code(self, script: &str) -> Option<i32> {
        let folder = Folder::new();
        self.of(&folder, &["sh", "-c", script]).status().unwrap().code()
    }

    /// On a script that writes a line into `there`.
    fn start(self, script: &str) -> Keepup {
        let folder = Folder::new();
        let command = self.of(&folder, &["sh", "-c", script]);
        let init = Keepup::launch(folder, command);
        init.folder.wait_line("there");
        init
    }
}

#[test]
fn the_exit_code_is_copied_and_a_signal_is_128_more() {
    for init in here(USUAL) {
        for code in [0, 1, 2, 42, 126, 127, 128, 143, 255] {
            assert_eq!(init.code(&format!("exit {code}")), Some(code), "{init:?}");
        }
        for signal in [1, 2, 3, 6, 9, 10, 11, 12, 13, 14, 15] {
            let script = format!("ulimit -c 0; kill -{signal} $$; exit 99");
            assert_eq!(init.code(&script), Some(128 + signal), "{init:?}, {signal}");
        }
    }
}

#[test]
fn a_command_that_is_missing_is_127_and_one_that_cannot_be_run_126() {
    for init in here(USUAL) {
        let folder = Folder::new();
        folder.write("plain", "");
        let code = |program| {
            let mut command = init.of(&folder, &[program]);
            command.stderr(Stdio::null()).status().unwrap().code().unwrap()
        };
        let expected = match init {
            Init::Keepup | Init::Tini(_) => [127, 126],
            // Its own code for whatever fails.
            Init::Dumb(_) => [2, 2],
        };
        assert_eq!([code("no-such-program"), code("./plain")], expected, "{init:?}");
    }
}

#[test]
fn signals_are_passed_on() {
    for init in here(USUAL) {
        for (signal, number) in SIGNALS {
            let script = format!(
                "trap 'exit 77' {signal}; echo > there
                while :; do sleep 0.01; done"
            );
            let mut running = init.start(&script);
            running.signal(number);
            assert_eq!(running.wait_code(), 77, "{init:?}, {signal}");
        }
    }
}

#[test]
fn signals_reach_the_group_where_that_is_asked_for_and_here_always() {
    for init in here(GROUP) {
        let mut running = init.start(
            "(trap 'echo heard > child; exit' TERM; echo > ready; while :; do sleep 0.01; done) &
            trap 'wait; exit 3' TERM; until test -e ready; do sleep 0.01; done; echo > there
            while :; do sleep 0.01; done",
        );
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait_code(), 3, "{init:?}");
        assert_eq!(running.folder.read("child"), "heard\n", "{init:?}");
    }
}

#[test]
fn signals_are_rewritten() {
    let rewriting = |init| match init {
        Init::Keepup => "--rewrite",
        Init::Tini(_) | Init::Dumb(_) => "-r",
    };
    for init in here([Init::Keepup, Init::Dumb(&[]), Init::Dumb(&[])]) {
        let folder = Folder::new();
        let script = "trap 'exit 33' QUIT; trap 'exit 1' TERM; trap 'exit 2' HUP; echo > there
            while :; do sleep 0.01; done";
        let plain = init.of(&folder, &["sh", "-c", script]);
        // Options come before the `--`.
        let mut command = folder.command(plain.get_program());
        for argument in plain.get_args() {
            if argument == "--" {
                command.args([rewriting(init), "15:3", rewriting(init), "1:0"]);
            }
            command.arg(argument);
        }
        let mut running = Keepup::launch(folder, command);
        running.folder.wait_line("there");
        running.signal(libc::SIGHUP);
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait_code(), 33, "{init:?}");
    }
}

#[test]
fn the_input_is_the_commands() {
    for init in here(USUAL) {
        let folder = Folder::new();
        let mut command = init.of(&folder, &["cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"through").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"through"[..]),
            "{init:?}"
        );
    }
}

#[test]
fn it_ends_with_its_command_and_does_not_wait_for_what_that_left() {
    for init in here(USUAL) {
        let folder = Folder::new();
        let script = "setsid sh -c 'echo $$ > left; exec sleep 1000' &
            until test -s left; do sleep 0.01; done; exit 4";
        let mut command = init.of(&folder, &["sh", "-c", script]);
        let mut running = command.stdin(Stdio::null()).spawn().unwrap();
        let mut code = None;
        wait_until("it ends", || {
            code = running.try_wait().unwrap().map(|it| it.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(4)), "{init:?}");
        let left = folder.wait_pid("left");
        match init {
            Init::Keepup => assert!(!lives(left)),
            // Killed in a container, whose PID 1 they are; elsewhere it stays.
            Init::Tini(_) | Init::Dumb(_) => {
                assert!(lives(left), "{init:?}");
                kill(left, libc::SIGKILL);
            }
        }
    }
}

#[test]
fn a_stop_from_the_terminal_stops_a_command_in_a_session_of_its_own_too() {
    // dumb-init turns TSTP into STOP; tini, which has no session for its command, need not.
    for init in here([Init::Keepup, Init::Dumb(&[]), Init::Dumb(&[])]) {
        let mut running = init.start("echo $$ > pid; echo > there; exec sleep 1000");
        let pid = running.folder.wait_pid("pid");
        running.signal(libc::SIGTSTP);
        wait_until("it is stopped", || state_and_parent(pid).is_some_and(|it| it.0 == 'T'));
        match init {
            Init::Keepup => {}
            // It stops with its command.
            Init::Tini(_) | Init::Dumb(_) => running.signal(libc::SIGCONT),
        }
        running.signal(libc::SIGCONT);
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait_code(), 143, "{init:?}");
    }
}
