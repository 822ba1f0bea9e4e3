//! What still lives of an earlier keepup's runs, and the end of it: there must never be two copies
//! of a service.
//!
//! Must never touch a process that is not proven to be one of them: by its number and start time
//! within the same boot and pid namespace, or by the mark of that keepup in its environment.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::cgroup::ControlGroups;
use super::clock::now;
use super::group::{Group, pidfd};
use super::hunt::{Quarry, hunt};
use super::marker::Keepup;
use super::procfs::{self, Stat};
use super::state::Saved;
use super::tag::Tags;
use crate::core::event::{Pid, Time};
use crate::plan::Signal;

/// So often whoever forks is hunted.
const HUNTS_MAX: usize = 10;

/// A process that was found, and told to end.
struct Found {
    pid: Pid,
    service: String,
    /// Readable when it is dead.
    pidfd: OwnedFd,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was ended and what could not be, in whole sentences.
    pub texts: Vec<String>,
    /// Services of which something still lives: no second copy must be started beside it.
    pub alive: BTreeSet<String>,
}

/// Ends what is left: asked first, then killed. Waits until it is dead or `limit` has passed. For
/// the start, before the loop turns.
pub fn end(saved: &Saved, limit: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    if !saved.is_of_this_boot() {
        return outcome;
    }
    let deadline = now() + limit;
    let mut found = ask(saved, now() + limit / 2);
    for run in &saved.runs {
        match end_run(Pid(run.pid), run.start_time, &run.service) {
            Ok(run) => found.extend(run),
            Err(error) => outcome.refused(Pid(run.pid), &run.service, &error),
        }
    }
    outcome.texts.extend(end_control_groups(saved));
    // What has a mark may have forked meanwhile: until a look finds nobody new.
    loop {
        let marked = end_marked(saved, deadline, &found, &mut outcome);
        let nobody_new = marked.is_empty();
        found.extend(marked);
        await_deaths(&found, deadline);
        if nobody_new || deadline <= now() {
            break;
        }
    }
    for it in found {
        outcome.tell(it);
    }
    end_tagged(saved, deadline, &mut outcome);
    outcome
}

/// What is in the control groups that the earlier keepup made, if they can be seen from here.
fn end_control_groups(saved: &Saved) -> impl Iterator<Item = String> {
    let ended = ControlGroups::of(id(saved).name()).end();
    ended.into_iter().map(|service| {
        format!("ended the control group of service `{service}`, left by an earlier keepup")
    })
}

/// What forks faster than marks are read.
fn end_tagged(saved: &Saved, deadline: Time, outcome: &mut Outcome) {
    let tags = Tags::of(id(saved).number());
    let spared: HashSet<Pid> = self_and_above().into_iter().collect();
    let mut ended = 0;
    // The dead may not be reaped yet, and are found again; a fork loop is found with others.
    for _ in 0..HUNTS_MAX {
        match hunt(Quarry::Runs(&tags, &spared)) {
            Some(0) => break,
            Some(count) => ended = ended.max(count),
            None if deadline <= now() => break,
            None => {}
        }
    }
    if ended > 0 {
        let text = "ended processes that forked again and again, left by an earlier keepup";
        outcome.texts.push(format!("{text}: {ended}"));
    }
}

fn id(saved: &Saved) -> Keepup {
    Keepup::new(saved.pid_namespace, Pid(saved.keepup.pid), saved.keepup.start_time)
}

impl Outcome {
    fn tell(&mut self, it: Found) {
        let Found { pid, service, pidfd } = it;
        if is_dead(&pidfd) {
            let what = format!("process {pid} of service `{service}`");
            self.texts.push(format!("ended {what}, left by an earlier keepup"));
        } else {
            let why = "it survives KILL (it hangs in the kernel: a dead disk or mount?)";
            self.refused(pid, &service, &why);
        }
    }

    fn refused(&mut self, pid: Pid, service: &str, why: &dyn Display) {
        let what = format!("process {pid} of service `{service}`");
        let text = format!("cannot end {what}, left by an earlier keepup: {why}");
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
        self.alive.insert(service.to_owned());
    }
}

/// Asks every main process that still lives to end, and gives it until `deadline`: a database may
/// have something to write. Those that did.
fn ask(saved: &Saved, deadline: Time) -> Vec<Found> {
    let asked = saved.runs.iter().filter_map(|run| {
        let (pid, service) = (Pid(run.pid), run.service.clone());
        let pidfd = hold(pid, run.start_time)?;
        let group = Group::of(pid);
        group.send(Signal::TERM);
        group.send(Signal::CONT);
        Some(Found { pid, service, pidfd })
    });
    let mut asked: Vec<Found> = asked.collect();
    await_deaths(&asked, deadline);
    asked.retain(|it| is_dead(&it.pidfd));
    asked
}

/// The process that had this number and began then, if it still lives.
fn hold(pid: Pid, start_time: u64) -> Option<OwnedFd> {
    let is_it = |stat: Stat| stat.start_time == start_time && !stat.is_dead();
    if pid.0 <= 1 || !procfs::stat(pid).is_some_and(is_it) {
        return None;
    }
    let pidfd = pidfd(pid).ok()?;
    // The number may have changed hands before it was held.
    procfs::stat(pid).is_some_and(is_it).then_some(pidfd)
}

/// A main process that still lives, with its group.
fn end_run(pid: Pid, start_time: u64, service: &str) -> io::Result<Option<Found>> {
    let Some(pidfd) = hold(pid, start_time) else { return Ok(None) };
    let group = Group::of(pid);
    group.send(Signal::KILL);
    match group.send_to_held_leader(Signal::KILL) {
        Ok(()) => Ok(Some(Found { pid, service: service.to_owned(), pidfd })),
        Err(_) if is_dead(&pidfd) => Ok(Some(Found { pid, service: service.to_owned(), pidfd })),
        Err(error) => Err(error),
    }
}

/// What bears the earlier keepup's mark, wherever it strayed.
fn end_marked(saved: &Saved, deadline: Time, found: &[Found], outcome: &mut Outcome) -> Vec<Found> {
    let mut spared: HashSet<Pid> = found.iter().map(|it| it.pid).collect();
    spared.extend(self_and_above());
    let mut ended = Vec::new();
    let candidates = look_for_marks(id(saved), spared);
    while let Ok(candidate) = candidates.recv_timeout(deadline - now()) {
        let Found { pid, service, pidfd } = &candidate;
        match Group::held(*pid, pidfd).and_then(|it| it.send_to_held_leader(Signal::KILL)) {
            Ok(()) => ended.push(candidate),
            Err(_) if is_dead(pidfd) => {}
            Err(error) => outcome.refused(*pid, service, &error),
        }
    }
    ended
}

/// In a thread, since reading an environment may hang; those most likely to hang come last.
fn look_for_marks(keepup: Keepup, spared: HashSet<Pid>) -> Receiver<Found> {
    let (sender, candidates) = channel();
    let look = move || {
        let stats = procfs::all().filter(|it| !spared.contains(it));
        let alive = stats.filter_map(|pid| procfs::stat(pid).map(|stat| (pid, stat)));
        let mut alive: Vec<_> = alive.filter(|(_, stat)| !stat.is_dead()).collect();
        alive.sort_by_key(|(_, stat)| stat.state == b'D');
        for (pid, _) in alive {
            // Held before it is looked at, so that the mark is of the one that is held.
            let Ok(pidfd) = pidfd(pid) else { continue };
            let environ = procfs::environ(pid).unwrap_or_default();
            if let Some((service, _)) = keepup.find(&environ)
                && sender.send(Found { pid, service, pidfd }).is_err()
            {
                return;
            }
        }
    };
    // Without a thread nobody is found: the channel is closed.
    std::thread::Builder::new().name("leftover".to_owned()).spawn(look).ok();
    candidates
}

/// This process and its ancestors: keepup may be run by a service of its own.
fn self_and_above() -> Vec<Pid> {
    let mut line = vec![Pid(nix::unistd::getpid().as_raw())];
    while let Some(last) = line.last()
        && let Some(stat) = procfs::stat(*last)
        && stat.parent.0 > 0
        && !line.contains(&stat.parent)
    {
        line.push(stat.parent);
    }
    line
}

fn await_deaths(found: &[Found], deadline: Time) {
    for it in found {
        let left = PollTimeout::try_from(deadline - now()).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(it.pidfd.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait ends early; the outcome is looked at afterwards anyway.
        poll(&mut fds, left).ok();
    }
}

fn is_dead(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
