//! A folder, logs in it, and ways to wait.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keepup::logs::{Console, Logs, Tell, Trouble};
use keepup::plan::{self, Name};

/// No wait in these tests is longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder of its own for one test, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("logs-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Logs, and what they told.
pub(crate) struct World {
    pub(crate) logs: Logs,
    pub(crate) told: Arc<Mutex<Vec<Trouble>>>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Console::none())
    }

    pub(crate) fn with(console: Console) -> World {
        let told = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&told);
        let tell: Tell = Arc::new(move |trouble| book.lock().unwrap().push(trouble));
        World { logs: Logs::start(console, tell), told }
    }

    pub(crate) fn add(&self, service: &str, plan: &plan::Logs) -> File {
        self.logs.add(&name(service), plan, None).unwrap();
        self.writer(service)
    }

    pub(crate) fn writer(&self, service: &str) -> File {
        File::from(self.logs.writer(&name(service)).unwrap())
    }

    pub(crate) fn drain(&self, service: &str) {
        self.begin_drain(service).recv_timeout(LIMIT).expect("a drain in time");
    }

    pub(crate) fn begin_drain(&self, service: &str) -> Receiver<()> {
        let (send, done) = channel();
        self.logs.drain(
            &name(service),
            Box::new(move || {
                let _ = send.send(());
            }),
        );
        done
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|it| it.text.clone()).collect()
    }

    pub(crate) fn lost(&self, service: &str) -> u64 {
        self.logs.stats(&name(service)).lines_lost
    }

    pub(crate) fn finish(self) {
        self.logs.finish(LIMIT);
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::from(text)
}

pub(crate) fn plan(file: PathBuf) -> plan::Logs {
    plan::Logs::usual(file)
}

/// Asks again until it holds, or fails after the limit.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Starts `sh -c` with its stdout on this file.
pub(crate) fn shell(script: &str, out: &File) -> std::process::Child {
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .spawn()
        .unwrap()
}

/// Writes in a thread; says when it is through.
pub(crate) fn write_aside(mut out: File, bytes: Vec<u8>) -> Receiver<Duration> {
    let (send, done) = channel();
    std::thread::spawn(move || {
        let start = Instant::now();
        out.write_all(&bytes).unwrap();
        let _ = send.send(start.elapsed());
    });
    done
}

/// `first..end` as numbered lines.
pub(crate) fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in range {
        writeln!(bytes, "line {number:07} {}", "x".repeat((number % 90) as usize)).unwrap();
    }
    bytes
}

/// Writes a numbered line a millisecond, which is often enough for lines to gather, until it is
/// told to stop; then returns how many.
pub(crate) fn trickle(mut out: File) -> (Sender<()>, JoinHandle<u32>) {
    let (stop, stopped) = channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut count = 0;
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            out.write_all(&lines(count..count + 1)).unwrap();
            count += 1;
        }
        count
    });
    (stop, writer)
}
