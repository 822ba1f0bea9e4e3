//! What keepup tells whoever started it: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `JOURNAL_STREAM`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Folder, Keepup, LIMIT, shell, supervisor};
use crate::world::{kill, wait_until};

/// The one who listens in systemd's place.
struct Listener {
    socket: UnixDatagram,
    name: String,
}

impl Listener {
    fn at(folder: &Folder) -> Listener {
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Listener { socket, name: path.to_str().unwrap().to_owned() }
    }

    fn abstract_one() -> Listener {
        let name = format!("keepup-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Listener { socket, name: format!("@{name}") }
    }

    /// The next message.
    fn next(&self) -> String {
        self.next_within(LIMIT).expect("a message")
    }

    fn next_within(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// Waits for a message with this line in it.
    fn line(&self, line: &str) -> String {
        let end = Instant::now() + LIMIT;
        let mut heard = Vec::new();
        while Instant::now() < end {
            let message = self.next();
            if message.lines().any(|it| it == line) {
                return message;
            }
            heard.push(message);
        }
        panic!("waited in vain for {line}; heard {heard:?}");
    }
}

/// A keepup that tells `listener` how it is.
fn keepup(folder: Folder, listener: &Listener, services: &str) -> Keepup {
    folder.write("supervisor.toml", &format!("{}{services}", supervisor("")));
    let mut command = folder.keepup();
    command.env("NOTIFY_SOCKET", &listener.name);
    Keepup::launch(folder, command)
}

/// The value of an assignment.
fn value(message: &str, name: &str) -> Option<u64> {
    let line = message.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    line.map(|it| it.parse().unwrap())
}

#[test]
fn ready_status_reloading_and_stopping_are_told() {
    let folder = Folder::new();
    let listener = Listener::at(&folder);
    let services = format!(
        "{}[service.api.liveness]\nexec = [\"test\", \"-e\", \"go\"]\ninterval = \"100ms\"\n{}",
        shell("api", "exec sleep 1000", ""),
        shell(
            "broken",
            "exit 1",
            "[service.broken.restart]\ndelay = \"1h\"\nmax_delay = \"1h\"\njitter = 0.0\nmax_restarts = 0\n"
        ),
    );
    let mut keepup = keepup(folder, &listener, &services);
    let first = listener.next();
    // The start_timeout of one, and a margin.
    let extended = value(&first, "EXTEND_TIMEOUT_USEC").unwrap();
    assert!((60_000_000..=80_000_000).contains(&extended), "{first}");
    listener.line("STATUS=0 of 2 up; api starting; broken in backoff 1h");
    keepup.folder.write("go", "");
    let ready = listener.line("READY=1");
    assert_eq!(ready, "READY=1\nSTATUS=1 of 2 up; broken in backoff 1h");
    assert_eq!(listener.next_within(Duration::from_millis(300)), None, "nothing changed");
    keepup.signal(libc::SIGHUP);
    let reloading = listener.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(listener.next(), "READY=1");
    keepup.signal(libc::SIGTERM);
    let stopping = listener.line("STOPPING=1");
    // The shutdown_timeout, and a margin.
    assert_eq!(value(&stopping, "EXTEND_TIMEOUT_USEC"), Some(35_000_000), "{stopping}");
    assert!(stopping.ends_with("STATUS=stopping; api still runs"), "{stopping}");
    assert_eq!(listener.next(), "STATUS=stopped");
    assert_eq!(keepup.wait_code(), 0);
}

#[test]
fn an_abstract_socket_is_told_and_what_is_done_at_once_was_ready() {
    let listener = Listener::abstract_one();
    let services = shell("job", "exit 0", "oneshot = true");
    let mut keepup = keepup(Folder::new(), &listener, &services);
    assert_eq!(keepup.wait_code(), 0);
    // It tells both before it ends, or systemd would call it a failed start.
    listener.line("READY=1");
    listener.line("STOPPING=1");
}

#[test]
fn signs_of_life_come_in_half_the_time_and_stop_with_the_loop() {
    let folder = Folder::new();
    let listener = Listener::at(&folder);
    folder.write(
        "supervisor.toml",
        &format!("{}{}", supervisor(""), shell("api", "exec sleep 1000", "")),
    );
    let mut command = folder.keepup();
    command.env("NOTIFY_SOCKET", &listener.name).env("WATCHDOG_USEC", "400000");
    let mut keepup = Keepup::launch(folder, command);
    keepup.up("api");
    while listener.next_within(Duration::from_millis(1)).is_some() {}
    let begin = Instant::now();
    for _ in 0..10 {
        listener.line("WATCHDOG=1");
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1700), "no more often than needed: {took:?}");
    kill(keepup.pid, libc::SIGSTOP);
    wait_until("it is silent", || listener.next_within(Duration::from_millis(500)).is_none());
    kill(keepup.pid, libc::SIGCONT);
    listener.line("WATCHDOG=1");
    keepup.end();
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_heeded() {
    let folder = Folder::new();
    let listener = Listener::at(&folder);
    folder.write(
        "supervisor.toml",
        &format!("{}{}", supervisor(""), shell("api", "exec sleep 1000", "")),
    );
    let mut command = folder.keepup();
    command.env("NOTIFY_SOCKET", &listener.name);
    command.env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1");
    let mut keepup = Keepup::launch(folder, command);
    listener.line("READY=1");
    assert_eq!(listener.next_within(Duration::from_millis(300)), None);
    keepup.end();
}

#[test]
fn a_socket_that_nobody_reads_or_that_is_gone_holds_up_nothing() {
    let folder = Folder::new();
    let listener = Listener::at(&folder);
    let stuffing = UnixDatagram::unbound().unwrap();
    stuffing.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while stuffing.send_to(b"x", &listener.name).is_ok() {
        filled += 1;
    }
    let mut keepup = keepup(folder, &listener, &shell("api", "exec sleep 1000", ""));
    keepup.up("api");
    for _ in 0..filled {
        assert_eq!(listener.next(), "x");
    }
    // What found it full comes as soon as there is room.
    listener.line("READY=1");
    fs::remove_file(&listener.name).unwrap();
    drop(listener);
    keepup.end();
    assert!(keepup.said().contains("cannot tell systemd how keepup is: "), "{}", keepup.said());
}

#[test]
fn a_name_that_is_no_socket_is_a_warning() {
    let folder = Folder::new();
    folder.write(
        "supervisor.toml",
        &format!("{}{}", supervisor(""), shell("api", "exec sleep 1000", "")),
    );
    let mut command = folder.keepup();
    command.env("NOTIFY_SOCKET", "vsock:2:1");
    let mut keepup = Keepup::launch(folder, command);
    keepup.wait_for(&["WARN", "NOTIFY_SOCKET is `vsock:2:1`", "`@`"]);
    keepup.up("api");
    keepup.end();
}

/// The journal as systemd gives it: a stream socket that is named by its device and inode.
#[test]
fn lines_for_the_journal_begin_with_their_level() {
    let folder = Folder::new();
    let services = shell("api", "exit 3", "[service.api.restart]\nfatal_codes = [3]");
    folder.write("supervisor.toml", &format!("{}{services}", supervisor("")));
    let (ours, journal) = UnixStream::pair().unwrap();
    let journal = OwnedFd::from(journal);
    let script = "exec env JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2) \"$0\"";
    let mut command: Command = folder.command("sh");
    command.args(["-c", script, crate::harness::KEEPUP]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(journal);
    let mut child = command.spawn().unwrap();
    drop(command);
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    let lines: Vec<String> = BufReader::new(ours).lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let is =
        |start: &str, end: &str| lines.iter().any(|it| it.starts_with(start) && it.contains(end));
    assert!(is("<6>api: ", "up, pid"), "{lines:#?}");
    assert!(is("<3>api: ", "given up"), "{lines:#?}");
    assert!(lines.iter().all(|it| it.starts_with('<')), "{lines:#?}");
}
