//! What surrounds a keepup: processes, ports, HTTP, a uvicorn.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::harness::{Folder, LIMIT};

/// Kills a process, or a group if the number is negative.
#[expect(unsafe_code, reason = "kill(2) has no safe form without another dependency of the tests")]
pub(crate) fn kill(pid: i32, signal: i32) {
    assert!(pid.abs() > 1, "a process of a test, not everything");
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// May this test do everything?
#[expect(unsafe_code, reason = "geteuid(2) has no safe form without another dependency")]
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches nothing, and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Kills every process of a test; also what they start meanwhile.
pub(crate) fn kill_all(folder: &Folder) {
    let end = Instant::now() + LIMIT;
    loop {
        let left = folder.processes();
        if left.is_empty() || Instant::now() > end {
            return;
        }
        for pid in left {
            kill(pid, libc::SIGKILL);
        }
        pause();
    }
}

/// All processes there are.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok())
}

/// The environment of a process, a variable each. It has none while its program is being loaded, and
/// keepup learns of a start before that is over.
pub(crate) fn environ(pid: i32) -> Vec<String> {
    let mut bytes = Vec::new();
    wait_until("it has an environment", || {
        bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
        !bytes.is_empty()
    });
    String::from_utf8_lossy(&bytes).split_terminator('\0').map(str::to_owned).collect()
}

/// A line of `/proc/PID/status`.
pub(crate) fn proc_status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// The state letter of a process and its parent, if it is there.
pub(crate) fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Does a process of this number live (and is no zombie)?
pub(crate) fn lives(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Children of a process that wait to be reaped.
pub(crate) fn zombies_of(parent: i32) -> Vec<i32> {
    pids().filter(|&pid| state_and_parent(pid) == Some(('Z', parent))).collect()
}

/// A pause between two looks, not a wait for luck.
pub(crate) fn pause() {
    wait(Duration::from_millis(5));
}

/// For spans in which nothing may happen.
pub(crate) fn wait(span: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(span);
}

/// Waits until `holds` does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        pause();
    }
}

/// A port that nobody else has: below those that the kernel gives to clients.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (first + nth) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a request answers, head and body; an error text if nothing does.
pub(crate) fn request(port: u16, method: &str, path: &str) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|it| it.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    exchange(stream, method, path)
}

/// Sends a request on a connection, and gives what it answers.
pub(crate) fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
) -> Result<String, String> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(|it| it.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|it| it.to_string())?;
    if answer.is_empty() {
        return Err("an empty answer".to_owned());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn get(port: u16, path: &str) -> Result<String, String> {
    request(port, "GET", path)
}

/// The status code of an answer.
pub(crate) fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// The moment of an event, in milliseconds.
pub(crate) fn at(event: &serde_json::Value) -> i64 {
    event["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// An HTTP server whose answer can be changed at any time.
pub(crate) struct Server {
    pub(crate) port: u16,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicU16>,
}

impl Server {
    /// Answers everything with this status line (after `HTTP/1.1 `) and body.
    pub(crate) fn start(status: &str, body: &str) -> Server {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU16::new(0)));
        let server = Server { port, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        server.answer(status, body);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                let mut head = Vec::new();
                let mut piece = [0; 1024];
                while !head.windows(4).any(|it| it == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
                        Ok(_) | Err(_) => break,
                    }
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let text = answer.lock().unwrap().clone();
                let _ = stream.write_all(text.as_bytes());
            }
        });
        server
    }

    /// From now on.
    pub(crate) fn answer(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u16 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A virtual environment with uvicorn in it, made once and kept for the next time.
pub(crate) fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
        let setup = repository().join("packaging/demo/setup.sh");
        let output = Command::new(setup).arg(&venv).output().unwrap();
        assert!(
            output.status.success(),
            "cannot install uvicorn with pip: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        venv
    })
}

/// The uvicorn in it.
pub(crate) fn uvicorn() -> PathBuf {
    venv().join("bin/uvicorn")
}
