//! A real keepup in a folder of its own, and ways to wait for what it says. Nothing sleeps for
//! luck: every wait is for something, with one overall limit.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{self, kill, wait_until};

/// Nothing here takes so long, unless it never comes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// In the environment of every process of a test, so that none is missed: the test's folder.
const MARK: &str = "KEEPUP_TEST";

/// What keepup wrote to its stdout, in the test's folder.
pub(crate) const STDOUT: &str = "stdout";

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keepup-{}-{nth}.t", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // Services may run as somebody else.
        set_mode(&path, 0o755);
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The text of a file; empty if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for a whole line in a file, and gives the first.
    pub(crate) fn wait_line(&self, name: &str) -> String {
        wait_until(&format!("`{name}` has a line"), || self.read(name).contains('\n'));
        self.read(name).lines().next().unwrap().to_owned()
    }

    /// Waits for a number on the first line of a file.
    pub(crate) fn wait_pid(&self, name: &str) -> i32 {
        self.wait_line(name).trim().parse().unwrap()
    }

    /// Processes of this test that live, keepup itself among them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.0.display());
        world::pids()
            .filter(|&pid| {
                let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|&byte| byte == 0).any(|it| it == mark.as_bytes())
            })
            .collect()
    }

    /// A command that belongs to this test.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        for name in ["KEEPUP_SOCKET", "NOTIFY_SOCKET", "KEEPUP_RUN", "KEEPUP_SERVICE"] {
            command.env_remove(name);
        }
        command.current_dir(&self.0).env(MARK, &self.0);
        command
    }

    /// The keepup that was built for this test, in an environment that does not steer it.
    pub(crate) fn keepup(&self) -> Command {
        self.command(KEEPUP)
    }
}

/// The program under test.
pub(crate) const KEEPUP: &str = env!("CARGO_BIN_EXE_keepup");

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `[supervisor]` with every folder inside the test's, and `more` keys.
pub(crate) fn supervisor(more: &str) -> String {
    format!(
        "[supervisor]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nlog_dir = \"logs\"\n{more}\n"
    )
}

/// `[service.NAME]` that runs a shell script, and `more` keys.
pub(crate) fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", '''\n{script}\n''']\n{more}\n")
}

/// A running keepup.
pub(crate) struct Keepup {
    pub(crate) child: Child,
    /// The keepup itself, where `child` only waits for it.
    pub(crate) pid: i32,
    pub(crate) folder: Folder,
    lines: Receiver<String>,
    /// All that it said so far, for the message of a test that fails.
    said: Vec<String>,
    events: Vec<Value>,
    /// How many of `events` were waited for, or passed over, of each service.
    waited: HashMap<String, usize>,
    /// How much of the file of events was read.
    offset: u64,
}

/// Starts it. A program that was written a moment ago may still be open in a child that another test
/// is about to start, and cannot be run before that child has its own.
fn spawn(command: &mut Command) -> Child {
    let end = Instant::now() + LIMIT;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                world::pause();
            }
            started => return started.unwrap(),
        }
    }
}

impl Keepup {
    /// Starts keepup on `services`, with every folder inside a new one.
    pub(crate) fn start(services: &str) -> Keepup {
        Keepup::start_in(Folder::new(), "", services)
    }

    /// Starts it with `more` keys in `[supervisor]`.
    pub(crate) fn start_in(folder: Folder, more: &str, services: &str) -> Keepup {
        folder.write("supervisor.toml", &format!("{}{services}", supervisor(more)));
        let command = folder.keepup();
        Keepup::launch(folder, command)
    }

    /// Starts what `command` says, which is or becomes keepup. Its stdout goes to a file.
    pub(crate) fn launch(folder: Folder, mut command: Command) -> Keepup {
        let stdout = fs::File::create(folder.path(STDOUT)).unwrap();
        let offset = fs::metadata(folder.path("state/events.jsonl")).map_or(0, |it| it.len());
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
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
        let pid = child.id().cast_signed();
        Keepup {
            child,
            pid,
            folder,
            lines,
            said: vec![],
            events: vec![],
            waited: HashMap::new(),
            offset,
        }
    }

    /// Waits for a line on its stderr that holds all of `words`; only what was not waited for yet
    /// counts.
    pub(crate) fn wait_for(&mut self, words: &[&str]) -> String {
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

    /// All that it said on its stderr so far.
    pub(crate) fn said(&mut self) -> String {
        self.said.extend(self.lines.try_iter());
        self.said.join("\n")
    }

    /// Waits for the next event of this name and service; what is passed over of this service is
    /// not waited for again.
    pub(crate) fn event(&mut self, service: &str, event: &str) -> Value {
        self.event_with(service, event, |_| true)
    }

    /// Waits for the next event of this name and service of which `is` holds.
    pub(crate) fn event_with(
        &mut self,
        service: &str,
        event: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            self.read_events();
            let waited = self.waited.entry(service.to_owned()).or_default();
            while let Some(it) = self.events.get(*waited) {
                *waited += 1;
                if it["service"] == service && it["event"] == event && is(it) {
                    return it.clone();
                }
            }
            if ended || Instant::now() > end {
                let (said, events) = (self.said(), self.told());
                panic!(
                    "waited in vain for `{event}` of `{service}`; ended: {ended}; \
                     keepup said:\n{said}\nevents:\n{events}"
                );
            }
            world::pause();
        }
    }

    /// Waits for an event about the machine.
    pub(crate) fn host_event(&mut self) -> Value {
        let mut found = None;
        let end = Instant::now() + LIMIT;
        while found.is_none() {
            assert!(Instant::now() < end, "nothing is told of the machine: {}", self.told());
            self.read_events();
            found = self.events.iter().find(|it| it["event"] == "host").cloned();
            world::pause();
        }
        found.unwrap()
    }

    fn read_events(&mut self) {
        let Ok(mut file) = fs::File::open(self.folder.path("state/events.jsonl")) else {
            return;
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        for line in text[..whole].lines() {
            let event = serde_json::from_str(line);
            self.events.push(event.unwrap_or_else(|it| panic!("not JSON: {line}: {it}")));
        }
    }

    /// All events of a service so far, of this name.
    pub(crate) fn events(&mut self, service: &str, event: &str) -> Vec<Value> {
        self.read_events();
        let of = |it: &&Value| it["service"] == service && it["event"] == event;
        self.events.iter().filter(of).cloned().collect()
    }

    /// All events so far, as text.
    fn told(&self) -> String {
        let lines: Vec<String> = self.events.iter().map(Value::to_string).collect();
        lines.join("\n")
    }

    /// Waits until `name` is up, and gives its pid.
    pub(crate) fn up(&mut self, name: &str) -> i32 {
        let pid = self.event(name, "up")["pid"].as_i64().unwrap();
        i32::try_from(pid).unwrap()
    }

    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid, signal);
    }

    /// Waits for its end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it said last is still on its way here.
                while let Ok(line) = self.lines.recv_timeout(LIMIT) {
                    self.said.push(line);
                }
                return status;
            }
            if Instant::now() > end {
                let said = self.said();
                panic!("keepup does not end; it said:\n{said}");
            }
            world::pause();
        }
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn wait_code(&mut self) -> i32 {
        let status = self.wait_exit();
        status.code().unwrap_or_else(|| panic!("keepup died: {status:?}\n{}", self.said()))
    }

    /// Asks it to end; it must do so cleanly, and leave nothing.
    pub(crate) fn end(&mut self) {
        self.signal(libc::SIGTERM);
        assert_eq!(self.wait_code(), 0, "{}", self.said());
        assert_eq!(self.folder.processes(), [0; 0], "{}", self.said());
    }

    /// Runs a client command against it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        self.folder.keepup().args(arguments).output().unwrap()
    }

    /// Runs a client command against it that must succeed, and gives its output.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `keepup status --json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.client(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|it| panic!("{it}: {output:?}"))
    }

    /// The part of the status that is about one service.
    pub(crate) fn service(&self, name: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().unwrap();
        services.iter().find(|it| it["name"] == name).unwrap().clone()
    }

    /// The same, found by another file.
    pub(crate) fn service_by(&self, file: &str, name: &str) -> Value {
        let output = self.client(&["-c", file, "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let services = status["services"].as_array().unwrap();
        services.iter().find(|it| it["name"] == name).unwrap().clone()
    }

    /// Waits until this field of the service's status has this value.
    pub(crate) fn wait_status(&self, name: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        let what = format!("{field} of `{name}` is {value}");
        wait_until(&what, || self.service(name)[field] == value);
    }

    /// Kills keepup as nothing should, and gives back its folder. What it ran goes on.
    pub(crate) fn die(mut self) -> Folder {
        kill(self.pid, libc::SIGKILL);
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, Folder(PathBuf::new()))
    }
}

impl Drop for Keepup {
    fn drop(&mut self) {
        if self.folder.0.as_os_str().is_empty() {
            return;
        }
        kill(self.pid, libc::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        world::kill_all(&self.folder);
        if !std::thread::panicking() {
            let said = self.said();
            assert!(!said.contains("panicked"), "keepup panicked:\n{said}");
        }
    }
}
