//! What the benchmarks share: a keepup in a folder of its own, the clock, and tables.

#![allow(dead_code, reason = "no benchmark needs all of it")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Nothing here takes so long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder::under(&std::env::temp_dir())
    }

    /// A folder without a disk below it, where there is such a place: what is measured must not
    /// wait for a disk that something else uses.
    pub(crate) fn in_memory() -> Folder {
        let shared_memory = Path::new("/dev/shm");
        if shared_memory.is_dir() { Folder::under(shared_memory) } else { Folder::new() }
    }

    fn under(parent: &Path) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("keepup-bench-{}-{nth}", std::process::id());
        let path = parent.join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running keepup, as released.
pub(crate) struct Keepup {
    child: Child,
    pub(crate) folder: Folder,
    /// Of its HTTP endpoint.
    pub(crate) port: u16,
    /// Just before it was started.
    pub(crate) began: Duration,
}

impl Keepup {
    /// Starts keepup on `services`: captured logs, the HTTP endpoint on.
    pub(crate) fn start(folder: Folder, services: &str) -> Keepup {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "[supervisor]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nlog_dir = \"logs\"\n\
             listen = \"127.0.0.1:{port}\"\n{services}"
        );
        fs::write(folder.path("supervisor.toml"), text).unwrap();
        let stderr = fs::File::create(folder.path("stderr")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepup"));
        command.current_dir(&folder.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let began = now();
        let child = command.spawn().unwrap();
        Keepup { child, folder, port, began }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many events of this name there were.
    pub(crate) fn count(&self, event: &str) -> usize {
        let events = fs::read_to_string(self.folder.path("state/events.jsonl"));
        events.unwrap_or_default().matches(&format!("\"event\":\"{event}\"")).count()
    }

    /// Waits until it has started so many services.
    pub(crate) fn wait_up(&mut self, services: usize) {
        let folder = self.folder.0.clone();
        wait_until(|| {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "keepup ended: {}",
                fs::read_to_string(folder.join("stderr")).unwrap_or_default()
            );
            self.count("up") >= services
        });
    }

    /// Asks its HTTP endpoint.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks it to end, and says how long that took.
    pub(crate) fn end(mut self) -> Duration {
        let begin = Instant::now();
        terminate(&mut self.child);
        begin.elapsed()
    }
}

impl Drop for Keepup {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(&mut self.child);
        }
    }
}

/// Asks a child to end, and waits for it.
pub(crate) fn terminate(child: &mut Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

/// Now, on a clock that all processes share.
pub(crate) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

pub(crate) fn wait(span: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(span);
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain");
        wait(Duration::from_millis(10));
    }
}

/// Appends moments to a file, in one write: several processes may do so at once.
pub(crate) fn stamp(path: &str, moments: &[Duration]) {
    let bytes: Vec<u8> = moments.iter().flat_map(|it| nanos(*it).to_le_bytes()).collect();
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

/// The moments in a file.
pub(crate) fn stamps(path: &Path) -> Vec<Duration> {
    let bytes = fs::read(path).unwrap_or_default();
    let number = |it: &[u8]| u64::from_le_bytes(it.try_into().unwrap());
    bytes.chunks_exact(8).map(|it| Duration::from_nanos(number(it))).collect()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// The value below which so many percent of the samples are.
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// This program, to be run again in another role.
pub(crate) fn itself() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}
