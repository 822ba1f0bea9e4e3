//! A real keepup in a folder of its own, and ways to wait for what it says. Nothing sleeps for
//! luck: every wait is for something, with one overall limit.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Nothing here takes so long, unless it never comes.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keepup-{}-{nth}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running keepup.
pub struct Keepup {
    pub child: Child,
    pub folder: Folder,
    lines: Receiver<String>,
    /// All that it said so far, for the message of a test that fails.
    pub said: Vec<String>,
}

/// `[supervisor]` with every folder inside `folder`, and `more` keys.
pub fn supervisor(more: &str) -> String {
    format!(
        "[supervisor]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nlog_dir = \"logs\"\n{more}\n"
    )
}

impl Keepup {
    /// Starts keepup on `services`, with every folder inside a new one.
    pub fn start(services: &str) -> Keepup {
        Keepup::start_in(Folder::new(), "", services)
    }

    pub fn start_in(folder: Folder, more: &str, services: &str) -> Keepup {
        folder.write("supervisor.toml", &format!("{}{services}", supervisor(more)));
        let mut command = keepup();
        command.current_dir(&folder.0);
        Keepup::launch(folder, command)
    }

    /// Starts what `command` says, which is or becomes keepup.
    pub fn launch(folder: Folder, mut command: Command) -> Keepup {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { break };
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Keepup { child, folder, lines, said: Vec::new() }
    }

    /// Waits for a line that holds all of `words`; only what was not waited for yet counts.
    pub fn wait_for(&mut self, words: &[&str]) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if words.iter().all(|word| line.contains(word)) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited in vain for {words:?}; keepup said:\n{}", self.said.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("keepup ended without {words:?}; it said:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Waits until `name` says that it is up, and gives its pid.
    pub fn wait_up(&mut self, name: &str) -> i32 {
        let line = self.wait_for(&[name, "up, pid "]);
        line.rsplit("pid ").next().unwrap().trim().parse().unwrap()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.child.id().cast_signed(), signal);
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> ExitStatus {
        // Its stderr ends with it (its services have none of it).
        let end = Instant::now() + LIMIT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("keepup does not end; it said:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Runs a client command against it.
    pub fn client(&self, arguments: &[&str]) -> Output {
        keepup().args(arguments).current_dir(&self.folder.0).output().unwrap()
    }

    /// `keepup status --json`.
    pub fn status(&self) -> serde_json::Value {
        let output = self.client(&["status", "--json"]);
        assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The part of the status that is about one service.
    pub fn service(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let services = status["services"].as_array().unwrap();
        services.iter().find(|it| it["name"] == name).unwrap().clone()
    }
}

impl Drop for Keepup {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Twice: everything is killed at once.
            self.signal(15);
            self.signal(15);
            let _ = self.child.wait();
        }
    }
}

/// The keepup that was built for this test, in an environment that does not steer it.
pub fn keepup() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepup"));
    for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY", "JOURNAL_STREAM"] {
        command.env_remove(name);
    }
    command.env_remove("KEEPUP_SOCKET").env_remove("NOTIFY_SOCKET");
    command
}

#[expect(unsafe_code, reason = "kill(2) has no safe form without another dependency of the tests")]
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) };
}

/// Does a process of this number live (and is no zombie)?
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

/// Waits until `holds` does.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    let (_keep, never) = channel::<()>();
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        // A pause between two looks, not a wait for luck.
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a GET of `path` answers, head and body; an error text if nothing does.
pub fn get(port: u16, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|it| it.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(|it| it.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|it| it.to_string())?;
    if answer.is_empty() { Err("an empty answer".to_owned()) } else { Ok(answer) }
}

/// A virtual environment with uvicorn in it, made once and kept for the next time.
pub fn uvicorn() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/demo/setup.sh");
        let output = Command::new(setup).arg(&venv).output().unwrap();
        assert!(
            output.status.success(),
            "cannot install uvicorn with pip: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        venv.join("bin/uvicorn")
    })
}
