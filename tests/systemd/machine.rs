//! The machine that was booted, and units in it that go with their owner.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes so long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// The number of its systemd.
fn leader() -> String {
    std::env::var("KEEPUP_MACHINE").expect("no machine: `bash .ci/systemd` boots one")
}

/// A file of the machine.
pub(crate) fn file(path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", leader()))
}

/// Runs something in the machine.
pub(crate) fn run(command: &[&str]) -> Output {
    let mut enter = Command::new("timeout");
    enter.args(["--kill-after=5", "100", "nsenter", "-t", &leader(), "-a", "--"]).args(command);
    // As a login does.
    enter.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    enter.env("HOME", "/root").stdin(Stdio::null()).output().unwrap()
}

/// Both streams, for people.
pub(crate) fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{} {out}{err}", output.status)
}

/// What something says, which must succeed.
pub(crate) fn said(command: &[&str]) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Sends a process of the machine a signal. There is no kill(1) in a small Debian.
pub(crate) fn kill(pid: &str, signal: &str) {
    said(&["sh", "-c", &format!("kill -{signal} {pid}")]);
}

/// keepup over a file of its own: an instance of `keepup@.service`.
pub(crate) struct Unit {
    /// As in `keepup@NAME`; in no other word of any test.
    name: String,
    pub(crate) unit: String,
}

impl Unit {
    /// Writes its file, and does not start it. `services` may say `NAME` for its own.
    pub(crate) fn new(name: &str, services: &str) -> Unit {
        let unit = Unit { name: name.to_owned(), unit: format!("keepup@{name}.service") };
        unit.write(services);
        unit
    }

    /// Starts it, and waits until systemd says that it is active.
    pub(crate) fn start(name: &str, services: &str) -> Unit {
        let unit = Unit::new(name, services);
        unit.systemctl("start");
        unit
    }

    pub(crate) fn write(&self, services: &str) {
        let services = services.replace("NAME", &self.name);
        let text = format!("[supervisor]\nname = \"keepup-{}\"\n{services}", self.name);
        fs::create_dir_all(file("/etc/keepup")).unwrap();
        fs::write(file(&format!("/etc/keepup/{}.toml", self.name)), text).unwrap();
    }

    /// Lines for its `[Service]`.
    pub(crate) fn drop_in(&self, lines: &str) {
        let folder = file(&format!("/run/systemd/system/{}.d", self.unit));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("test.conf"), format!("[Service]\n{lines}\n")).unwrap();
        said(&["systemctl", "daemon-reload"]);
    }

    /// Must succeed.
    pub(crate) fn systemctl(&self, verb: &str) {
        let output = run(&["systemctl", verb, &self.unit]);
        assert!(output.status.success(), "{verb}: {}\n{}", text(&output), self.journal());
    }

    /// Something of `systemctl show`.
    pub(crate) fn show(&self, property: &str) -> String {
        said(&["systemctl", "show", "--value", "-p", property, &self.unit])
    }

    pub(crate) fn main_pid(&self) -> String {
        self.show("MainPID")
    }

    /// `keepup`, as an operator calls it.
    pub(crate) fn keepup(&self, arguments: &[&str]) -> Output {
        let config = format!("/etc/keepup/{}.toml", self.name);
        run(&[&["keepup", "-c", &config], arguments].concat())
    }

    pub(crate) fn service(&self, name: &str) -> Value {
        let output = self.keepup(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|it| it["name"] == name).unwrap_or_default()
    }

    /// Waits until this field of a service's status has this value, and gives the service.
    pub(crate) fn wait(&self, name: &str, field: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let mut found = Value::Null;
        self.wait_until(&format!("{field} of `{name}` is {value}"), || {
            found = self.service(name);
            found[field] == value
        });
        found
    }

    /// Waits until this property of the unit has this value.
    pub(crate) fn wait_show(&self, property: &str, value: &str) {
        self.wait_until(&format!("{property} is {value}"), || self.show(property) == value);
    }

    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds() {
            if Instant::now() > end {
                let status = text(&run(&["systemctl", "status", "--no-pager", &self.unit]));
                panic!("waited in vain until {what}\n{status}\n{}", self.journal());
            }
            pause(Duration::from_millis(50));
        }
    }

    /// What stands in the journal of it, as text.
    pub(crate) fn journal(&self) -> String {
        said(&["journalctl", "--sync"]);
        said(&["journalctl", "--no-pager", "-o", "cat", "-u", &self.unit])
    }

    /// The processes of the machine whose command line is this, NAME its own.
    pub(crate) fn processes(&self, command: &str) -> Vec<String> {
        let wanted = command.replace("NAME", &self.name);
        let list = said(&["sh", "-c", "cd /proc && grep -als . [0-9]*/cmdline | cut -d/ -f1"]);
        let is = |pid: &&str| {
            let line = fs::read(file(&format!("/proc/{pid}/cmdline"))).unwrap_or_default();
            let words: Vec<_> = line.split(|it| *it == 0).map(String::from_utf8_lossy).collect();
            words.join(" ").trim() == wanted
        };
        list.lines().filter(is).map(str::to_owned).collect()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = run(&["systemctl", "kill", "-s", "KILL", &self.unit]);
        let _ = run(&["systemctl", "stop", &self.unit]);
        let _ = run(&["systemctl", "reset-failed", &self.unit]);
        let _ = fs::remove_file(file(&format!("/etc/keepup/{}.toml", self.name)));
    }
}

/// In a line nobody misses; past the test harness, which hides what tests say.
pub(crate) fn not_tested(what: &str) {
    let _ = writeln!(std::io::stderr(), "\n########## NOT TESTED: {what}\n");
    // `.ci/run` says it once more at its end.
    if let Some(list) = std::env::var_os("NOT_TESTED").filter(|it| !it.is_empty()) {
        let mut list = fs::File::options().append(true).open(list).unwrap();
        writeln!(list, "{what}").unwrap();
    }
}

/// A pause between two looks, not a wait for luck; or a span in which nothing may happen.
pub(crate) fn pause(span: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(span);
}

/// A service that runs a shell script, with more keys.
pub(crate) fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", '''\n{script}\n''']\n{more}\n")
}
