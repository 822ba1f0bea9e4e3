//! What comes before the loop and after it: the only part of a run that may fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use tokio::sync::mpsc;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use super::Loop;
use super::incidents::Incidents;
use super::keeper::Keeper;
use super::operator::Operators;
use super::roster::Roster;
use super::shown;
use super::systemd::Systemd;
use super::world::World;
use crate::control::protocol::{LogQuery, REQUESTS_MAX, socket_path};
use crate::control::{self, Control, LockError, Request, Socket, SocketError, Sources};
use crate::core::Supervisor;
use crate::core::event::SpawnFailure;
use crate::logs::{self, Console, Logs, Trouble};
use crate::os::clock::now;
use crate::os::ears::Ears;
use crate::os::signal::{MEANT_FOR_KEEPUP, Signals};
use crate::os::sockets::Passed;
use crate::os::{self, Processes};
use crate::plan::{self, Level, Plan};
use crate::report::incident::{Shelf, Told};
use crate::report::{self, HostLevel, Journal, LogCount, Metrics, Options, Sampler};
use crate::status::{LogStatus, Stamp};

/// keepup's own log is rotated at this size; so many are kept beside it.
const OWN_LOG: (u64, u32) = (10_000_000, 3);

/// How long the last writes may take at the end, each.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How long what nobody knew of may take to die at the end.
const LAST_KILL: Duration = Duration::from_millis(500);

/// How long clients may take for what they are told last.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why keepup cannot run.
#[derive(Debug)]
pub enum Failed {
    /// Another keepup runs with the same state folder.
    Lock(LockError),
    /// Another keepup answers at the same control socket.
    Socket(SocketError),
    /// The command of a plain init could not be run.
    Start(SpawnFailure),
    /// The system lacks something that keepup cannot do without.
    System(&'static str, io::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Lock(error) => error.fmt(f),
            Failed::Socket(error) => error.fmt(f),
            Failed::Start(failure) => f.write_str(&failure.reason),
            Failed::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl error::Error for Failed {}

/// Runs the plan until nothing is left to run, or keepup is asked to end. The exit code, or why
/// it could not begin. `warnings` are those of the file.
pub fn run(plan: Plan, warnings: &[String]) -> Result<u8, Failed> {
    let builder = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build();
    let runtime = builder.map_err(|it| Failed::System("start its loop", it))?;
    let code = runtime.block_on(run_in(plan, warnings));
    // A thread that hangs on a dead disk is left behind.
    runtime.shutdown_background();
    code
}

async fn run_in(plan: Plan, warnings: &[String]) -> Result<u8, Failed> {
    let since = now();
    let passed = Passed::take();
    // Heard from the first moment on: a TERM while keepup starts ends it as soon as it has.
    let signals = Signals::new(&MEANT_FOR_KEEPUP);
    let signals = signals.map_err(|it| Failed::System("take in signals", it))?;
    let processes = Processes::new();
    let processes = processes.map_err(|it| Failed::System("watch over processes", it))?;
    let mut trouble = warnings.to_vec();

    let lock = match control::lock(&plan.supervisor.state_dir) {
        Ok(lock) => Some(lock),
        Err(error @ LockError::Held { .. }) => return Err(Failed::Lock(error)),
        Err(error @ LockError::Unusable { .. }) => {
            trouble.push(format!("{error}; nothing is remembered after keepup ends, ignoring"));
            None
        }
    };
    let socket = bind(&plan.supervisor, &mut trouble)?;
    let (own_log, _own_log_guard) = own_log(&plan.supervisor, &mut trouble).unzip();
    let widest = plan.services.iter().map(|it| it.name.chars().count()).max();
    let log = report::init(Options {
        level: plan.supervisor.log_level,
        format: plan.supervisor.log_format,
        name_width: widest.unwrap_or(0),
        file: own_log,
    });
    let journal = match lock.as_ref().map(|_| Journal::open(&plan.supervisor.state_dir)) {
        Some(Ok(journal)) => journal,
        Some(Err(_)) | None => Journal::in_memory(),
    };
    for text in &trouble {
        journal.say(Level::Warn, text);
    }
    say_hello(&journal, &plan);

    let (keeper, past) = match &lock {
        Some(_) => Keeper::open(&plan.supervisor, since, &journal),
        None => (Keeper::forgetful(since), BTreeMap::new()),
    };
    let logs = Arc::new(open_logs(&plan, &journal));
    let metrics = Metrics::new().map_err(|it| Failed::System("count", io::Error::other(it)))?;
    let metrics = Arc::new(metrics);
    let roster = Roster::of(&plan.services);
    let (control, requests) = serve(&plan, socket, (&journal, &metrics, &logs), &roster);
    let ears = Ears::new(&plan.supervisor.runtime_dir);
    let world = World::new(
        (processes, passed),
        signals,
        logs,
        (journal, metrics),
        ears,
        (requests, plan.supervisor.config.clone()),
    );
    let mut world = world.map_err(|it| Failed::System("start its clock", it))?;
    let core = Supervisor::new(plan, seed(), &past);
    if lock.is_some() {
        world.incidents = open_incidents(core.plan(), &world.logs, &world.journal);
    }
    let (limits, disk) = (core.plan().host, core.plan().log_dir.clone());
    world.host = HostLevel::watch(limits, disk, world.journal.clone());
    world.systemd = Systemd::from_environment(&core, &world.journal, now());
    let (operators, effects) = (Operators::default(), Vec::new());
    let log = log.ok();
    let mut whole = Loop { core, world, keeper, operators, roster, log, effects, heard: None };
    let status = whole.turn().await;
    finish(whole, &control, status).await;
    Ok(status)
}

fn say_hello(journal: &Journal, plan: &Plan) {
    let version = env!("CARGO_PKG_VERSION");
    let count = plan.services.len();
    let services = if count == 1 { "1 service".to_owned() } else { format!("{count} services") };
    let from = plan.supervisor.config.as_ref().map(|it| format!(" of {}", it.display()));
    let text = format!(
        "keepup {version}, pid {}: {services}{}; logs in {}",
        std::process::id(),
        from.unwrap_or_default(),
        plan.supervisor.log_dir.display()
    );
    journal.say(Level::Info, &text);
}

fn bind(plan: &plan::Supervisor, trouble: &mut Vec<String>) -> Result<Option<Socket>, Failed> {
    let path = socket_path(&plan.runtime_dir);
    match Socket::bind(&path, plan.control_group.as_deref()) {
        Ok(socket) => Ok(Some(socket)),
        Err(error @ SocketError::Taken { .. }) => Err(Failed::Socket(error)),
        Err(error) => {
            trouble.push(format!("{error}; keepup status and its like will not work, ignoring"));
            Ok(None)
        }
    }
}

fn own_log(
    plan: &plan::Supervisor,
    trouble: &mut Vec<String>,
) -> Option<(NonBlocking, WorkerGuard)> {
    let (size, keep) = OWN_LOG;
    let opened = logs::own::layer_writer(&plan.log_dir.join("keepup.log"), size, keep);
    opened.map_err(|error| trouble.push(format!("{error}; it goes to stderr alone, ignoring"))).ok()
}

fn open_logs(plan: &Plan, journal: &Journal) -> Logs {
    let wants_console = plan.services.iter().any(|it| it.logs.console);
    // A service may want it later.
    let console = Console::stdout().unwrap_or_else(|error| {
        let level = if wants_console { Level::Warn } else { Level::Debug };
        journal.say(level, &format!("cannot write to stdout: {error}, ignoring"));
        Console::none()
    });
    let tell = journal.clone();
    let tell = move |trouble: Trouble| {
        if trouble.over && trouble.lines_lost > 0 {
            tell.lost_lines(&trouble.service, trouble.lines_lost, &trouble.text);
        } else {
            tell.say_of(Level::Warn, &trouble.service, &trouble.text);
        }
    };
    let logs = Logs::start(console, Arc::new(tell));
    for service in &plan.services {
        if let Err(text) = logs.add(&service.name, &service.logs, os::owner(service)) {
            journal.say_of(Level::Error, &service.name, &text);
        }
    }
    logs
}

fn open_incidents(plan: &plan::Supervisor, logs: &Arc<Logs>, journal: &Journal) -> Incidents {
    let tell = journal.clone();
    let tell = move |told| match told {
        Told::Trouble(text) => tell.say(Level::Warn, &text),
        Told::LastLine { service, line, port_holder } => {
            tell.last_line(&plan::Name::from(service), &line, port_holder.as_deref());
        }
    };
    let keep = usize::try_from(plan.incidents_keep).unwrap_or(usize::MAX);
    let shelf = (keep > 0).then(|| Shelf::open(&plan.state_dir, keep, tell));
    let shelf = shelf.transpose().unwrap_or_else(|error| {
        journal.say(Level::Warn, &format!("cannot keep incidents: {error}, ignoring"));
        None
    });
    Incidents::new(shelf, Arc::clone(logs))
}

/// Starts to serve whoever asks; what they ask arrives at the end that is returned.
fn serve(
    plan: &Plan,
    socket: Option<Socket>,
    (journal, metrics, logs): (&Journal, &Arc<Metrics>, &Arc<Logs>),
    roster: &Roster,
) -> (Control, mpsc::Receiver<Request>) {
    let (ask, requests) = mpsc::channel(REQUESTS_MAX);
    let counted = Arc::clone(logs);
    let count = move |service: &plan::Name| {
        let stats = counted.stats(service);
        let (bytes, lines_lost) = (stats.bytes, stats.lines_lost);
        let (problem, since) = stats.problem.unzip();
        let since = since.map(|ago| Stamp::now().before(ago));
        let log = LogStatus { bytes, lines_lost, problem, since };
        LogCount { service: service.clone(), log, error_lines: stats.error_lines }
    };
    let shown = (Arc::clone(logs), roster.clone());
    let open_log = move |query: &LogQuery| shown::open(Some(&*shown.0), &shown.1.services(), query);
    let all = roster.clone();
    let counts = move || all.services().iter().map(|it| count(&it.name)).collect();
    let control = Control::new(Sources {
        requests: ask,
        journal: journal.clone(),
        metrics: Arc::clone(metrics),
        usage: Sampler::new(plan.supervisor.log_dir.clone()),
        open_log: Some(Box::new(open_log)),
        incidents: Some(plan.supervisor.state_dir.clone()),
        log_counts: Some(Box::new(counts)),
    });
    if let Some(socket) = socket {
        let (control, journal) = (control.clone(), journal.clone());
        tokio::spawn(async move {
            if let Err(error) = control.serve_socket(socket).await {
                journal.say(Level::Warn, &format!("cannot serve the control socket: {error}"));
            }
        });
    }
    if let Some(address) = plan.supervisor.listen {
        tokio::spawn(control.clone().serve_tcp(address));
    }
    (control, requests)
}

/// Chance for the jitter; two keepups that start together should not restart in step.
fn seed() -> u64 {
    let (pid, now) = (u64::from(std::process::id()), now().0);
    pid << 32 ^ u64::from(now.subsec_nanos()) ^ now.as_secs()
}

async fn finish(whole: Loop, control: &Control, code: u8) {
    let Loop { mut world, keeper, core, operators, .. } = whole;
    let left = world.end(LAST_KILL).await;
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
        let text = format!("processes that survive KILL are left behind: {}", pids.join(", "));
        world.journal.say(Level::Error, &text);
    }
    world.journal.say(Level::Info, &format!("ended with exit code {code}"));
    let World { processes, logs, journal, requests, incidents, .. } = world;
    // Those who still wait for something are told that keepup is ending.
    drop((operators, requests));
    journal.dismiss();
    control.close(FAREWELL).await;
    keeper.close(&core, &processes, LAST_WAIT);
    incidents.close(LAST_WAIT);
    // What a hung disk does not take in time is lost with us; systemd would not wait either.
    logs.finish(LAST_WAIT);
    journal.close(LAST_WAIT);
}
