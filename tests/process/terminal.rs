//! A plain init on a terminal, as `docker run -it` and a shell start it.

#![expect(unsafe_code, reason = "a terminal is made by system calls")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex};

use crate::harness::{Folder, KEEPUP};
use crate::world::{kill_all, state_and_parent, wait_until};

/// What a key means: interrupt, end of file, suspend.
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

/// A terminal, and the leader of its session.
struct Screen {
    keyboard: File,
    shown: Arc<Mutex<String>>,
    leader: Child,
    folder: Folder,
}

impl Screen {
    fn new(command: &[&str]) -> Screen {
        let folder = Folder::new();
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: the two descriptors are written to places that are some, the rest may be null.
        let made = unsafe {
            let (name, settings, size) = (null_mut(), null(), null());
            libc::openpty(&raw mut master, &raw mut slave, name, settings, size)
        };
        assert_eq!(made, 0);
        // SAFETY: the kernel just gave us these, and nobody else has them. What is started below
        // must not hold the other end.
        let (keyboard, terminal) = unsafe {
            libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let mut leader = folder.command(command[0]);
        leader.args(&command[1..]).env("PS1", "> ").env_remove("ENV");
        leader.stdin(terminal.try_clone().unwrap());
        leader.stdout(terminal.try_clone().unwrap()).stderr(terminal);
        // SAFETY: two system calls on integers.
        unsafe {
            leader.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let leader = start(leader);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, show) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(1..) = screen.read(&mut bytes).inspect(|&length| {
                show.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }) {}
        });
        Screen { keyboard, shown, leader, folder }
    }

    /// A shell with job control.
    fn shell() -> Screen {
        let screen = Screen::new(&["sh", "-i"]);
        screen.wait_for("> ");
        screen
    }

    /// Types a command that runs another under a plain init.
    fn run(&mut self, command: &str) {
        self.keys(&format!("{KEEPUP} run --restart never -- {command}\n"));
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this is shown, and forgets it and what was shown before.
    fn wait_for(&self, text: &str) {
        let shown = || self.shown.lock().unwrap().find(text);
        let what = || format!("`{text}` is shown; shown: {}", self.shown.lock().unwrap());
        let end = std::time::Instant::now() + crate::harness::LIMIT;
        while shown().is_none() {
            assert!(std::time::Instant::now() < end, "waited in vain until {}", what());
            crate::world::pause();
        }
        let end = shown().unwrap() + text.len();
        self.shown.lock().unwrap().drain(..end);
    }

    /// Waits until the process that wrote its number into this file is in this state.
    fn wait_state(&self, file: &str, state: char) {
        let pid = self.folder.wait_pid(file);
        wait_until(&format!("{file} is {state}"), || {
            state_and_parent(pid).is_some_and(|it| it.0 == state)
        });
    }
}

fn start(mut command: Command) -> Child {
    command.spawn().unwrap()
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
        kill_all(&self.folder);
    }
}

/// Writes its number and its parent's, which is keepup's, says so, and then copies its input.
const ECHO: &str = "sh -c 'echo $$ > command; echo $PPID > keepup; echo rea\"\"dy; exec cat'";

#[test]
fn the_terminal_is_the_commands_own() {
    let mut screen = Screen::shell();
    screen.run(ECHO);
    screen.wait_for("ready");
    screen.keys("hello\n");
    screen.wait_for("hello\r\nhello");
    screen.keys(CTRL_C);
    screen.wait_for("> ");
    screen.keys("echo code $?.\n");
    screen.wait_for("code 130.");
    screen.run("cat");
    screen.keys("more\n");
    screen.wait_for("more\r\nmore");
    screen.keys(CTRL_D);
    screen.wait_for("> ");
    screen.keys("echo code $?.\n");
    screen.wait_for("code 0.");
}

#[test]
fn suspended_the_command_is_stopped_and_keepup_with_it_until_the_shell_continues_both() {
    let mut screen = Screen::shell();
    for input in ["", "</dev/null"] {
        let wait =
            "sh -c 'echo $$ > command; echo $PPID > keepup; echo rea\"\"dy; exec sleep 1000'";
        screen.run(&format!("{} {input}", if input.is_empty() { ECHO } else { wait }));
        screen.wait_for("ready");
        screen.keys(CTRL_Z);
        screen.wait_for("> ");
        screen.wait_state("command", 'T');
        screen.wait_state("keepup", 'T');
        screen.keys("fg\n");
        screen.wait_state("command", 'S');
        screen.wait_state("keepup", 'S');
        if input.is_empty() {
            screen.keys("again\n");
            screen.wait_for("again\r\nagain");
        }
        screen.keys(CTRL_C);
        screen.wait_for("> ");
        screen.keys("echo code $?.\n");
        screen.wait_for("code 130.");
    }
}

#[test]
fn started_in_the_background_it_does_not_take_the_terminal() {
    let mut screen = Screen::shell();
    screen.run(&format!("{ECHO} &"));
    screen.wait_for("ready");
    // It may not read, and waits for that.
    screen.wait_state("command", 'T');
    screen.wait_state("keepup", 'T');
    screen.keys("echo still he\"\"re\n");
    screen.wait_for("still here");
    screen.keys("fg\n");
    screen.wait_state("command", 'S');
    screen.keys("hello\n");
    screen.wait_for("hello\r\nhello");
    screen.keys(CTRL_C);
    screen.wait_for("> ");
}

#[test]
fn the_terminal_is_given_back_to_who_has_no_job_control() {
    let script = format!("{KEEPUP} run --restart never -- true; read it; echo \"read $it.\"");
    let mut screen = Screen::new(&["sh", "-c", &script]);
    screen.keys("a line\n");
    screen.wait_for("read a line.");
}

#[test]
fn as_the_leader_of_the_session_it_leaves_the_terminal_to_the_command() {
    let command = "echo rea\"\"dy; exec cat";
    let mut screen = Screen::new(&[KEEPUP, "run", "--restart", "never", "--", "sh", "-c", command]);
    screen.wait_for("ready");
    screen.keys("hello\n");
    screen.wait_for("hello\r\nhello");
    screen.keys(CTRL_C);
    let mut end = None;
    wait_until("keepup ends", || {
        end = screen.leader.try_wait().unwrap();
        end.is_some()
    });
    assert_eq!(end.unwrap().code(), Some(130));
}
