//! Held sockets: nobody who connects while a service is restarted is refused.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Folder, KEEPUP, Keepup, set_mode, shell, supervisor};
use crate::world::{
    environ, exchange, free_port, is_root, kill, lives, repository, uvicorn, venv, wait_until,
};

/// Says its pid to everybody who connects to any of its sockets.
const SERVER: &str = r#"
import os, select, socket, sys
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
count = int(os.environ["LISTEN_FDS"])
assert len(os.environ["LISTEN_FDNAMES"].split(":")) == count
held = [socket.socket(fileno=fd) for fd in range(3, 3 + count)]
while True:
    for ready in select.select(held, [], [])[0]:
        ready.setblocking(False)
        try:
            peer, _ = ready.accept()
        except BlockingIOError:
            continue
        peer.setblocking(True)
        while not peer.recv(4096).endswith(b"\r\n\r\n"):
            pass
        text = '"pid": %d' % os.getpid()
        peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + text.encode())
        peer.close()
"#;

const RESTART: &str =
    "[service.api.restart]\ndelay = \"1ms\"\nmax_delay = \"1ms\"\nmax_restarts = 0\n";

/// `[service.api]` that runs the tiny server on these sockets.
pub(crate) fn tiny(folder: &Folder, listen: &str, more: &str) -> String {
    folder.write("server.py", SERVER);
    format!(
        "[service.api]\ncommand = [\"python3\", \"-S\", \"-E\", \"server.py\"]\n\
         listen = [{listen}]\n{more}\n{RESTART}"
    )
}

/// Where somebody connects to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(&'static str, u16),
    Unix(PathBuf),
}

impl Target {
    /// One request on a connection of its own: the pid that answered.
    pub(crate) fn ask(&self) -> Result<i32, io::Error> {
        let limit = Some(Duration::from_secs(20));
        let answer = match self {
            Target::Tcp(host, port) => {
                let stream = TcpStream::connect((*host, *port))?;
                stream.set_read_timeout(limit)?;
                exchange(stream, "GET", "/")
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(limit)?;
                exchange(stream, "GET", "/")
            }
        };
        let answer = answer.map_err(io::Error::other)?;
        let after = answer.split_once("\"pid\": ").map_or("", |it| it.1);
        let digits = after.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
        let pid = digits.parse().ok();
        pid.ok_or_else(|| io::Error::other(format!("answered {answer}")))
    }
}

/// A request that came to nothing.
#[derive(Debug)]
struct Miss {
    began: Instant,
    ended: Instant,
    error: io::Error,
}

/// Clients that connect again and again.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// Who answered last.
    last: Arc<AtomicI32>,
    threads: Vec<JoinHandle<(u32, Vec<Miss>)>>,
}

impl Load {
    /// Two threads for each.
    pub(crate) fn on(targets: &[Target]) -> Load {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let thread = |target: &Target| {
            let (target, stop, last) = (target.clone(), Arc::clone(&stop), Arc::clone(&last));
            std::thread::spawn(move || {
                let (mut answers, mut misses) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match target.ask() {
                        Ok(pid) => {
                            answers += 1;
                            last.store(pid, Ordering::Relaxed);
                        }
                        Err(error) => misses.push(Miss { began, ended: Instant::now(), error }),
                    }
                }
                (answers, misses)
            })
        };
        let threads = targets.iter().chain(targets).map(thread).collect();
        Load { stop, last, threads }
    }

    pub(crate) fn wait_for_answer_of(&self, pid: i32) {
        wait_until(&format!("{pid} answers"), || self.last.load(Ordering::Relaxed) == pid);
    }

    /// Ends it. Only what was being served at a kill may have come to nothing.
    pub(crate) fn judge(self, kills: &[(Instant, Instant)]) -> (u32, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut missed) = (0, 0);
        for thread in self.threads {
            let (of_it, failed) = thread.join().unwrap();
            assert!(of_it > 0, "one of them was never answered: {failed:?}");
            answers += of_it;
            missed += failed.len();
            for miss in failed {
                assert_ne!(miss.error.kind(), ErrorKind::ConnectionRefused, "{miss:?}");
                // A kill is noticed as soon as there is a processor for it.
                let slack = Duration::from_secs(1);
                let served = |(before, after): &(Instant, Instant)| {
                    miss.began <= *after && *before <= miss.ended && miss.ended <= *after + slack
                };
                assert!(kills.iter().any(served), "nobody was killed then: {miss:?}");
            }
        }
        (answers, missed)
    }
}

/// Kills the service so often under load; before every `answered`th kill it has answered somebody.
fn kill_under_load(keepup: &mut Keepup, targets: &[Target], times: usize, answered: usize) {
    let mut pid = keepup.up("api");
    let load = Load::on(targets);
    // Each from before to after it.
    let mut kills: Vec<(Instant, Instant)> = Vec::new();
    while kills.len() < times {
        if kills.len().is_multiple_of(answered) {
            load.wait_for_answer_of(pid);
        }
        let before = Instant::now();
        // With its workers, which would go on until keepup sees the death.
        kill(-pid, libc::SIGKILL);
        kills.push((before, Instant::now()));
        pid = keepup.up("api");
    }
    load.wait_for_answer_of(pid);
    let (answers, missed) = load.judge(&kills);
    assert!(keepup.events("api", "ended").len() >= times);
    assert!(missed <= times * targets.len() * 2, "{answers} answers, {missed} missed");
}

#[test]
#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn a_hundred_kills_refuse_nobody_over_ipv4_ipv6_and_a_unix_socket() {
    let folder = Folder::new();
    let port = free_port();
    let mut targets = vec![Target::Tcp("127.0.0.1", port), Target::Unix(folder.path("api.sock"))];
    let mut listen = format!("\"tcp:0.0.0.0:{port}\", \"unix:api.sock\"");
    if TcpListener::bind("[::1]:0").is_ok() {
        targets.push(Target::Tcp("::1", port));
        listen = format!("{listen}, \"tcp:[::]:{port}\"");
    } else {
        eprintln!("not run over IPv6: this machine has none");
    }
    let service = tiny(&folder, &listen, "");
    let mut keepup = Keepup::start_in(folder, "", &service);
    kill_under_load(&mut keepup, &targets, 100, 2);
    keepup.end();
}

#[test]
fn a_hundred_kills_of_a_real_uvicorn_refuse_nobody() {
    let (port, app) = (free_port(), repository().join("packaging/demo"));
    let service = format!(
        "[service.api]\n\
         command = [\"{}\", \"app:app\", \"--app-dir\", \"{}\", \"--fd\", \"3\"]\n\
         env = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\nlisten = [\"tcp:127.0.0.1:{port}\"]\n{RESTART}",
        uvicorn().display(),
        app.display()
    );
    let mut keepup = Keepup::start(&service);
    // Most are killed while they start, which takes long: that is when connections wait.
    kill_under_load(&mut keepup, &[Target::Tcp("127.0.0.1", port)], 100, 6);
    keepup.end();
}

/// The gunicorn in the virtual environment of the tests.
fn gunicorn() -> PathBuf {
    let program = venv().join("bin/gunicorn");
    if !program.exists() {
        let output = Command::new(venv().join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "gunicorn"])
            .output()
            .unwrap();
        assert!(output.status.success(), "cannot install gunicorn with pip: {output:?}");
    }
    program
}

#[test]
fn gunicorn_takes_its_sockets_as_from_systemd_and_refuses_nobody() {
    let folder = Folder::new();
    let app = "import os\n\
               def app(environ, start):\n\
               \x20   start('200 OK', [('Content-Type', 'text/plain')])\n\
               \x20   return [b'\"pid\": %d' % os.getppid()]\n";
    folder.write("app.py", app);
    let port = free_port();
    let service = format!(
        "[service.api]\ncommand = [\"{}\", \"--no-control-socket\", \"--workers\", \"1\", \"app:app\"]\n\
         listen = [\"tcp:127.0.0.1:{port}\", \"unix:api.sock\"]\n{RESTART}",
        gunicorn().display(),
    );
    let targets = [Target::Tcp("127.0.0.1", port), Target::Unix(folder.path("api.sock"))];
    let mut keepup = Keepup::start_in(folder, "", &service);
    kill_under_load(&mut keepup, &targets, 6, 2);
    keepup.end();
}

#[test]
fn they_are_closed_by_a_stop_and_kept_by_a_restart() {
    let folder = Folder::new();
    let port = free_port();
    let listen = format!("\"tcp:127.0.0.1:{port}\", \"unix:run/api.sock\"");
    let service = tiny(&folder, &listen, "");
    let mut keepup = Keepup::start_in(folder, "", &service);
    let (tcp, unix) =
        (Target::Tcp("127.0.0.1", port), Target::Unix(keepup.folder.path("run/api.sock")));
    let first = keepup.up("api");
    assert_eq!((tcp.ask().unwrap(), unix.ask().unwrap()), (first, first));
    keepup.ask(&["restart", "api"]);
    let second = keepup.up("api");
    assert_ne!(first, second);
    assert_eq!((tcp.ask().unwrap(), unix.ask().unwrap()), (second, second));
    keepup.ask(&["stop", "api"]);
    assert_eq!(tcp.ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    wait_until("its file is gone", || unix.ask().unwrap_err().kind() == ErrorKind::NotFound);
    keepup.ask(&["start", "api"]);
    let third = keepup.up("api");
    assert_eq!((tcp.ask().unwrap(), unix.ask().unwrap()), (third, third));
    keepup.end();
    assert!(!keepup.folder.path("run/api.sock").exists());
    assert_eq!(tcp.ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_taken_port_is_a_failed_start_that_names_who_has_it() {
    let folder = Folder::new();
    let port = free_port();
    let other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let service =
        tiny(&folder, &format!("\"tcp:0.0.0.0:{port}\""), "").replace("\"1ms\"", "\"50ms\"");
    let mut keepup = Keepup::start_in(folder, "", &service);
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "spawn-failed", "{ended}");
    let why = ended["text"].as_str().unwrap().to_owned();
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let expected = format!(
        "cannot hold `tcp:0.0.0.0:{port}`: pid {} ({}) listens at 127.0.0.1:{port}",
        std::process::id(),
        comm.trim()
    );
    assert!(why.ends_with(&expected), "{why}");
    drop(other);
    let pid = keepup.up("api");
    assert_eq!(Target::Tcp("127.0.0.1", port).ask().unwrap(), pid);
}

#[test]
#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn a_port_that_needs_a_right_says_what_to_do() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.ok().and_then(|it| it.trim().parse().ok()).unwrap_or(1024);
    if first <= 1 || !is_root() {
        eprintln!(
            "not run: this test needs root, to become an ordinary user, and ports that need a right"
        );
        return;
    }
    let folder = Folder::new();
    set_mode(&folder.0, 0o777);
    let program = folder.path("keepup");
    fs::copy(KEEPUP, &program).unwrap();
    let service = tiny(&folder, "\"tcp:127.0.0.1:1\"", "").replace("\"1ms\"", "\"1m\"");
    folder.write("supervisor.toml", &format!("{}{service}", supervisor("")));
    let mut command = folder.command(&program);
    command.uid(65534).gid(65534);
    let mut keepup = Keepup::launch(folder, command);
    let ended = keepup.event("api", "ended");
    let why = ended["text"].as_str().unwrap();
    for part in ["port 1 needs a right", "CAP_NET_BIND_SERVICE", &format!("a port from {first}")] {
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_unix_socket_has_its_mode_and_owner_and_a_live_one_of_others_is_left_alone() {
    let folder = Folder::new();
    let stale = UnixListener::bind(folder.path("stale.sock")).unwrap();
    drop(stale);
    let live = UnixListener::bind(folder.path("live.sock")).unwrap();
    folder.write("file.sock", "precious");
    let user = if is_root() { "user = \"65534\"\ngroup = \"12\"\n" } else { "" };
    let mut services =
        tiny(&folder, "\"unix:new/stale.sock,mode=0620\", \"unix:stale.sock\"", user);
    for (name, socket) in [("live", "live.sock"), ("file", "file.sock")] {
        let more =
            format!("listen = [\"unix:{socket}\"]\n[service.{name}.restart]\npolicy = \"never\"\n");
        services += &shell(name, "exec sleep 1000", &more);
    }
    let mut keepup = Keepup::start_in(folder, "", &services);
    let pid = keepup.up("api");
    let path = keepup.folder.path("new/stale.sock");
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o620);
    if is_root() {
        assert_eq!((found.uid(), found.gid()), (65534, 12));
    }
    let other = keepup.folder.path("stale.sock");
    assert_eq!(fs::symlink_metadata(&other).unwrap().permissions().mode() & 0o7777, 0o666);
    assert_eq!(Target::Unix(other).ask().unwrap(), pid);
    let why = |keepup: &mut Keepup, name: &str| keepup.event(name, "ended")["text"].to_string();
    let told = why(&mut keepup, "live");
    assert!(told.contains(&format!("pid {} ", std::process::id())), "{told}");
    let told = why(&mut keepup, "file");
    assert!(told.contains("there is a file that is no socket; remove it"), "{told}");
    assert_eq!(keepup.folder.read("file.sock"), "precious");
    drop(live);
}

#[test]
fn a_socket_of_systemd_is_passed_on_with_its_name() {
    let folder = Folder::new();
    let port = free_port();
    let service = tiny(&folder, "\"systemd:http\"", "");
    let absent = format!(
        "{}\n",
        shell(
            "absent",
            "exec sleep 1000",
            "listen = [\"systemd:https\"]\nrestart = { policy = \"never\" }"
        )
    );
    folder.write("supervisor.toml", &format!("{}{service}{absent}", supervisor("")));
    let script = format!(
        "import os, socket\n\
         held = [socket.create_server(('127.0.0.1', {port})), socket.create_server(('127.0.0.1', 0))]\n\
         for nth, it in enumerate(held):\n\
         \x20   os.dup2(os.dup(it.fileno()), 10 + nth)\n\
         for nth in range(2):\n\
         \x20   os.dup2(10 + nth, 3 + nth)\n\
         \x20   os.set_inheritable(3 + nth, True)\n\
         os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='http:admin')\n\
         os.execv({KEEPUP:?}, [{KEEPUP:?}])\n"
    );
    let mut command = folder.command("python3");
    command.args(["-c", &script]);
    let mut keepup = Keepup::launch(folder, command);
    let pid = keepup.up("api");
    assert_eq!(Target::Tcp("127.0.0.1", port).ask().unwrap(), pid);
    let environ = environ(pid);
    for wanted in ["LISTEN_FDS=1", "LISTEN_FDNAMES=http"] {
        assert!(environ.iter().any(|it| it == wanted), "{environ:?}");
    }
    let why = keepup.event("absent", "ended")["text"].to_string();
    assert!(why.contains("only admin, http"), "{why}");
    // It is still there after a stop: keepup could not open it again.
    keepup.ask(&["stop", "api"]);
    keepup.ask(&["start", "api"]);
    let pid = keepup.up("api");
    assert_eq!(Target::Tcp("127.0.0.1", port).ask().unwrap(), pid);
}

#[test]
fn a_command_without_a_file_has_a_held_socket_too() {
    let folder = Folder::new();
    folder.write("server.py", SERVER);
    let port = free_port();
    let mut command = folder.keepup();
    for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY"] {
        command.env(name, folder.path("state"));
    }
    command.args(["run", "--listen", &format!("tcp:127.0.0.1:{port}"), "--name", "api", "--"]);
    command.args(["python3", "-S", "-E", "server.py"]);
    let mut keepup = Keepup::launch(folder, command);
    let pid = keepup.up("api");
    assert_eq!(Target::Tcp("127.0.0.1", port).ask().unwrap(), pid);
    keepup.end();
    assert!(!lives(pid));
}
