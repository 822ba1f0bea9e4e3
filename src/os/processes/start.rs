//! Starts: of services, of their hooks, and of the commands that probe them.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Child, Happening, Output, Processes, Role};
use crate::core::event::{Event, Pid, SpawnFailure, Ticket};
use crate::os::capture::Capture;
use crate::os::cgroup::ControlGroup;
use crate::os::clock::now;
use crate::os::group::Group;
use crate::os::launch::Launch;
use crate::os::procfs;
use crate::os::sockets::Handed;
use crate::os::starting::Starting;
use crate::plan::{Name, Resource, Service, Signal};

/// So long a start that nobody wants any more may take: a program that runs by then is asked to end.
const START_PATIENCE: Duration = Duration::from_secs(1);

impl Processes {
    /// Starts a service's command; `next` tells Spawned or `SpawnFailed`.
    pub fn spawn(&mut self, service: &Service, run: u64, output: Output) {
        self.spawn_with(service, run, output, Vec::new());
    }

    /// The same for a service that is given sockets.
    pub fn spawn_with(&mut self, service: &Service, run: u64, output: Output, sockets: Handed) {
        let in_use = |name: &Name| self.table.values().any(|it| it.service == *name);
        let control = self.controls.get(&service.name, in_use);
        let (command, mark) = (&service.command, run.to_string());
        let started = self.start(service, command, &mark, control, &output, sockets);
        // The service alone has its ends now: the pipes end when it does.
        drop(output);
        match started {
            Ok((pid, child)) => {
                self.table.insert(pid, Child { role: Role::Run(run), ..child });
            }
            Err(reason) => {
                let (name, failure) = (service.name.clone(), SpawnFailure::other(reason));
                self.outbox.push_back(Happening::Core(Event::SpawnFailed { name, failure }));
            }
        }
    }

    /// A start that nobody wants any more: if it hangs, since its program lies on a mount that does
    /// not answer, it is killed. `next` tells Spawned and Exited then.
    pub fn give_up_start(&mut self, service: &Name) {
        let hangs = |it: &&mut Child| {
            it.service == *service && matches!(it.role, Role::Run(_)) && it.starting.is_some()
        };
        for child in self.table.values_mut().filter(hangs) {
            child.given_up.get_or_insert_with(|| Box::pin(tokio::time::sleep(START_PATIENCE)));
        }
    }

    /// Starts a hook of a service, as its user and in its folder; `next` tells `HookEnded` when
    /// nothing of it is left.
    pub fn spawn_hook(
        &mut self,
        ticket: Ticket,
        service: &Service,
        command: &[String],
        output: Output,
    ) {
        let started = self.start(service, command, &hook_mark(ticket), None, &output, Vec::new());
        drop(output);
        match started {
            Ok((pid, child)) => {
                self.table.insert(pid, Child { role: Role::Hook(ticket), ..child });
            }
            Err(reason) => {
                let (name, failure) = (service.name.clone(), SpawnFailure::other(reason));
                self.tell_hook(name, ticket, Err(failure));
            }
        }
    }

    /// Starts a command beside a service, as its user and in its folder; `next` tells its end.
    pub fn spawn_probe(&mut self, ticket: Ticket, service: &Service, command: &[String]) {
        let run = probe_mark(ticket);
        let started = Capture::new().and_then(|(capture, output)| {
            let (pid, child) = self.start(service, command, &run, None, &output, Vec::new())?;
            let role = Role::Probe { ticket, capture: Some(capture) };
            Ok((pid, Child { role, ..child }))
        });
        match started {
            Ok((pid, child)) => _ = self.table.insert(pid, child),
            Err(reason) => {
                let output = Vec::new();
                self.outbox.push_back(Happening::ProbeEnded { ticket, exit: Err(reason), output });
            }
        }
    }

    fn start(
        &mut self,
        service: &Service,
        command: &[String],
        run: &str,
        control: Option<ControlGroup>,
        output: &Output,
        sockets: Handed,
    ) -> Result<(Pid, Child), String> {
        self.oom_kills.look(now());
        let tag = self.tags.give();
        let mut launch = Launch::prepare(service, command, (&self.keepup, run), tag)?;
        launch.hand_over(sockets)?;
        launch.group.clone_from(&control);
        if let Some(inherited) = self.files
            && !service.limits.contains_key(&Resource::Nofile)
        {
            launch.limits.push((Resource::Nofile, inherited));
        }
        let (files, launch) = (launch.files, Arc::new(launch));
        let (pid, told) = launch.start(&mut self.spawner, self.dev_null.as_fd(), output)?;
        let group = Group::of(pid);
        let start_time = procfs::stat(pid).map_or(0, |it| it.start_time);
        match Starting::new(launch, told) {
            // The caller knows what it is for.
            Ok(starting) => {
                let (service, role, alone) = (service.name.clone(), Role::Run(0), false);
                Ok((
                    pid,
                    Child {
                        service,
                        start_time,
                        group,
                        tag,
                        control,
                        role,
                        alone,
                        killed: false,
                        files,
                        starting: Some(starting),
                        given_up: None,
                    },
                ))
            }
            Err(reason) => {
                group.send_to_leader(Signal::KILL);
                Err(reason)
            }
        }
    }

    pub(super) fn poll_starting(&mut self, cx: &mut Context<'_>) {
        let mut settled = Vec::new();
        for (&pid, child) in &mut self.table {
            if let Some(starting) = &mut child.starting
                && let Poll::Ready(outcome) = starting.poll(cx)
            {
                settled.push((pid, outcome));
            } else if let Some(given_up) = &mut child.given_up
                && given_up.as_mut().poll(cx).is_ready()
            {
                (child.given_up, child.killed) = (None, true);
                child.group.send_to_leader(Signal::KILL);
            }
        }
        for (pid, outcome) in settled {
            self.settle(pid, outcome);
        }
    }

    /// It is known whether the program runs.
    pub(super) fn settle(&mut self, pid: Pid, outcome: Result<(), SpawnFailure>) {
        let Some(child) = self.table.get_mut(&pid) else { return };
        (child.starting, child.given_up) = (None, None);
        let name = child.service.clone();
        match (outcome, &child.role) {
            (Ok(()), Role::Run(_)) => {
                self.outbox.push_back(Happening::Core(Event::Spawned { name, pid }));
            }
            (Ok(()), Role::Hook(_) | Role::Probe { .. }) => {}
            (Err(failure), &Role::Hook(ticket)) => {
                self.tell_hook(name, ticket, Err(failure));
                self.table.remove(&pid);
            }
            (Err(failure), Role::Run(_)) => {
                self.outbox.push_back(Happening::Core(Event::SpawnFailed { name, failure }));
                // What is left of it is about to die, and is nobody's.
                self.table.remove(&pid);
            }
            (Err(failure), Role::Probe { ticket, capture }) => {
                if capture.is_some() {
                    let (ticket, output) = (*ticket, Vec::new());
                    let exit = Err(failure.reason);
                    self.outbox.push_back(Happening::ProbeEnded { ticket, exit, output });
                }
                self.table.remove(&pid);
            }
        }
    }
}

pub(super) fn probe_mark(ticket: Ticket) -> String {
    format!("probe-{}", ticket.0)
}

pub(super) fn hook_mark(ticket: Ticket) -> String {
    format!("hook-{}", ticket.0)
}
