//! The one command of a plain init, which runs as if it had been started in keepup's place.
//!
//! Must never do anything to it of its own accord while it runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::ending;
use super::failure::Report;
use super::group::{self, Group, Sent};
use super::inbox::Inbox;
use super::init::{self, Place};
use super::launch::{Launch, Output, Session, Stream};
use super::procfs;
use super::spawner::Spawner;
use super::terminal::Terminal;
use super::wait::{self, Peek};
use crate::core::event::{Exit, Pid, SpawnFailure};
use crate::plan::Signal;

/// The command.
#[derive(Debug)]
pub struct Sole {
    pid: Pid,
    group: Group,
    launch: Arc<Launch>,
    /// Holds a report if its program could not be run.
    told: File,
    place: Place,
    terminal: Terminal,
}

impl Sole {
    /// Starts it, with the streams, the environment and the folder of keepup. Orphans come to this
    /// process from now on. Needs an [`Inbox`], so that no death is missed.
    pub fn start(command: &[String]) -> Result<Sole, SpawnFailure> {
        let place = init::adopt_orphans().map_err(|error| {
            SpawnFailure::other(format!("cannot watch over processes: {error}"))
        })?;
        let terminal = Terminal::of_keepup();
        let launch = Launch::as_keepup(command, terminal.session()).map_err(SpawnFailure::other)?;
        let output = Output { stdout: Stream::Inherit, stderr: Stream::Inherit };
        let launch = Arc::new(launch);
        let started = launch.start(&mut Spawner::default(), io::stdin().as_fd(), &output);
        let (pid, told) = started.map_err(SpawnFailure::other)?;
        Ok(Sole { pid, group: Group::of(pid), launch, told: told.into(), place, terminal })
    }

    /// Sends it and its group a signal.
    pub fn send(&self, signal: Signal) {
        if signal == Signal::CONT {
            self.terminal.give(self.pid);
        }
        let signal = if self.would_be_lost(signal) { Signal::STOP } else { signal };
        if let Sent::Empty = self.group.send(signal) {
            // It has not made its group yet.
            self.group.send_to_leader(signal);
        }
    }

    /// In a session of its own, where no shell could continue it, the kernel stops nobody with
    /// these. Source: setpgid(2) and POSIX.1-2024 on orphaned process groups.
    fn would_be_lost(&self, signal: Signal) -> bool {
        self.launch.session == Session::Own
            && [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal)
            && procfs::has_default(self.pid, signal)
    }

    /// Lets go of everything that is dead. How the command ended, if it did; nothing may be sent to
    /// it from then on, and `finish` ends what it left behind.
    pub fn reap(&self) -> Option<Exit> {
        while let Peek::Dead { pid, exit } = wait::reap_next() {
            if pid == self.pid {
                return Some(exit);
            }
        }
        None
    }

    /// Where a terminal's user has stopped the command, stops keepup, too, so that the shell knows.
    /// Returns when keepup is continued. (PID 1 cannot be stopped, and has no shell.)
    pub fn follow_stop(&self) {
        if self.terminal != Terminal::None && wait::has_stopped(self.pid) {
            // keepup itself is always there to be signalled.
            let _ = group::kill(Pid(nix::unistd::getpid().as_raw()), Signal::STOP);
        }
    }

    /// After the command's end: kills what it left behind, until nobody is there or `limit` has
    /// passed. Fails if the command could not be run at all.
    pub fn finish(mut self, inbox: &Inbox, limit: Duration) -> Result<(), SpawnFailure> {
        self.terminal.take_back(self.pid);
        ending::end_all_blocking(self.place, inbox, limit);
        let mut bytes = [0; 512];
        let length = self.told.read(&mut bytes).unwrap_or(0);
        match bytes.get(..length).and_then(Report::read) {
            Some(report) => Err(report.failure(&self.launch)),
            None => Ok(()),
        }
    }
}
