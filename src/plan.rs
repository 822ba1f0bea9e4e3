//! What to run, with nothing left to decide: `config` makes it, everything else reads it.
//!
//! Plain types, `std` only. Paths are absolute, times are durations, names are checked; whatever
//! stands here is valid, so nothing that reads a plan can fail because of it.

mod change;
mod probe;
mod resources;
mod signal;
mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use change::{Difference, Takes};
pub use probe::{
    Class, FileProbe, GrpcProbe, HttpAddress, HttpProbe, Probe, ProbeKind, Role, Scalar, Trust,
};
pub use resources::Resources;
pub use signal::{Rewrite, Signal};
pub use socket::{SOCKETS_MAX, Socket};

/// A service's name; cheap to clone.
pub type Name = Arc<str>;

/// Everything that one keepup runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// keepup itself.
    pub supervisor: Supervisor,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
}

/// `[supervisor]`: keepup itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Supervisor {
    /// The name that the default folders carry.
    pub name: String,
    /// The file that the plan was read from; `None` for `run -- COMMAND`.
    pub config: Option<PathBuf>,
    /// Where `state.json` and `events.jsonl` live.
    pub state_dir: PathBuf,
    /// Where the control socket lives.
    pub runtime_dir: PathBuf,
    /// Where logs are written.
    pub log_dir: PathBuf,
    /// The read-only HTTP endpoint, if any.
    pub listen: Option<SocketAddr>,
    /// The group that may use the control socket, besides root and keepup's own user.
    pub control_group: Option<String>,
    /// The least important level that keepup logs.
    pub log_level: Level,
    /// How keepup's own log is written.
    pub log_format: OwnLogFormat,
    /// How long a shutdown may take, everything together.
    pub shutdown_timeout: Duration,
    /// Stay although nothing is left to run.
    pub stay: bool,
    /// Incidents that are kept; 0: none are written.
    pub incidents_keep: u32,
    /// How full the machine may be.
    pub host: Host,
}

/// Where the machine, or the container, is so full that people should know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Of its memory.
    pub memory: Option<Full>,
    /// Of the file system that holds the logs.
    pub disk: Option<Full>,
}

/// In percent: from here on it is worth a warning, and critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Below `critical`.
    pub warning: u32,
    /// 100 at most.
    pub critical: u32,
}

/// A level of keepup's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A service was given up, or data was lost.
    Error,
    /// Unexpected, and handled.
    Warn,
    /// What services go through.
    Info,
    /// Every probe and effect.
    Debug,
    /// Everything.
    Trace,
}

/// The form of keepup's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[service.NAME]`: one service.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Program and arguments; never empty. A program without a slash is looked up in PATH.
    pub command: Vec<String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// The user it runs as, by name or number; `None`: keepup's own.
    pub user: Option<String>,
    /// The group it runs as, by name or number; `None`: the user's.
    pub group: Option<String>,
    /// Variables added to its environment.
    pub env: BTreeMap<String, String>,
    /// Files of variables, read at every start.
    pub env_file: Vec<EnvFile>,
    /// Start from an empty environment.
    pub clear_env: bool,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Its niceness, -20 to 19.
    pub nice: i32,
    /// Its badness for the OOM killer, -1000 to 1000; 0: as inherited.
    pub oom_score_adj: i32,
    /// It and its children can never gain privileges.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub limits: BTreeMap<Resource, Limit>,
    /// Sockets that keepup holds for it, in the order in which it is given them.
    pub listen: Vec<Socket>,
    /// Services that must have started, or be done, before its first start.
    pub after: Vec<Name>,
    /// What must answer before every start.
    pub wait_for: Vec<WaitFor>,
    /// A command that must succeed before every start; empty: none.
    pub pre_start: Vec<String>,
    /// A command that follows the end of every run; empty: none.
    pub post_stop: Vec<String>,
    /// Its clean end is its success.
    pub oneshot: bool,
    /// It is started when keepup starts.
    pub autostart: bool,
    /// Its final end ends keepup, with its exit code.
    pub essential: bool,
    /// It has not started before it says READY=1.
    pub notify: bool,
    /// How long it may take to start.
    pub start_timeout: Duration,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// The signal that makes it read its files anew; `None`: it is restarted for that.
    pub reload_signal: Option<Signal>,
    /// How long it has to stop before it is killed.
    pub stop_timeout: Duration,
    /// Whom the stop signal goes to.
    pub stop_scope: Scope,
    /// The signal that a hung run is sent first, to say where it hangs.
    pub hang_signal: Option<Signal>,
    /// How long a hung run is looked at, at most, before it is stopped.
    pub evidence_timeout: Duration,
    /// What becomes of the signals that are passed on to it.
    pub rewrite: Rewrite,
    /// What it may use.
    pub resources: Resources,
    /// What follows an end.
    pub restart: Restart,
    /// What is asked of it, in the order startup, liveness, readiness, warning.
    pub probes: Vec<Probe>,
    /// How it shows that it lives.
    pub heartbeat: Option<Heartbeat>,
    /// Where its output goes.
    pub logs: Logs,
}

/// Something that a service needs, and that must answer before it is started.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitFor {
    /// As it stands in the file.
    pub written: String,
    /// What is asked.
    pub question: Question,
}

/// How something is asked that a service needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A connection must come about.
    Connect(HttpAddress),
    /// An HTTP request must be answered well.
    Http(Box<HttpProbe>),
}

/// Whom of a run a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The main process and its group.
    Group,
    /// The main process alone.
    Main,
}

/// A file of `NAME=value` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFile {
    /// Where it is.
    pub path: PathBuf,
    /// It may be missing (written with a leading `?`).
    pub optional: bool,
}

/// A resource that `limits` can bound; the names are those of `ulimit` and systemd in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Address space, in bytes.
    As,
    /// Core file, in bytes.
    Core,
    /// CPU time, in seconds.
    Cpu,
    /// Data segment, in bytes.
    Data,
    /// Written file, in bytes.
    Fsize,
    /// Locked memory, in bytes.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Stack, in bytes.
    Stack,
}

impl Resource {
    /// All of them, with the key that names each.
    pub const ALL: [(&'static str, Resource); 9] = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("memlock", Resource::Memlock),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("stack", Resource::Stack),
    ];
}

/// How much of a resource; soft and hard limit alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So much, in the resource's unit.
    At(u64),
    /// No limit.
    Unlimited,
}

/// `[service.NAME.restart]`: what follows an end.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// Which ends are followed by a restart.
    pub policy: Policy,
    /// The delay before the first restart in a row.
    pub delay: Duration,
    /// The delay grows no further than this.
    pub max_delay: Duration,
    /// By how much each delay in a row exceeds the one before.
    pub factor: f64,
    /// The delay is made longer by a random part of itself, 0 to this.
    pub jitter: f64,
    /// The cap: restarts within `window`. 0: no cap.
    pub max_restarts: u32,
    /// The sliding window of the cap.
    pub window: Duration,
    /// A run that was well for so long clears the row of failures.
    pub stable_after: Duration,
    /// What happens at the cap.
    pub on_cap: OnCap,
    /// How often a start is tried after the cap, with [`OnCap::Retry`].
    pub retry_after: Duration,
    /// Exits that are a success.
    pub success_codes: Vec<ExitMatch>,
    /// Exits that are never followed by a restart.
    pub fatal_codes: Vec<ExitMatch>,
}

/// Which ends are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every end.
    Always,
    /// Every end but a success.
    OnFailure,
    /// Every end; and a stop by an operator outlives keepup.
    UnlessStopped,
    /// None.
    Never,
}

/// What happens when the cap on restarts is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCap {
    /// One attempt every `retry_after`.
    Retry,
    /// Given up; the others go on.
    Fail,
    /// keepup ends with the service's exit code.
    Exit,
}

/// An exit code, or the signal that killed a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitMatch {
    /// Exited with this code.
    Code(u8),
    /// Killed by this signal.
    Signal(Signal),
}

impl Service {
    /// May its processes tell keepup how they are, by `sd_notify`?
    pub fn is_heard(&self) -> bool {
        self.notify || self.heartbeat.as_ref().is_some_and(|it| it.file.is_none())
    }
}

/// `[service.NAME.heartbeat]`: how a service shows that it lives. It may always say WATCHDOG=1,
/// where it is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The file that it touches; `None`: it says WATCHDOG=1.
    pub file: Option<PathBuf>,
    /// Degraded when there was no beat for so long.
    pub degraded_after: Duration,
    /// Restarted when there was no beat for so long.
    pub unhealthy_after: Duration,
}

/// `[service.NAME.logs]`: where a service's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The current file.
    pub file: PathBuf,
    /// It is rotated at the first line end past this many bytes.
    pub max_size: u64,
    /// It is rotated when it is so old; looked at whenever something is written.
    pub max_age: Option<Duration>,
    /// How many rotated files are kept beside it.
    pub keep: u32,
    /// Bytes that all files together may have; the oldest are given up for it.
    pub max_total: Option<u64>,
    /// What becomes of rotated files.
    pub compress: Compress,
    /// Lines go to keepup's own stdout, too.
    pub console: bool,
    /// What stands in a line.
    pub format: LogFormat,
    /// What happens to the service when nothing can be written.
    pub overflow: Overflow,
    /// Bytes kept in memory while they cannot be written.
    pub buffer: u64,
    /// Which lines show an error, and how many of them are too many.
    pub errors: Option<Errors>,
}

/// The lines of a log that show an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// A regular expression, found somewhere in such a line.
    pub pattern: String,
    /// More than so many within an hour degrade the service; `None`: they are only counted.
    pub per_hour: Option<u32>,
}

impl Logs {
    /// This file, and for everything else what stands in no configuration.
    pub fn usual(file: PathBuf) -> Logs {
        Logs {
            file,
            max_size: 50_000_000,
            max_age: None,
            keep: 10,
            max_total: None,
            compress: Compress::None,
            console: false,
            format: LogFormat::Raw,
            overflow: Overflow::Drop,
            buffer: 1 << 20,
            errors: None,
        }
    }
}

/// What becomes of rotated files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// They stay as they are.
    None,
    /// They are compressed as gzip does it.
    Gzip,
}

/// What stands in a line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// What the service printed, byte by byte.
    Raw,
    /// The time and the stream before it.
    Text,
    /// A JSON object with time, service, stream, run and message.
    Json,
}

impl LogFormat {
    /// Each line says when it was printed.
    pub fn has_times(self) -> bool {
        match self {
            LogFormat::Raw => false,
            LogFormat::Text | LogFormat::Json => true,
        }
    }
}

/// What happens to a service whose log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It runs on; lines for which there is no room in the buffer are counted.
    Drop,
    /// It waits in its next write as soon as its pipe is full; nothing is lost.
    Block,
}
