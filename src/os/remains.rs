//! What a dead main process left behind, and the end of it.
//!
//! First its group; then what strayed from it into sessions of its own and came to keepup as an
//! orphan. Must never touch another run's processes: where a mark is missing, only a run that is
//! alone can be meant.

use std::collections::HashSet;
use std::time::Duration;

use super::cgroup::ControlGroup;
use super::clock::now;
use super::group::{Group, Sent, kill};
use super::hunt::{Quarry, hunt};
use super::procfs;
use super::strays::{Asking, Strays, Whose};
use super::tag::{Tag, Tagged, Tags};
use crate::core::event::{Pid, Time};
use crate::plan::{Name, Signal};

/// A group that is not empty after this long is looked at more closely: a zombie in it may have a
/// parent that does not reap.
const CLOSER_LOOK_AFTER: Duration = Duration::from_millis(100);

/// Strays that are found alive for so often are many generations: a fork loop.
const HUNTED_AFTER: usize = 3;
/// Between two hunts, so that the loop has time for others.
const HUNT_PAUSE: Duration = Duration::from_millis(50);

/// What may be left of a run, or of a probe.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) pid: Pid,
    pub(super) service: Name,
    /// As it stands in the mark.
    pub(super) run: String,
    /// Of the main process, in clock ticks since boot.
    pub(super) start_time: u64,
    pub(super) kind: Kind,
    pub(super) manner: Manner,
    /// Since when they are being ended, or waited for; `None`: not asked to yet.
    pub(super) since: Option<Time>,
    /// `None`: found empty, and never to be touched again.
    pub(super) group: Option<Group>,
    pub(super) tag: Option<Tag>,
    /// As with `group`: the next run uses the same.
    pub(super) control: Option<ControlGroup>,
    /// How often strays of it were found alive.
    pub(super) looks: usize,
    /// When they were hunted the last time.
    pub(super) hunted: Option<Time>,
}

/// Of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end is to be told.
    Run,
    /// The end is to be told; they are ended at once.
    Hook,
    /// Nobody waits for the end.
    Probe,
}

/// How they come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// They are killed.
    Kill,
    /// They end of themselves; nothing is done to them.
    Await,
}

/// What all remains that are checked in one turn have in common.
pub(super) struct Surroundings<'a> {
    /// Children of keepup that nobody started; `None`: not looked for yet.
    strays: Option<Found>,
    tags: &'a Tags,
    is_known: &'a dyn Fn(Pid) -> bool,
    /// No other run lives or is being ended, so that what bears no mark can be of no other.
    alone: bool,
}

/// Children of keepup that nobody started.
#[derive(Debug, Default)]
struct Found {
    tagged: Vec<Stray>,
    /// Those that live, and of which something else must tell whose they are.
    untagged: HashSet<Pid>,
}

#[derive(Debug)]
struct Stray {
    pid: Pid,
    tag: Tag,
    lives: bool,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(
        is_known: &'a dyn Fn(Pid) -> bool,
        alone: bool,
        tags: &'a Tags,
    ) -> Surroundings<'a> {
        Surroundings { strays: None, tags, is_known, alone }
    }

    fn strays(&mut self) -> &Found {
        self.strays.get_or_insert_with(|| {
            let mut found = Found::default();
            for pid in procfs::children().into_iter().filter(|&it| !(self.is_known)(it)) {
                let lives = procfs::stat(pid).is_some_and(|it| !it.is_dead());
                match self.tags.read(pid) {
                    Tagged::Ours(tag) => found.tagged.push(Stray { pid, tag, lives }),
                    Tagged::Unknown if lives => _ = found.untagged.insert(pid),
                    Tagged::Unknown => {}
                }
            }
            found
        })
    }
}

impl Manner {
    fn signal(self) -> Signal {
        match self {
            Manner::Kill => Signal::KILL,
            Manner::Await => Signal::NONE,
        }
    }
}

impl Remains {
    /// Kills what is left, or merely looks; true when nothing is.
    pub(super) fn end(&mut self, around: &mut Surroundings<'_>, strays: &mut Strays) -> bool {
        // Both, always: they die side by side.
        let group_gone = self.end_group();
        let control_gone = self.end_control();
        let strays_gone = self.end_strays(around, strays);
        group_gone && control_gone && strays_gone
    }

    fn end_control(&mut self) -> bool {
        let Some(control) = &self.control else { return true };
        if !control.is_populated() {
            self.control = None;
            return true;
        }
        match self.manner {
            Manner::Kill => control.kill(),
            Manner::Await => {}
        }
        false
    }

    fn end_group(&mut self) -> bool {
        let Some(group) = &self.group else { return true };
        let gone = match group.send(self.manner.signal()) {
            Sent::Empty => true,
            Sent::Reached | Sent::Refused => {
                let waited = self.since.map_or(Duration::ZERO, |since| now() - since);
                waited >= CLOSER_LOOK_AFTER && only_dead_in(self.pid)
            }
        };
        if gone {
            self.group = None;
        }
        gone
    }

    fn end_strays(&mut self, around: &mut Surroundings<'_>, strays: &mut Strays) -> bool {
        let (known, asking) = strays.whose(&around.strays().untagged);
        let own = known.iter().filter(|it| self.owns(it.0, &it.1, around.alone));
        let mut alive: Vec<Pid> = own.map(|it| it.0).collect();
        let tagged = around.strays().tagged.iter().filter(|it| Some(it.tag) == self.tag);
        let (living, dead): (Vec<&Stray>, Vec<&Stray>) = tagged.partition(|it| it.lives);
        alive.extend(living.iter().map(|it| it.pid));
        if self.manner == Manner::Kill && !alive.is_empty() {
            alive.iter().copied().for_each(end_stray);
            self.hunt_if_they_fork();
        }
        // What a dead one left may have come after the children were listed.
        asking == Asking::Nobody && alive.is_empty() && dead.is_empty()
    }

    fn hunt_if_they_fork(&mut self) {
        self.looks += 1;
        let Some(tag) = self.tag else { return };
        let is_time = self.hunted.is_none_or(|it| it + HUNT_PAUSE <= now());
        if self.looks >= HUNTED_AFTER && is_time {
            hunt(Quarry::Run(tag));
            self.hunted = Some(now());
        }
    }

    fn owns(&self, pid: Pid, whose: &Whose, alone: bool) -> bool {
        match whose {
            Whose::Run { service, run } => *service == *self.service && *run == self.run,
            // keepup may have been started with children already; those are older.
            Whose::Unmarked => {
                alone
                    && self.kind != Kind::Probe
                    && procfs::stat(pid).is_some_and(|it| it.start_time >= self.start_time)
            }
        }
    }
}

/// Its own children come to keepup when it is dead, and are found then.
fn end_stray(pid: Pid) {
    // It is a child of ours that was not reaped, so the number is still its own.
    if procfs::stat(pid).is_some_and(|it| it.group == pid) {
        Group::of(pid).send(Signal::KILL);
    }
    kill(pid, Signal::KILL).ok();
}

/// Every process of this group is dead and merely not reaped.
fn only_dead_in(group: Pid) -> bool {
    procfs::all().filter_map(procfs::stat).all(|it| it.group != group || it.is_dead())
}
