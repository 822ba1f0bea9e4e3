//! What services say of themselves by `sd_notify`, from real processes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Folder, Keepup, set_mode, shell, supervisor};
use crate::world::{at, environ, is_root, lives, proc_status, wait, wait_until};

/// What a script begins with: `say` sends one message.
const PREAMBLE: &str = "\
import array, os, socket, sys, threading, time\n\
address = os.environ.get('NOTIFY_SOCKET', '')\n\
def say(text, fds=()):\n\
\x20   with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:\n\
\x20       ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []\n\
\x20       it.connect(address)\n\
\x20       it.sendmsg([text if isinstance(text, bytes) else text.encode()], ancillary)\n\
def until(name):\n\
\x20   while not os.path.exists(name): time.sleep(0.005)\n";

/// `[service.NAME]` that runs a Python script.
fn python(folder: &Folder, name: &str, script: &str, more: &str) -> String {
    folder.write(&format!("{name}.py"), &format!("{PREAMBLE}{script}"));
    format!("[service.{name}]\ncommand = [\"python3\", \"-B\", \"{name}.py\"]\n{more}\n")
}

fn one(script: &str, more: &str) -> Keepup {
    let folder = Folder::new();
    let service = python(&folder, "api", script, more);
    Keepup::start_in(folder, "", &service)
}

/// The socket of a running service, from its environment.
fn socket_of(pid: i32) -> PathBuf {
    let environ = environ(pid);
    PathBuf::from(environ.iter().find_map(|it| it.strip_prefix("NOTIFY_SOCKET=")).unwrap())
}

/// The processor time of a process, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn ready_status_and_reloading_are_heard_and_others_wait_for_it() {
    let folder = Folder::new();
    let script = "say('STATUS=loading')\nuntil('go')\n\
                  say('READY=1\\nSTATUS=serving \\x1b[31mwell\\nMAINPID=%d' % os.getpid())\n\
                  until('reload')\nsay('RELOADING=1\\nMONOTONIC_USEC=1')\n\
                  until('done')\nsay('READY=1')\ntime.sleep(1000)\n";
    let api = python(&folder, "api", script, "notify = true");
    let web = shell("web", "exec sleep 1000", "after = [\"api\"]");
    let mut keepup = Keepup::start_in(folder, "", &format!("{api}{web}"));
    keepup.up("api");
    keepup.wait_status("api", "status_text", "loading");
    assert_eq!(keepup.service("api")["health"], "starting");
    assert_eq!(keepup.service("web")["state"], "waiting");
    keepup.folder.write("go", "");
    keepup.event("api", "ready");
    keepup.up("web");
    assert_eq!(keepup.service("api")["status_text"], "serving [31mwell");
    assert!(keepup.ask(&["status", "api"]).contains("serving [31mwell"));
    keepup.folder.write("reload", "");
    keepup.wait_status("api", "status_text", "reloading: serving [31mwell");
    keepup.folder.write("done", "");
    keepup.wait_status("api", "status_text", "serving [31mwell");
    let folder = keepup.folder.path("run/notify");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    keepup.end();
    assert!(!folder.exists(), "the sockets are gone");
    assert!(!keepup.said().contains("sd_notify"), "{}", keepup.said());
}

#[test]
fn a_watchdog_is_told_how_often_and_restarted_when_it_falls_silent() {
    let script = "assert os.environ['WATCHDOG_USEC'] == '2000000'\n\
                  assert os.environ['WATCHDOG_PID'] == str(os.getpid())\n\
                  for _ in range(20):\n    say('WATCHDOG=1'); time.sleep(0.05)\n\
                  print('silent', flush=True)\ntime.sleep(1000)\n";
    let more = "[service.api.heartbeat]\nunhealthy_after = \"2s\"\n\
                [service.api.restart]\ndelay = \"10ms\"\n";
    let mut keepup = one(script, more);
    let ready = keepup.event("api", "ready");
    let unhealthy = keepup.event("api", "unhealthy");
    let took = at(&unhealthy) - at(&ready);
    assert!((2500..15_000).contains(&took), "{took} ms: {unhealthy}");
    assert!(unhealthy["why"].as_str().unwrap().contains("WATCHDOG=1"), "{unhealthy}");
    assert_eq!(keepup.event("api", "ended")["reason"], "heartbeat-lost");
    keepup.event("api", "ready");
    keepup.end();
}

#[test]
fn whoever_triggers_the_watchdog_is_restarted_and_its_last_words_are_heard() {
    let script = "say('READY=1')\nif not os.path.exists('once'):\n    open('once', 'w').close()\n    \
                  say('WATCHDOG=trigger')\n    time.sleep(1000)\nuntil('go')\n\
                  say('STATUS=farewell')\nsay('STOPPING=1')\n";
    let mut keepup = one(script, "notify = true\n[service.api.restart]\ndelay = \"10ms\"\n");
    let why = keepup.event("api", "unhealthy")["why"].clone();
    assert!(why.as_str().unwrap().contains("WATCHDOG=trigger"), "{why}");
    keepup.event("api", "ended");
    keepup.event("api", "ready");
    keepup.folder.write("go", "");
    let why = keepup.event("api", "degraded")["why"].clone();
    assert!(why.as_str().unwrap().contains("STOPPING=1"), "{why}");
    assert_eq!(keepup.event("api", "ended")["reason"], "exited");
}

#[test]
fn a_stop_may_take_longer_if_the_service_asks_for_it() {
    let script = "import signal\n\
                  def stop(*_):\n    say('EXTEND_TIMEOUT_USEC=20000000')\n    open('stopping', 'w').close()\n    until('go')\n    sys.exit(0)\n\
                  signal.signal(signal.SIGTERM, stop)\nsay('READY=1')\nwhile True: time.sleep(1000)\n";
    let mut keepup = one(script, "notify = true\nstop_timeout = \"2s\"");
    keepup.event("api", "ready");
    keepup.ask(&["stop", "--no-wait", "api"]);
    wait_until("it is stopping", || keepup.folder.path("stopping").exists());
    // Longer than it would have had.
    wait(Duration::from_millis(2200));
    keepup.folder.write("go", "");
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["exit"]["code"], 0, "{ended}");
    assert!(keepup.events("api", "killing").is_empty());
}

#[test]
fn a_child_of_the_service_may_speak_and_a_stranger_may_not() {
    let folder = Folder::new();
    // A session of its own does not take the child out of the run.
    let script = "import subprocess\n\
                  until('go')\n\
                  subprocess.run(['setsid', '--wait', 'python3', 'child.py'], check=True)\n\
                  time.sleep(1000)\n";
    let api = python(&folder, "api", script, "notify = true");
    python(&folder, "child", "say('READY=1')\nsay('MAINPID=1')\ntime.sleep(0.3)\n", "");
    python(&folder, "stranger", "address = sys.argv[1]\nsay('READY=1')\nuntil('heard')\n", "");
    let mut keepup = Keepup::start_in(folder, "", &api);
    let pid = keepup.up("api");
    let path = socket_of(pid);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "nobody else's");
    // This test is not of the run either.
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", &path).unwrap();
    keepup.wait_for(&[
        "WARN",
        "api",
        &format!("pid {} is no process of this run", std::process::id()),
    ]);
    let mut stranger = keepup.folder.command("python3");
    let mut stranger = stranger.args(["stranger.py", path.to_str().unwrap()]).spawn().unwrap();
    for _ in 0..50 {
        socket.send_to(b"READY=1", &path).unwrap();
    }
    keepup.folder.write("heard", "");
    stranger.wait().unwrap();
    assert_eq!(keepup.service("api")["ready"], false);
    keepup.folder.write("go", "");
    keepup.event("api", "ready");
    // One complaint in a minute, however many there were.
    assert_eq!(keepup.said().matches("sd_notify").count(), 1, "{}", keepup.said());
    keepup.end();
}

#[test]
fn another_main_process_is_refused_and_the_refusal_is_explained() {
    let mut keepup = one("say('READY=1\\nMAINPID=1')\ntime.sleep(1000)\n", "notify = true");
    keepup.event("api", "ready");
    keepup.wait_for(&["MAINPID=1", "foreground"]);
    keepup.end();
}

#[test]
fn passed_descriptors_are_closed_at_once() {
    let script = "readers = []\n\
                  for nth in range(200):\n    \
                  reader, writer = os.pipe()\n    \
                  say('BARRIER=1' if nth % 2 else 'FDSTORE=1\\nSTATUS=x', [writer] * 20)\n    \
                  os.close(writer)\n    \
                  assert os.read(reader, 1) == b''\n    os.close(reader)\n\
                  say('READY=1')\ntime.sleep(1000)\n";
    let mut keepup = one(script, "notify = true");
    keepup.event("api", "ready");
    let count = || fs::read_dir(format!("/proc/{}/fd", keepup.pid)).unwrap().count();
    assert!(count() < 60, "{}", count());
    keepup.end();
}

#[test]
fn floods_junk_and_oversized_messages_hurt_nobody() {
    let folder = Folder::new();
    let script = "import random\n\
                  say('READY=1')\nrandom.seed(1)\nsay(b'STATUS=' + b'x' * 9000)\nsay(b'')\nsay(b'\\0' * 4096)\n\
                  def flood():\n    \
                  while True:\n        say(random.randbytes(random.randrange(1, 5000)))\n\
                  for _ in range(4): threading.Thread(target=flood, daemon=True).start()\n\
                  time.sleep(1000)\n";
    let api = python(&folder, "api", script, "notify = true");
    let quiet = python(
        &folder,
        "quiet",
        "until('go')\nsay('READY=1')\ntime.sleep(1000)\n",
        "notify = true",
    );
    let mut keepup = Keepup::start_in(folder, "", &format!("{api}{quiet}"));
    keepup.event("api", "ready");
    keepup.wait_for(&["WARN", "api", "more than 4096 bytes"]);
    let (before, begin) = (ticks(keepup.pid), Instant::now());
    wait(Duration::from_secs(1));
    keepup.folder.write("go", "");
    keepup.event("quiet", "ready");
    assert_eq!(keepup.service("api")["state"], "up");
    // In hundredths of a second: far from all of it.
    let spent = u128::from(ticks(keepup.pid) - before) * 10;
    assert!(spent * 3 < begin.elapsed().as_millis(), "{spent} ms in {:?}", begin.elapsed());
    keepup.end();
}

#[test]
fn a_service_with_a_user_of_its_own_reaches_its_socket_and_nobody_else_does() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let script = "say('READY=1')\ntime.sleep(1000)\n";
    let more = "notify = true\nuser = \"65534\"";
    let api = python(&folder, "api", script, more);
    let mut keepup = Keepup::start_in(folder, "", &api);
    let pid = keepup.up("api");
    keepup.event("api", "ready");
    let path = socket_of(pid);
    assert!(path.starts_with(keepup.folder.path("run/notify")), "{}", path.display());
    assert_eq!(fs::metadata(&path).unwrap().uid(), 65534);
    assert_eq!(proc_status(pid, "Uid").split_whitespace().next(), Some("65534"));
    let mut other = keepup.folder.command("setpriv");
    other.args(["--reuid=12345", "--clear-groups", "python3", "-c"]);
    other.arg(format!(
        "import socket\nsocket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect({path:?})\n"
    ));
    let output = other.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    keepup.end();
}

/// Where the path would be too long, or is closed to the service's user, the socket lies elsewhere.
#[test]
fn a_runtime_folder_that_will_not_do_is_replaced() {
    let name = "a".repeat(60);
    let mut cases = vec![(name.as_str(), "")];
    if is_root() {
        cases.push(("api", "user = \"65534\""));
    }
    for (name, more) in cases {
        let folder = Folder::new();
        // Still short enough for the control socket.
        let room = 90_usize.saturating_sub(folder.path("").as_os_str().len());
        let deep = "d".repeat(room);
        let runtime_dir = if more.is_empty() { deep.as_str() } else { "closed/run" };
        let runtime = folder.path(runtime_dir);
        fs::create_dir_all(&runtime).unwrap();
        if !more.is_empty() {
            set_mode(runtime.parent().unwrap(), 0o700);
        }
        let script = "say('READY=1')\ntime.sleep(1000)\n";
        let api = python(&folder, name, script, &format!("notify = true\n{more}"));
        let text = supervisor("").replace("\"run\"", &format!("\"{runtime_dir}\""));
        folder.write("supervisor.toml", &format!("{text}{api}"));
        let command = folder.keepup();
        let mut keepup = Keepup::launch(folder, command);
        let pid = keepup.up(name);
        keepup.event(name, "ready");
        let path = socket_of(pid);
        assert!(!path.starts_with(&runtime), "{}", path.display());
        keepup.signal(libc::SIGTERM);
        assert_eq!(keepup.wait_code(), 0);
        assert!(!path.parent().unwrap().exists(), "{} is gone", path.display());
    }
}

#[test]
fn sockets_of_a_keepup_that_was_killed_are_cleared() {
    let mut keepup = one("say('READY=1')\ntime.sleep(1000)\n", "notify = true");
    let pid = keepup.up("api");
    keepup.event("api", "ready");
    let path = socket_of(pid);
    let folder = keepup.die();
    assert!(path.exists());
    let command = folder.keepup();
    let mut keepup = Keepup::launch(folder, command);
    keepup.event("api", "ready");
    assert!(!lives(pid));
    assert_eq!(fs::read_dir(keepup.folder.path("run/notify")).unwrap().count(), 1);
    keepup.end();
}
