//! What to run, with nothing left to decide: `config` makes it, everything else reads it.
//!
//! Plain types, `std` only. Paths are absolute, times are durations, names are checked; whatever
//! stands here is valid, so nothing that reads a plan can fail because of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    /// Services that must have started, or be done, before its first start.
    pub after: Vec<Name>,
    /// Its clean end is its success.
    pub oneshot: bool,
    /// It is started when keepup starts.
    pub autostart: bool,
    /// Its final end ends keepup, with its exit code.
    pub essential: bool,
    /// How long it may take to start.
    pub start_timeout: Duration,
    /// The signal that asks it to stop.
    pub stop_signal: Signal,
    /// How long it has to stop before it is killed.
    pub stop_timeout: Duration,
    /// What becomes of the signals that are passed on to it.
    pub rewrite: Rewrite,
    /// What follows an end.
    pub restart: Restart,
    /// What is asked of it, in the order startup, liveness, readiness, warning.
    pub probes: Vec<Probe>,
    /// The file it touches to show that it lives.
    pub heartbeat: Option<Heartbeat>,
    /// Where its output goes.
    pub logs: Logs,
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

/// A signal, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub i32);

impl Signal {
    /// Asks to hang up, or to reload.
    pub const HUP: Signal = Signal(1);
    /// Asks to abort; dumps core.
    pub const ABRT: Signal = Signal(6);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// Means what its receiver says.
    pub const USR1: Signal = Signal(10);
    /// Likewise.
    pub const USR2: Signal = Signal(12);
    /// Asks to end.
    pub const TERM: Signal = Signal(15);
    /// A child died, was stopped or goes on.
    pub const CHLD: Signal = Signal(17);
    /// Lets a stopped process go on.
    pub const CONT: Signal = Signal(18);
    /// Stops; cannot be caught.
    pub const STOP: Signal = Signal(19);
    /// Stops, asked by the terminal's user.
    pub const TSTP: Signal = Signal(20);
    /// Stops who reads from a terminal in the background.
    pub const TTIN: Signal = Signal(21);
    /// Stops who writes to it.
    pub const TTOU: Signal = Signal(22);

    /// Names and numbers as on x86-64, ARM and RISC-V.
    ///
    /// Source: signal(7), "Signal numbering for standard signals".
    const NAMES: [(&'static str, i32); 31] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];

    /// The signal of this name, with or without `SIG`, in any case, or of this number.
    pub fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Signal(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        Signal::NAMES.iter().find(|it| it.0 == name).map(|it| Signal(it.1))
    }

    /// Every name that `parse` knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Signal::NAMES.iter().map(|it| it.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::NAMES.iter().find(|it| it.1 == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Signals that are passed on as others, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite(pub BTreeMap<Signal, Option<Signal>>);

impl Rewrite {
    /// What is passed on for this signal, if anything is.
    pub fn apply(&self, signal: Signal) -> Option<Signal> {
        self.0.get(&signal).copied().unwrap_or(Some(signal))
    }
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

/// One question, asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What the answer is for.
    pub role: Role,
    /// What is asked.
    pub kind: ProbeKind,
    /// From an answer to the next question.
    pub interval: Duration,
    /// From a miss to the next question.
    pub retry_interval: Duration,
    /// An answer that takes longer is a miss.
    pub timeout: Duration,
    /// Misses in a row until it fails.
    pub failures: u32,
    /// Passes in a row until it passes.
    pub successes: u32,
    /// From the start of a run to the first question.
    pub initial_delay: Duration,
    /// A pass that takes longer degrades the service.
    pub slow: Option<Duration>,
    /// Misses of these classes make it fail at once.
    pub definite: Vec<Class>,
}

/// What a probe's answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Until it passes, the others wait.
    Startup,
    /// Failing restarts the service.
    Liveness,
    /// Failing takes the service out of `/readyz`.
    Readiness,
    /// Failing degrades the service.
    Warning,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Startup => "startup",
            Role::Liveness => "liveness",
            Role::Readiness => "readiness",
            Role::Warning => "warning",
        })
    }
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// An HTTP request and what its answer must be.
    Http(Box<HttpProbe>),
    /// A connection to this `host:port`.
    Tcp(String),
    /// A command that must exit 0.
    Exec(Vec<String>),
    /// A file and what it must hold.
    File(Box<FileProbe>),
    /// A process of the service itself listens at exactly this address.
    Listening(SocketAddr),
    /// `grpc.health.v1.Health/Check`, which must answer SERVING.
    Grpc(Box<GrpcProbe>),
}

impl ProbeKind {
    /// The kind, as it is spelled in the file.
    pub fn name(&self) -> &'static str {
        match self {
            ProbeKind::Http(_) => "http",
            ProbeKind::Tcp(_) => "tcp",
            ProbeKind::Exec(_) => "exec",
            ProbeKind::File(_) => "file",
            ProbeKind::Listening(_) => "listening",
            ProbeKind::Grpc(_) => "grpc",
        }
    }

    /// What it is asked of.
    pub fn target(&self) -> String {
        match self {
            ProbeKind::Http(http) => http.url.clone(),
            ProbeKind::Tcp(address) => address.clone(),
            ProbeKind::Exec(command) => command.join(" "),
            ProbeKind::File(file) => file.path.display().to_string(),
            ProbeKind::Listening(address) => address.to_string(),
            ProbeKind::Grpc(grpc) => grpc.target.clone(),
        }
    }
}

impl fmt::Display for ProbeKind {
    /// What is asked of what; a URL says both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeKind::Http(http) => f.write_str(&http.url),
            ProbeKind::Tcp(_)
            | ProbeKind::Exec(_)
            | ProbeKind::File(_)
            | ProbeKind::Listening(_)
            | ProbeKind::Grpc(_) => {
                write!(f, "{} {}", self.name(), self.target())
            }
        }
    }
}

/// An HTTP request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The whole URL as written, for people.
    pub url: String,
    /// Where to connect.
    pub address: HttpAddress,
    /// The path and query to ask for; starts with a slash.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The request method, in upper case.
    pub method: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The request body.
    pub body: Option<String>,
    /// Status codes that pass.
    pub status: Vec<RangeInclusive<u16>>,
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// Fields that the JSON body must have: dotted path and value.
    pub json: Vec<(String, Scalar)>,
}

/// A question for the health of a gRPC server, or of one service in it.
///
/// Source: the gRPC Health Checking Protocol, `grpc.health.v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// As written, for people.
    pub target: String,
    /// Where to connect.
    pub address: HttpAddress,
    /// The authority that is asked.
    pub host: String,
    /// The service that is asked for; empty: the whole server.
    pub service: String,
}

/// A file and what it must hold. With nothing wanted of it, it must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct FileProbe {
    /// Where it is.
    pub path: PathBuf,
    /// Fields that it must have: dotted path and value.
    pub json: Vec<(String, Scalar)>,
    /// Numbers that must not exceed these: dotted path and the greatest number.
    pub json_max: Vec<(String, f64)>,
    /// Times that must not be older than this, by the wall clock: dotted path and age.
    pub json_age: Vec<(String, Duration)>,
    /// The file itself must have been seen to change within this time; no clock but keepup's own
    /// steady one matters.
    pub max_age: Option<Duration>,
}

/// Where an HTTP probe connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddress {
    /// This host (name or address, without brackets) and port.
    Tcp(String, u16),
    /// The same, through TLS.
    Tls(String, u16, Trust),
    /// This Unix socket.
    Unix(PathBuf),
}

/// Whose certificates are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the system's root certificates vouch for.
    System,
    /// Those that stand in this PEM file, and those that they vouch for.
    Own(PathBuf),
    /// Anybody's.
    Anyone,
}

/// A JSON value without parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Bool(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => write!(f, "{text:?}"),
            Scalar::Integer(number) => write!(f, "{number}"),
            Scalar::Float(number) => write!(f, "{number}"),
            Scalar::Bool(truth) => write!(f, "{truth}"),
        }
    }
}

/// What kind of miss a miss is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// The name does not resolve.
    Dns,
    /// The certificate, or the handshake.
    Tls,
    /// The status code, or not HTTP at all.
    Http,
    /// The body is not what it must be.
    Body,
    /// A file is too old.
    Stale,
    /// Anything else.
    Other,
}

impl Class {
    /// All of them, with the word that names each.
    pub const ALL: [(&'static str, Class); 8] = [
        ("refused", Class::Refused),
        ("timeout", Class::Timeout),
        ("dns", Class::Dns),
        ("tls", Class::Tls),
        ("http", Class::Http),
        ("body", Class::Body),
        ("stale", Class::Stale),
        ("other", Class::Other),
    ];

    /// The word that names it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Refused => "refused",
            Class::Timeout => "timeout",
            Class::Dns => "dns",
            Class::Tls => "tls",
            Class::Http => "http",
            Class::Body => "body",
            Class::Stale => "stale",
            Class::Other => "other",
        }
    }
}

/// `[service.NAME.heartbeat]`: the file that a service touches to show that it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Where it is.
    pub file: PathBuf,
    /// Degraded when it was not touched for so long.
    pub degraded_after: Duration,
    /// Restarted when it was not touched for so long.
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
