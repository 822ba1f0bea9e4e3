//! `keepup logs` through the real socket; readers that stop reading; and what is told when.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::harness::{Folder, KEEPUP, Keepup, LIMIT, shell, supervisor};
use crate::world::{at, lives, wait_until};

/// A `keepup logs -f`, and what it shows.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(keepup: &Keepup, arguments: &[&str]) -> Follower {
        let mut command = keepup.folder.keepup();
        command.arg("logs").args(arguments).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Follower { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line in time")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbered lines, without end and without haste.
const NUMBERS: &str =
    "n=0; while :; do n=$((n + 1)); echo $n; case $n in *00) sleep 0.02;; esac; done";

#[test]
fn a_follower_sees_each_line_once_through_rotations() {
    for format in ["raw", "json"] {
        // A rotation every thousand lines or so, each followed by a compression.
        let keys = format!(
            "[service.api.logs]\nformat = \"{format}\"\nmax_size = \"6kB\"\nkeep = 200\n\
             compress = \"gzip\"\n"
        );
        let mut keepup = Keepup::start(&shell("api", NUMBERS, &keys));
        keepup.up("api");
        let follower = Follower::start(&keepup, &["api", "-f", "-n", "all"]);
        for nth in 1..=10_000 {
            let line = follower.next();
            let shown = if format == "raw" {
                line
            } else {
                let object: serde_json::Value = serde_json::from_str(&line).unwrap();
                object["message"].as_str().unwrap().to_owned()
            };
            assert_eq!(shown, nth.to_string(), "{format}");
        }
        wait_until("it was rotated and compressed", || {
            let names = fs::read_dir(keepup.folder.path("logs")).unwrap().flatten();
            names.filter(|it| it.path().extension().is_some_and(|it| it == "gz")).count() >= 3
        });
    }
}

#[test]
fn without_a_keepup_files_are_followed_that_are_not_there_yet() {
    let mut keepup = Keepup::start(&shell("api", "exit 0", "oneshot = true\n"));
    assert_eq!(keepup.wait_code(), 0);
    let _ = fs::remove_dir_all(keepup.folder.path("logs"));
    let follower = Follower::start(&keepup, &["api", "-f"]);
    fs::create_dir(keepup.folder.path("logs")).unwrap();
    for line in ["one", "two"] {
        let mut log =
            fs::File::options().append(true).create(true).open(keepup.folder.path("logs/api.log"));
        writeln!(log.as_mut().unwrap(), "{line}").unwrap();
        assert_eq!(follower.next(), line);
    }
}

#[test]
fn what_is_shown_can_be_chosen() {
    let keys = |name: &str| format!("[service.{name}.logs]\nformat = \"json\"\n");
    let services =
        shell("api", "echo one; echo two >&2; echo three; exec sleep 1000", &keys("api"))
            + &shell("web", "echo two of the web; exec sleep 1000", &keys("web"));
    let keepup = Keepup::start(&services);
    wait_until("all is written", || {
        let lines = |name| keepup.folder.read(&format!("logs/{name}.log")).lines().count();
        (lines("api"), lines("web")) == (3, 1)
    });
    let logs = |arguments: &[&str]| keepup.ask(&[&["logs"], arguments].concat());
    assert_eq!(logs(&["api", "--since", "10m"]).lines().count(), 3);
    assert_eq!(logs(&["api", "--since", "1us"]), "");
    assert_eq!(logs(&["api", "--grep", "\"t[wh]"]).lines().count(), 2);
    let both = logs(&["--grep", "two"]);
    let mut prefixes: Vec<&str> = both.lines().map(|it| it.split(' ').next().unwrap()).collect();
    prefixes.sort_unstable();
    assert_eq!(prefixes, ["api", "web"], "{both}");
    for line in logs(&["--json"]).lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(object["service"] == "api" || object["service"] == "web", "{line}");
        assert!(object["time"].is_string() && object["run"] == 1, "{line}");
    }
    assert_eq!(logs(&["--json"]).lines().count(), 4);
    // A line that comes later is shown, too, behind the name of its service.
    let follower = Follower::start(&keepup, &["-f", "--since", "10m", "--grep", "two"]);
    let mut shown: Vec<String> = (0..2).map(|_| follower.next()).collect();
    keepup.ask(&["restart", "web"]);
    shown.push(follower.next());
    shown.sort_unstable();
    let names: Vec<&str> = shown.iter().map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["api", "web", "web"], "{shown:?}");
    assert!(shown[2].contains("\"run\":2"), "{shown:?}");
}

/// The loop turns, and a service goes on.
fn is_well(keepup: &Keepup, pid: i32) {
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(keepup.service("api")["state"], "up");
    }
    assert!(start.elapsed() < 2 * LIMIT, "{:?}", start.elapsed());
    assert!(lives(pid));
}

/// How far the numbers in its log have come.
fn last_number(keepup: &Keepup) -> u64 {
    let log = keepup.folder.read("logs/api.log");
    log.lines().rev().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[test]
fn a_follower_that_stops_reading_holds_up_nobody() {
    let keys = "[service.api.logs]\nmax_size = \"1MB\"\nkeep = 3\n";
    let mut keepup = Keepup::start(&shell("api", "exec seq 1 1000000000", keys));
    let pid = keepup.up("api");
    let mut command = keepup.folder.keepup();
    command.args(["logs", "api", "-f", "-n", "all"]).stdin(Stdio::null());
    let mut deaf: Vec<Child> =
        (0..4).map(|_| command.stdout(Stdio::piped()).spawn().unwrap()).collect();
    let from = last_number(&keepup);
    wait_until("far more is written than fits on the way to them", || {
        last_number(&keepup) > from + 1_000_000
    });
    is_well(&keepup, pid);
    let memory = crate::world::proc_status(keepup.pid, "VmRSS");
    let kib: u64 = memory.split(' ').next().unwrap().parse().unwrap();
    assert!(kib < 200_000, "{memory}");
    assert!(deaf.iter_mut().all(|it| it.try_wait().unwrap().is_none()));
    for child in &mut deaf {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_console_that_nobody_reads_holds_up_nobody() {
    let folder = Folder::new();
    let keys = "[service.api.logs]\nconsole = true\nmax_size = \"1MB\"\nkeep = 3\n";
    let service = shell("api", "exec seq 1 1000000000", keys);
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    // Its own stdout is a pipe, which somebody holds open and nobody reads.
    let mut command = folder.command("sh");
    command.args(["-c", &format!("mkfifo deaf && exec 3<>deaf && exec {KEEPUP} >deaf")]);
    let mut keepup = Keepup::launch(folder, command);
    let pid = keepup.up("api");
    wait_until("much is written", || last_number(&keepup) > 1_000_000);
    is_well(&keepup, pid);
    keepup.end();
}

/// Stops one thread of another process, and lets it go on when this is dropped.
struct Stopped(i32);

#[expect(
    unsafe_code,
    reason = "ptrace(2) has no safe form without another dependency of the tests"
)]
fn ptrace(request: libc::c_uint, thread: i32) -> i64 {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of these requests reads or writes memory of ours.
    unsafe { libc::ptrace(request, thread, nothing, nothing) }
}

impl Stopped {
    /// The thread of this name; `None` if we may not.
    fn new(process: i32, name: &str) -> Option<Stopped> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let is_it = |path: &Path| {
            fs::read_to_string(path.join("comm")).is_ok_and(|it| it.trim_end() == name)
        };
        let path = tasks.map(|it| it.unwrap().path()).find(|it| is_it(it)).expect("the thread");
        let thread = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if ptrace(libc::PTRACE_SEIZE, thread) != 0 {
            return None;
        }
        assert_eq!(ptrace(libc::PTRACE_INTERRUPT, thread), 0);
        wait_until("it is stopped", || {
            let stat = fs::read_to_string(path.join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('t')
        });
        Some(Stopped(thread))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        ptrace(libc::PTRACE_DETACH, self.0);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn an_end_is_not_told_before_the_last_words_are_in_the_log_unless_that_takes_too_long() {
    let script = "echo first; while ! test -e go; do sleep 0.01; done; echo last words; kill -9 $$";
    let keys = "[service.api.restart]\ndelay = \"20s\"\n";
    let mut keepup = Keepup::start(&shell("api", script, keys));
    let pid = keepup.up("api");
    keepup.folder.wait_line("logs/api.log");
    // The log thread takes nothing in, as on a disk that is slow.
    let Some(stopped) = Stopped::new(keepup.pid, "log") else {
        eprintln!("not run: this test stops a thread of keepup with ptrace, and may not");
        return;
    };
    let before = jiff::Timestamp::now().as_millisecond();
    keepup.folder.write("go", "");
    wait_until("it is dead", || !lives(pid));
    let ended = keepup.event("api", "ended");
    // Patience with a disk is limited, and it was not cut short.
    let waited = at(&ended) - before;
    assert!((85..20_000).contains(&waited), "told after {waited} ms");
    assert_eq!(keepup.folder.read("logs/api.log"), "first\n");
    drop(stopped);
    wait_until("they are written", || keepup.folder.read("logs/api.log") == "first\nlast words\n");
}
