//! From a hang or a crash to an API that answers again, step by step, for each way in which keepup
//! can notice it, beside the longest time that the configuration allows.
//!
//! The service is this program in another role: it serves HTTP on one thread, beats in a file and by
//! `WATCHDOG=1`, and can be made to hang. `cargo bench --bench detection -- 5` has five rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]
#![expect(clippy::print_stdout, reason = "the result of a benchmark")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::Duration;

use common::{Folder, Keepup, itself, now, percentile, wait, wait_until};
use keepup::config::{self, Surroundings, schedule};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The role in which this program is the service.
const SERVICE: &str = "--as-service";

/// Rounds of each kind; the first argument sets another number.
const ROUNDS: usize = 7;

/// How often the service beats.
const BEAT: Duration = Duration::from_millis(100);

/// What all probes here have in common.
const TIMES: &str =
    "interval = \"500ms\"\nretry_interval = \"200ms\"\ntimeout = \"300ms\"\nfailures = 2\n";

/// A way to fail.
#[derive(Clone, Copy)]
enum Fault {
    /// The process is stopped: SIGSTOP.
    Stopped,
    /// Its one loop is blocked, while the kernel still takes connections for it.
    Blocked,
    /// It is killed.
    Killed,
}

struct Kind {
    name: &'static str,
    fault: Fault,
    /// Of `[service.api]`, and tables below it; PORT and ITSELF are filled in.
    keys: &'static str,
    /// Has it the times above?
    probe: bool,
}

const KINDS: [Kind; 8] = [
    Kind {
        name: "http, SIGSTOP",
        fault: Fault::Stopped,
        keys: "[service.api.liveness]\nhttp = \"http://127.0.0.1:PORT/\"\n",
        probe: true,
    },
    Kind {
        name: "http, blocked loop",
        fault: Fault::Blocked,
        keys: "[service.api.liveness]\nhttp = \"http://127.0.0.1:PORT/\"\n",
        probe: true,
    },
    Kind {
        name: "tcp, full backlog",
        fault: Fault::Blocked,
        keys: "env = { BACKLOG = \"full\" }\n[service.api.liveness]\ntcp = \"127.0.0.1:PORT\"\n",
        probe: true,
    },
    Kind {
        name: "exec, SIGSTOP",
        fault: Fault::Stopped,
        keys: "[service.api.liveness]\nexec = [\"ITSELF\", \"--ask\", \"PORT\"]\n",
        probe: true,
    },
    Kind {
        name: "heartbeat file",
        fault: Fault::Blocked,
        keys: "[service.api.heartbeat]\nfile = \"beat\"\ndegraded_after = \"500ms\"\nunhealthy_after = \"1s\"\n",
        probe: false,
    },
    Kind {
        name: "WATCHDOG=1",
        fault: Fault::Blocked,
        keys: "[service.api.heartbeat]\ndegraded_after = \"500ms\"\nunhealthy_after = \"1s\"\n",
        probe: false,
    },
    Kind {
        name: "http, crash",
        fault: Fault::Killed,
        keys: "[service.api.liveness]\nhttp = \"http://127.0.0.1:PORT/\"\n",
        probe: true,
    },
    Kind { name: "no probe, crash", fault: Fault::Killed, keys: "", probe: false },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(SERVICE) => serve(&arguments[1]),
        Some("--ask") => ExitCode::from(u8::from(!answers(arguments[1].parse().unwrap()))),
        first => compare(first.and_then(|it| it.parse().ok()).unwrap_or(ROUNDS)),
    }
}

fn compare(rounds: usize) -> ExitCode {
    println!(
        "{rounds} rounds each; ms since the fault, median and worst\n\
         {:<20}{:>17}{:>9}{:>17}{:>17}",
        "", "noticed", "bound", "killed", "answers again"
    );
    let late: Vec<&str> =
        KINDS.iter().filter(|it| !measure(it, rounds)).map(|it| it.name).collect();
    if late.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("LATER than the configuration allows: {}", late.join(", "));
    ExitCode::FAILURE
}

/// When things were seen, since the fault.
struct Seen {
    noticed: Duration,
    killed: Duration,
    answers: Duration,
    /// The host was so loaded that it got the time once more.
    let_off: bool,
}

/// What a loaded machine may add to a bound.
const SLACK: Duration = Duration::from_millis(250);

fn measure(kind: &Kind, rounds: usize) -> bool {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let keys = kind.keys.replace("PORT", &port.to_string()).replace("ITSELF", &itself());
    let times = if kind.probe { TIMES } else { "" };
    let service = format!(
        "[service.api]\ncommand = [\"{}\", \"{SERVICE}\", \"{port}\"]\nstop_timeout = \"300ms\"\n\
         evidence_timeout = \"100ms\"\n\
         restart = {{ delay = \"10ms\", factor = 1.0, jitter = 0.0, max_restarts = 0 }}\n{keys}{times}",
        itself()
    );
    let mut keepup = Keepup::start(Folder::new(), &service);
    let bound = if matches!(kind.fault, Fault::Killed) { Duration::ZERO } else { bound(&keepup) };
    keepup.wait_up(1);
    let seen: Vec<Seen> = (1..=rounds).map(|nth| one(&keepup, kind.fault, port, nth)).collect();
    keepup.end();
    let column = |of: fn(&Seen) -> Duration| {
        let mut all: Vec<Duration> = seen.iter().map(of).collect();
        (percentile(&mut all, 50).as_millis(), percentile(&mut all, 100).as_millis())
    };
    let (noticed, worst) = column(|it| it.noticed);
    let (killed, killed_worst) = column(|it| it.killed);
    let (answers, answers_worst) = column(|it| it.answers);
    let limit = bound.as_millis();
    let let_off = match seen.iter().filter(|it| it.let_off).count() {
        0 => String::new(),
        times => format!("  ({times} x let off: the host is loaded)"),
    };
    println!(
        "{:<20}{noticed:>8}{worst:>9}{limit:>9}{killed:>8}{killed_worst:>9}{answers:>8}{answers_worst:>9}{let_off}",
        kind.name
    );
    // Which may take as long again, and a second.
    seen.iter().all(|it| {
        let more = if it.let_off { bound + Duration::from_secs(1) } else { Duration::ZERO };
        it.noticed <= bound + more + SLACK
    })
}

/// The longest time until it is noticed, as keepup itself works it out; a crash is seen at once.
fn bound(keepup: &Keepup) -> Duration {
    let file = keepup.folder.path("supervisor.toml");
    let surroundings = Surroundings::of_process();
    let read = config::load(&file, &surroundings).unwrap();
    let service = &read.plan.services[0];
    schedule::hang_noticed(service).unwrap_or_default()
}

/// One fault, and all that follows it.
fn one(keepup: &Keepup, fault: Fault, port: u16, nth: usize) -> Seen {
    // Well, and at some moment between two questions.
    wait_until(|| keepup.count("ready") >= nth && answers(port));
    wait(Duration::from_millis(700 + 97 * u64::try_from(nth).unwrap()));
    let pid = pid(keepup);
    let ends = keepup.count("ended");
    let verdicts = keepup.count("unhealthy");
    let let_off = keepup.count("busy");
    let began = now();
    match fault {
        Fault::Stopped => kill(pid, Signal::SIGSTOP).unwrap(),
        Fault::Killed => kill(pid, Signal::SIGKILL).unwrap(),
        Fault::Blocked => kill(pid, Signal::SIGUSR1).unwrap(),
    }
    let until = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(now() < began + Duration::from_secs(60), "it is never noticed");
            wait(Duration::from_millis(2));
        }
        now().saturating_sub(began)
    };
    let crash = matches!(fault, Fault::Killed);
    let noticed =
        until(&|| keepup.count("unhealthy") > verdicts || (crash && keepup.count("ended") > ends));
    let killed = until(&|| keepup.count("ended") > ends);
    let answers = until(&|| answers(port));
    Seen { noticed, killed, answers, let_off: keepup.count("busy") > let_off }
}

/// The process of the last run.
fn pid(keepup: &Keepup) -> Pid {
    let events = fs::read_to_string(keepup.folder.path("state/events.jsonl")).unwrap();
    let up = events.lines().rfind(|it| it.contains("\"event\":\"up\"")).unwrap();
    let rest = up.split("\"pid\":").nth(1).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Pid::from_raw(digits.parse().unwrap())
}

/// Does somebody answer there, within a moment?
fn answers(port: u16) -> bool {
    let ask = || {
        let address = ([127, 0, 0, 1], port).into();
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        Some(answer == *b"HTTP/1.1 200")
    };
    ask() == Some(true)
}

/// The service: one loop that answers and beats, until SIGUSR1 blocks it.
fn serve(port: &str) -> ExitCode {
    let blocked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, blocked.clone()).unwrap();
    let full = std::env::var_os("BACKLOG").is_some();
    let listener = listen(port.parse().unwrap(), if full { 1 } else { 128 });
    let systemd = std::env::var("NOTIFY_SOCKET").ok();
    let mut beaten = Duration::ZERO;
    loop {
        if blocked.load(std::sync::atomic::Ordering::Relaxed) {
            // Deaf from now on: also to TERM.
            let _fill: Vec<TcpStream> = if full { fill(&listener) } else { Vec::new() };
            let (_keep, never) = std::sync::mpsc::channel::<()>();
            let _ = never.recv();
        }
        if beaten + BEAT <= now() {
            beaten = now();
            beat(systemd.as_deref());
        }
        match listener.accept() {
            Ok((stream, _)) => answer(stream),
            Err(_) => wait(Duration::from_millis(2)),
        }
    }
}

fn listen(port: u16, backlog: i32) -> TcpListener {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
        sockopt,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    listen(&fd, Backlog::new(backlog).unwrap()).unwrap();
    TcpListener::from(fd)
}

/// Connections until no further one is taken.
fn fill(listener: &TcpListener) -> Vec<TcpStream> {
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    std::iter::from_fn(connect).take(64).collect()
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut head = [0; 1024];
    if stream.read(&mut head).is_ok_and(|read| read > 0) {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}

fn beat(systemd: Option<&str>) {
    let Some(address) = systemd else {
        return fs::write("beat", "x").unwrap();
    };
    let socket = UnixDatagram::unbound().unwrap();
    let _ = match address.strip_prefix('@') {
        None => socket.send_to(b"WATCHDOG=1", address),
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
            socket.send_to_addr(b"WATCHDOG=1", &address)
        }
    };
}
