//! The vocabulary: what can happen ([`Event`]), what is done about it ([`Effect`]), and what people
//! should know ([`Note`]). Each says itself in words: these texts are the log, and the tests.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::reload::{Change, Reload};
use crate::plan::{Class, Name, Role, Scope, Signal};

/// A moment, on a clock that never jumps: how long after its origin (the machine's boot, or the
/// beginning of a simulated world). A type of its own, so that a moment is never taken for a delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(delay))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// From `earlier` to this moment; zero if `earlier` is not earlier.
    fn sub(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One question of one probe. An answer whose ticket nobody waits for is late, and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed; a deadline may have, too. The first event of all may be this one.
    Tick,
    /// A program runs, as this process: the answer to [`Effect::Spawn`].
    Spawned { name: Name, pid: Pid },
    /// It could not be started: the other answer to [`Effect::Spawn`].
    SpawnFailed { name: Name, failure: SpawnFailure },
    /// A service's main process died. What it left in its group has been sent KILL, unless the main
    /// process alone was asked to stop.
    Exited { pid: Pid, exit: Exit },
    /// Nothing is left of that run any more: the answer to [`Effect::Sweep`] and [`Effect::Await`].
    Gone { pid: Pid },
    /// A hook ended, and nothing of it is left; or it could not be started: the answer to
    /// [`Effect::Hook`].
    HookEnded { name: Name, ticket: Ticket, outcome: Result<Exit, SpawnFailure> },
    /// The answer to [`Effect::Probe`] or [`Effect::Ask`], and how long it took.
    Probed { name: Name, ticket: Ticket, answer: Answer, took: Duration },
    /// A process of this run said something of it, by `sd_notify`.
    Notified { pid: Pid, news: News },
    /// A process of this run said WATCHDOG=1.
    Beat { pid: Pid },
    /// The answer to [`Effect::Look`].
    Looked { name: Name, ticket: Ticket, sight: Sight },
    /// So many more lines that a run printed show an error.
    ErrorRate { name: Name, run: u64, lines: u64 },
    /// Enough was seen of a run that hangs: the answer to [`Effect::Examine`].
    Examined { name: Name, ticket: Ticket },
    /// The answer to [`Effect::Measure`].
    Usage { name: Name, ticket: Ticket, used: Used },
    /// The answer to [`Effect::SampleHost`].
    HostSample { name: Name, ticket: Ticket, sample: HostSample },
    /// An operator wants it up. `by` is the operator's uid.
    Start { name: Name, by: u32 },
    /// An operator wants it down.
    Stop { name: Name, by: u32 },
    /// An operator wants a new run of it.
    Restart { name: Name, by: u32 },
    /// Another plan is to be gone by.
    Reload(Box<Reload>),
    /// keepup is to end. A second one kills at once.
    Shutdown,
}

/// What to do about it; performed in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin to listen at the service's sockets, as far as that is possible now: what fails is tried
    /// again by its next spawn, which answers for it.
    Hold { name: Name },
    /// Close the service's sockets: nobody is to wait for it.
    Release { name: Name },
    /// A service is new, or has another plan: what is kept for it follows.
    Adopt { name: Name },
    /// Start the service's command; answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn { name: Name },
    /// Run a hook of the service, with these variables more; answer with [`Event::HookEnded`].
    Hook { name: Name, kind: HookKind, ticket: Ticket, env: Vec<(&'static str, String)> },
    /// Send a signal to a hook and its group; nothing if it is over.
    SignalHook { ticket: Ticket, signal: Signal },
    /// Send a signal to a run: to its process group, or to its main process alone. KILL to the group
    /// is for all that descends from it. Once the main process alone was asked to stop, its death
    /// leaves the rest untouched.
    Signal { pid: Pid, signal: Signal, to: Scope },
    /// Tell the main process of a run, and nobody else, to read its files anew.
    Refresh { pid: Pid, signal: Signal },
    /// The main process died as it was asked to: touch nothing of the rest, and answer with
    /// [`Event::Gone`] when that is gone, too.
    Await { pid: Pid },
    /// The main process died: kill the rest, and answer with [`Event::Gone`] when nothing of the run
    /// is left.
    Sweep { pid: Pid },
    /// Ask the probe at this place in the service's plan; answer with [`Event::Probed`].
    Probe { name: Name, probe: usize, ticket: Ticket },
    /// Ask what stands at this place of the service's `wait_for`; answer with [`Event::Probed`].
    Ask { name: Name, need: usize, ticket: Ticket },
    /// Look at the heartbeat file; answer with [`Event::Looked`].
    Look { name: Name, ticket: Ticket },
    /// Write down what can be seen of a run that hangs; answer with [`Event::Examined`]. It is not
    /// waited for longer than the service's `evidence_timeout`.
    Examine { name: Name, pid: Pid, ticket: Ticket },
    /// Measure what the run uses; answer with [`Event::Usage`].
    Measure { name: Name, ticket: Ticket },
    /// Begin to look whether the host starves, above all for the run of this service: what comes of
    /// it is asked for later, if at all.
    WatchHost { name: Name },
    /// See whether the host starves, above all for the run of this service; answer with
    /// [`Event::HostSample`].
    SampleHost { name: Name, ticket: Ticket },
    /// No answer to this question is waited for any more; leave nothing of it behind.
    Abandon { ticket: Ticket },
    /// A probe's answer was taken in, or counted as a miss because it did not come; count it.
    Answered { name: Name, probe: usize, answer: Answer, took: Duration },
    /// The service is no more: let go of all that is kept for it.
    Forget { name: Name },
    /// What outlives keepup has changed; write it down.
    Save,
    /// Tell people.
    Note { name: Name, note: Note },
    /// The host stood still for so long; deadlines were moved.
    Stalled { gap: Duration },
    /// keepup ends with this code; nothing follows.
    Exit { code: u8 },
}

/// Which command beside a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Before its start.
    PreStart,
    /// After its end.
    PostStop,
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HookKind::PreStart => "pre_start",
            HookKind::PostStop => "post_stop",
        })
    }
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// In words, for people.
    pub reason: String,
    /// As a shell would say it: 127 for a program that is not there, 126 for all else.
    ///
    /// Source: POSIX.1-2024, Shell Command Language, 2.8.2 Exit Status for Commands.
    pub status: u8,
}

impl SpawnFailure {
    /// Not because the program is not there.
    pub fn other(reason: impl Into<String>) -> SpawnFailure {
        SpawnFailure { reason: reason.into(), status: 126 }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal { signal: Signal, core_dumped: bool },
    /// The kernel killed it for want of memory.
    OutOfMemory,
}

impl Exit {
    /// As a shell would say it: 128+n for a signal.
    ///
    /// Source: POSIX.1-2024, Shell Command Language, 2.8.2 Exit Status for Commands.
    pub fn status(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::OutOfMemory => 137,
            Exit::Signal { signal, .. } => u8::try_from(128 + signal.0).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => {
                write!(f, "exit code {code}")?;
                match code {
                    126 => f.write_str(" (a command was found but could not be run)"),
                    127 => f.write_str(" (a command was not found)"),
                    137 => f.write_str(" (128+9: a process of it was killed)"),
                    143 => f.write_str(" (128+15: a process of it was terminated)"),
                    _ => Ok(()),
                }
            }
            Exit::OutOfMemory => f.write_str(
                "killed by SIGKILL (out of memory: the kernel ended it at the limit of its \
                 container or machine)",
            ),
            Exit::Signal { signal, core_dumped } => {
                write!(f, "killed by {signal}")?;
                if *core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// What a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As wanted.
    Pass,
    /// Not as wanted.
    Miss(Miss),
}

/// What was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Its kind.
    pub class: Class,
    /// What exactly, for people; never empty, one line.
    pub text: String,
}

/// What a look at a heartbeat file showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It changed since the last look, or, at the first look of a run, since before its spawn.
    Beat,
    /// It did not change.
    Still,
    /// There is nothing to see, and why.
    Nothing(String),
}

/// What a run says of itself. Source: `sd_notify(3)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// READY=1: it has started, or read its files anew.
    Ready,
    /// RELOADING=1: it is reading its files anew.
    Reloading,
    /// STOPPING=1: it is ending.
    Stopping,
    /// STATUS=…: how it is, for people, one line; empty: nothing to say any more.
    Status(String),
    /// WATCHDOG=trigger: it knows itself that it is not well.
    Trigger,
    /// `EXTEND_TIMEOUT_USEC`=…: its start or its stop may take so long from now on.
    Extend(Duration),
}

/// What the processes of a run use together; `None`: it cannot be known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Anonymous memory and swap, in bytes.
    pub memory: Option<u64>,
    /// In percent of one processor, since the last time.
    pub cpu: Option<f64>,
}

/// What the host is short of, in percent of the last time; `None`: it cannot be known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostSample {
    /// In which some task waited for a processor: on the host, or in a control group of the run.
    pub cpu: Option<f64>,
    /// For memory.
    pub memory: Option<f64>,
    /// For a disk.
    pub io: Option<f64>,
    /// In which a control group of the run had used up its part of the processors.
    pub throttled: Option<f64>,
    /// In which one task of the run, the one that did most, waited for a processor.
    pub waited: Option<f64>,
    /// How late a thread of keepup's own came to this look.
    pub lag: Duration,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Of itself.
    Exited(Exit),
    /// It never began.
    SpawnFailed(SpawnFailure),
    /// It did not start within `start_timeout`; what it was waited for.
    NeverReady(String),
    /// A liveness probe failed; which, and how.
    Unhealthy(String),
    /// The heartbeat stopped.
    HeartbeatLost(String),
    /// It used more memory than it may; how much.
    OverMemory(String),
    /// It used more of the processor than it may, for longer than it may; how much.
    OverCpu(String),
    /// Somebody asked for it.
    Asked(Asker),
}

impl End {
    /// Its process was there, and did not do its work: there is something to be seen of it.
    pub fn is_hang(&self) -> bool {
        match self {
            End::NeverReady(_)
            | End::Unhealthy(_)
            | End::HeartbeatLost(_)
            // It may go round in circles.
            | End::OverCpu(_) => true,
            End::Exited(_) | End::SpawnFailed(_) | End::OverMemory(_) | End::Asked(_) => false,
        }
    }

    /// Every [`End::reason`] there is.
    pub const REASONS: [&str; 8] = [
        "exited",
        "spawn-failed",
        "never-ready",
        "unhealthy",
        "heartbeat-lost",
        "over-memory",
        "over-cpu",
        "asked",
    ];

    /// The word for it in the status, in events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            End::Exited(_) => "exited",
            End::SpawnFailed(_) => "spawn-failed",
            End::NeverReady(_) => "never-ready",
            End::Unhealthy(_) => "unhealthy",
            End::HeartbeatLost(_) => "heartbeat-lost",
            End::OverMemory(_) => "over-memory",
            End::OverCpu(_) => "over-cpu",
            End::Asked(_) => "asked",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(exit) => exit.fmt(f),
            End::SpawnFailed(failure) => f.write_str(&failure.reason),
            End::NeverReady(why) => write!(f, "never ready: {why}"),
            End::Unhealthy(why) => write!(f, "unhealthy: {why}"),
            End::HeartbeatLost(why) | End::OverMemory(why) | End::OverCpu(why) => f.write_str(why),
            End::Asked(asker) => asker.fmt(f),
        }
    }
}

/// Who asked for a run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// An operator, with this uid.
    Operator(u32),
    /// keepup itself, as it ends.
    Shutdown,
    /// The configuration, which wants another run of it.
    Reload,
    /// The configuration, which does not know the service any more.
    Removal,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Operator(uid) => write!(f, "asked by uid {uid}"),
            Asker::Shutdown => f.write_str("keepup is ending"),
            Asker::Reload => f.write_str("its configuration changed"),
            Asker::Removal => f.write_str("it is not in the configuration any more"),
        }
    }
}

/// What people should know about a service; [`Note::name`] is that of the event.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Something that it needs does not answer yet: what, and how.
    Waits { what: String },
    /// A start begins; runs are counted from 1. `by`: the operator who asked for it.
    Starting { run: u64, by: Option<u32> },
    /// Its process runs.
    Up { pid: Pid },
    /// Started, and all readiness probes pass.
    Ready { after: Duration },
    /// A probe missed. `of` is `None` while misses are not counted.
    Miss { role: Role, miss: Miss, count: u32, of: Option<u32> },
    /// Not as it should be, but not to be restarted for it.
    Degraded { why: String },
    /// As it should be, again or for the first time.
    Healthy,
    /// To be restarted, were it not that the host starves, and how: it gets the same time once more.
    Busy { why: String, host: String },
    /// To be restarted for it.
    Unhealthy { why: String },
    /// Sent its `hang_signal`, which is to make it say where it hangs; `stop_signal` follows.
    Hanging { end: End, signal: Signal, stop_signal: Signal, stop_after: Duration },
    /// Asked to stop.
    Stopping { end: End, signal: Signal, kill_after: Duration },
    /// Sent KILL, because it did not stop in time or must not be waited for.
    Killing { why: &'static str },
    /// Survived KILL: it hangs in the kernel. No second copy is started beside it.
    Stuck { pid: Pid },
    /// So does a hook.
    HookStuck { kind: HookKind },
    /// What tidies up after a run failed; which, and how. The end of the run stays what it was.
    HookFailed { why: String },
    /// A run is over. `exit` is that of its main process, if it had one.
    Ended { end: End, exit: Option<Exit>, uptime: Duration },
    /// Started again after this delay; the how manieth failure in a row it was.
    Backoff { delay: Duration, failures: u32 },
    /// Too many restarts, or an end that must not be followed by one. `retry`: an attempt follows.
    GaveUp { why: String, retry: Option<Duration> },
    /// Not running, as an operator wants it.
    Down,
    /// It did what it was meant to.
    Done,
    /// Its configuration changed; what is done about it, and the operator who asked for it.
    Reloaded { change: Change, by: Option<u32> },
}

impl Note {
    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Note::Waits { .. } => "waiting",
            Note::Starting { .. } => "starting",
            Note::Up { .. } => "up",
            Note::Ready { .. } => "ready",
            Note::Miss { .. } => "miss",
            Note::Degraded { .. } => "degraded",
            Note::Healthy => "healthy",
            Note::Busy { .. } => "busy",
            Note::Unhealthy { .. } => "unhealthy",
            Note::Hanging { .. } | Note::Stopping { .. } => "stopping",
            Note::Killing { .. } => "killing",
            Note::Stuck { .. } | Note::HookStuck { .. } => "stuck",
            Note::HookFailed { .. } => "hook-failed",
            Note::Ended { .. } => "ended",
            Note::Backoff { .. } => "backoff",
            Note::GaveUp { .. } => "gave-up",
            Note::Down => "down",
            Note::Done => "done",
            Note::Reloaded { .. } => "reloaded",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Waits { what } => write!(f, "waits for {what}"),
            Note::Starting { run, by: None } => write!(f, "starting run {run}"),
            Note::Starting { run, by: Some(uid) } => {
                write!(f, "starting run {run}, asked by uid {uid}")
            }
            Note::Up { pid } => write!(f, "up, pid {pid}"),
            Note::Ready { after } => write!(f, "ready after {}", Short(*after)),
            Note::Miss { role, miss, of: None, .. } => write!(f, "{role} not yet: {}", miss.text),
            Note::Miss { role, miss, count, of: Some(of) } => {
                write!(f, "{role} missed {count}/{of}: {}", miss.text)
            }
            Note::Degraded { why } => write!(f, "degraded: {why}"),
            Note::Healthy => f.write_str("healthy"),
            Note::Busy { why, host } => write!(
                f,
                "not restarted yet: {why}; but the host is starved ({host}), and it gets the same time \
                 once more"
            ),
            Note::Unhealthy { why } => write!(f, "unhealthy: {why}"),
            Note::Hanging { end, signal, stop_signal, stop_after } => write!(
                f,
                "stopping ({end}): sent {signal}, {stop_signal} follows in {}",
                Short(*stop_after)
            ),
            Note::Stopping { end, signal, kill_after } => {
                write!(f, "stopping ({end}): sent {signal}, KILL follows in {}", Short(*kill_after))
            }
            Note::Killing { why } => write!(f, "killing: {why}"),
            Note::Stuck { pid } => write!(
                f,
                "stuck: process {pid} or one of its group survives KILL; \
                 it hangs in the kernel (a dead disk or mount?), and no second copy is started"
            ),
            Note::HookStuck { kind } => write!(
                f,
                "stuck: {kind} survives KILL; it hangs in the kernel (a dead disk or mount?), and \
                 nothing is started beside it"
            ),
            Note::HookFailed { why } => f.write_str(why),
            Note::Ended { end, exit, uptime } => {
                write!(f, "ended after {}: {end}", Short(*uptime))?;
                match (end, exit) {
                    (End::Exited(_), _) | (_, None) => Ok(()),
                    (_, Some(exit)) => write!(f, " ({exit})"),
                }
            }
            Note::Backoff { delay, failures } => {
                write!(f, "restart in {} (failure {failures} in a row)", Short(*delay))
            }
            Note::GaveUp { why, retry: None } => write!(f, "given up: {why}"),
            Note::GaveUp { why, retry: Some(retry) } => {
                write!(f, "given up for now: {why}; next attempt in {}", Short(*retry))
            }
            Note::Down => f.write_str("down"),
            Note::Done => f.write_str("done"),
            Note::Reloaded { change, by: None } => write!(f, "reloaded: {change}"),
            Note::Reloaded { change, by: Some(uid) } => {
                write!(f, "reloaded: {change}, asked by uid {uid}")
            }
        }
    }
}

/// A duration for people: two units at most, `350ms`, `4.2s`, `1m 30s`, `2d 3h`.
#[derive(Clone, Copy, Debug)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = |f: &mut fmt::Formatter<'_>, big: u64, b: &str, small: u64, s: &str| {
            if small == 0 { write!(f, "{big}{b}") } else { write!(f, "{big}{b} {small}{s}") }
        };
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match seconds {
            0 if millis == 0 && !self.0.is_zero() => write!(f, "{}us", self.0.subsec_micros()),
            0 => write!(f, "{millis}ms"),
            1..60 if millis < 100 => write!(f, "{seconds}s"),
            1..60 => write!(f, "{seconds}.{}s", millis / 100),
            60..3600 => units(f, seconds / 60, "m", seconds % 60, "s"),
            3600..86400 => units(f, seconds / 3600, "h", seconds / 60 % 60, "m"),
            86400.. => units(f, seconds / 86400, "d", seconds / 3600 % 24, "h"),
        }
    }
}

/// Bytes for people: `350 KiB`, `1.2 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let Some((unit, bits)) = units.into_iter().find(|it| self.0 >> it.1 > 0) else {
            return write!(f, "{} B", self.0);
        };
        let (whole, rest) = (self.0 >> bits, self.0 & ((1 << bits) - 1));
        match (rest * 10) >> bits {
            0 => write!(f, "{whole} {unit}"),
            tenths => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}
