//! A plain init in a container: in the place of tini, dumb-init and `docker run --init`.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::engine::{BUSYBOX, Container, debian, docker, text};

/// `docker run` with these options, and keepup as the init of this command.
fn run(options: &[&str], command: &[&str]) -> Command {
    let image = debian();
    let begin = ["run", "--rm", "--network", "none"];
    let init = [image, "run", "--restart", "never", "--"];
    docker(&[&begin, options, &init, command].concat())
}

/// Starts one in the background.
fn start(command: &[&str]) -> Container {
    let init = ["run", "--restart", "never", "--"];
    Container::of(debian(), &[], "", &[&init, command].concat())
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn the_containers_exit_code_is_the_commands() {
    for (command, code) in [
        (&["sh", "-c", "exit 0"][..], 0),
        (&["sh", "-c", "exit 1"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -SEGV $$"], 139),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let output = run(&[], command).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}", text(&output));
    }
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn stop_reaches_the_command_which_decides() {
    // PID 1 alone would not hear it: its default is to be ignored.
    let sleeping = start(&["sh", "-c", "echo there; exec sleep 100000"]);
    sleeping.wait_line(&["there"]);
    let (code, took) = sleeping.stop();
    assert_eq!(code, 143);
    assert!(took.as_secs() < 6, "{took:?}");
    let script = "trap 'exit 7' TERM; echo there; while :; do sleep 0.1; done";
    let trapping = start(&["sh", "-c", script]);
    trapping.wait_line(&["there"]);
    assert_eq!(trapping.stop().0, 7);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn every_signal_of_docker_kill_is_passed_on() {
    let signals = ["HUP", "INT", "QUIT", "USR1", "USR2", "WINCH"];
    let traps: Vec<String> =
        signals.iter().map(|it| format!("trap 'echo heard {it}' {it}")).collect();
    let script = format!("{}; echo there; while :; do sleep 0.05; done", traps.join("; "));
    let container = start(&["sh", "-c", &script]);
    container.wait_line(&["there"]);
    for signal in signals {
        container.signal(signal);
        container.wait_line(&[&format!("heard {signal}")]);
    }
    container.signal("KILL");
    assert_eq!(container.wait_code(), 137);
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn orphans_are_reaped() {
    let script = "for it in 1 2 3 4 5; do (setsid sleep 0.1 &); done; echo there
        exec sleep 100000";
    let container = start(&["sh", "-c", script]);
    container.wait_line(&["there"]);
    container.wait_until("only keepup and its command are left", || {
        container.ask(&["ps", "-o", "pid,stat,comm"]).lines().count() == 4
    });
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn what_is_piped_in_reaches_the_command() {
    let mut child = run(&["-i"], &["sh", "-c", "tr a-z A-Z; echo err >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let half_a_megabyte = vec![b'x'; 512 << 10];
    child.stdin.take().unwrap().write_all(&half_a_megabyte).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(output.stdout == vec![b'X'; 512 << 10]);
    assert_eq!(output.stderr, b"err\n");
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn with_t_the_command_has_a_terminal() {
    let script = "test -t 0 && test -t 1 && echo with a terminal; tty";
    let output = run(&["-t"], &["sh", "-c", script]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("with a terminal\r\n") && said.contains("/dev/pts/0"), "{said}");
}

/// As somebody at a keyboard does: `script` is the terminal in front of `docker run -it`.
#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn at_a_keyboard_ctrl_c_reaches_the_command_and_a_shell_has_job_control() {
    let image = debian();
    let begin = "timeout --foreground -k 5 100 docker run --rm -it --network none";
    let line = format!("{begin} {image} run --restart never -- sh");
    let mut terminal = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut shown = String::new();
    let mut wait_for = |words: &str| {
        let mut bytes = [0; 1024];
        while !shown.contains(words) {
            let length = screen.read(&mut bytes).unwrap();
            assert!(length > 0, "ended without `{words}`: {shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        shown.clear();
    };
    wait_for("# ");
    // The quotes: what is typed is shown as well. It is the job that says so: the shell, which has the
    // terminal until then, does not heed these keys.
    keyboard.write_all(b"sh -c 'echo he\"\"re; exec sleep 1000'\n").unwrap();
    wait_for("here");
    keyboard.write_all(b"\x03").unwrap();
    wait_for("# ");
    keyboard.write_all(b"sh -c 'echo co\"\"de $0; exec sleep 1000' $?\n").unwrap();
    wait_for("code 130");
    keyboard.write_all(b"\x1a").unwrap();
    wait_for("# ");
    keyboard.write_all(b"jobs; exit 5\n").unwrap();
    wait_for("Stopped");
    // A shell with stopped jobs wants to be asked twice, or not, as it likes.
    let _ = keyboard.write_all(b"exit 5\n");
    assert_eq!(terminal.wait().unwrap().code(), Some(5));
}

#[test]
#[ignore = "needs a Docker engine: bash .ci/container"]
fn it_needs_nothing_that_can_be_written_to_and_no_rights() {
    let options = ["--read-only", "--user", "1234", "--cap-drop", "ALL", "--pids-limit", "8"];
    let output = run(&options, &["sh", "-c", "id -u; exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!(output.stdout, b"1234\n");
    assert_eq!(output.stderr, b"", "it says nothing of its own");
    // For comparison: a shell as PID 1 gives the same.
    let arguments = ["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "exit 3"];
    assert_eq!(docker(&arguments).output().unwrap().status.code(), Some(3));
}
