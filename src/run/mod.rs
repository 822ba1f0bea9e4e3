//! The loop: next → step → perform; and what comes before it and after it.
//!
//! Before it, a failure ends keepup with an error. Once it turns, none does: a failure is an event.

mod held;
mod incidents;
mod init;
mod keeper;
mod operator;
pub mod shown;
mod sockets;
mod start;
mod systemd;
mod tidy;
mod world;

use std::time::Duration;

use tokio::sync::oneshot;

use crate::control::{Act, Outcome, Request, Wait};
use crate::core::event::{Effect, Event, Time};
use crate::core::{Service, Supervisor};
use crate::os::clock::now;
use crate::plan::{Level, Name, Signal};
use crate::status::{About, ServiceStatus, Status};
use keeper::Keeper;
use operator::Operators;
use world::{Turn, World};

pub use init::init;
pub use start::{Failed, run};

/// The same signal again within this time is the same one.
const ECHO_MAX: Duration = Duration::from_millis(10);

/// The loop, and what it turns.
#[derive(Debug)]
struct Loop {
    core: Supervisor,
    world: World,
    keeper: Keeper,
    operators: Operators,
    effects: Vec<Effect>,
    /// The last signal that asked keepup to end, and when it came.
    heard: Option<(Signal, Time)>,
}

impl Loop {
    /// Turns until the core says that keepup is to end, and with which code.
    async fn turn(&mut self) -> u8 {
        let mut turn = Turn::Event(Event::Tick);
        loop {
            let code = match turn {
                Turn::Event(event) => self.take_in(event),
                Turn::Signal(signal) => self.heed(signal),
                Turn::Request(request) => self.serve(request),
            };
            if let Some(code) = code {
                if let Some(systemd) = &mut self.world.systemd {
                    systemd.turn(&self.core, now());
                }
                return code;
            }
            turn = self.world.next(&self.core).await;
        }
    }

    /// Has the core take in an event, and does what it says. The code to end with, if it says so.
    fn take_in(&mut self, event: Event) -> Option<u8> {
        self.core.step(now(), event, &mut self.effects);
        let mut code = None;
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            if let Effect::Exit { code: last } = effect {
                code = Some(last);
            } else if effect == Effect::Save {
                self.keeper.save(&self.core, &self.world.processes, now());
            } else {
                self.world.perform(&self.core, effect);
            }
        }
        self.effects = effects;
        self.operators.answer(&self.core);
        code
    }

    fn heed(&mut self, signal: Signal) -> Option<u8> {
        if signal_ends(signal, self.keeper.has_terminal()) && self.is_echo(signal) {
            return None;
        }
        let journal = &self.world.journal;
        match signal {
            Signal::HUP if !signal_ends(signal, self.keeper.has_terminal()) => {
                let text = "cannot reload yet: restart keepup to apply a changed file, ignoring";
                journal.say(Level::Warn, text);
                // Whoever waits for the end of it must not wait for ever.
                if let Some(systemd) = &mut self.world.systemd {
                    systemd.reloading(now());
                    systemd.reloaded();
                }
                None
            }
            Signal::USR1 => {
                self.world.logs.reopen();
                None
            }
            Signal::USR2 => {
                journal.say(Level::Warn, "cannot upgrade in place yet, ignoring");
                None
            }
            signal => {
                let what = if self.core.is_leaving() { "killing what is left" } else { "ending" };
                journal.say(Level::Info, &format!("received {signal}: {what}"));
                self.take_in(Event::Shutdown)
            }
        }
    }

    /// `timeout` and process groups deliver one signal twice: that is no second word.
    fn is_echo(&mut self, signal: Signal) -> bool {
        let now = now();
        let last = self.heard.replace((signal, now));
        last.is_some_and(|(before, at)| before == signal && now < at + ECHO_MAX)
    }

    fn serve(&mut self, request: Request) -> Option<u8> {
        match request {
            Request::Status(reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.status());
                None
            }
            Request::Turn(reply) => {
                let _ = reply.send(());
                None
            }
            Request::Signal { name, signal, by, reply } => {
                if let Some(service) = self.core.service(&name) {
                    // Whoever asked may be gone.
                    let _ = reply.send(self.world.pass_on(service, signal, by));
                }
                None
            }
            Request::Act { name, act, by, wait, reply } => self.act(name, act, by, wait, reply),
        }
    }

    fn act(
        &mut self,
        name: Name,
        act: Act,
        by: u32,
        wait: Wait,
        reply: oneshot::Sender<Outcome>,
    ) -> Option<u8> {
        let goal = Operators::goal(act, self.core.service(&name)?);
        let event = match act {
            Act::Start => Event::Start { name: name.clone(), by },
            Act::Stop => Event::Stop { name: name.clone(), by },
            Act::Restart => Event::Restart { name: name.clone(), by },
        };
        match wait {
            Wait::Outcome => self.operators.wait(name, goal, reply),
            Wait::Nothing => {
                let service = self.core.service(&name)?;
                let _ = reply.send(operator::under_way(act, service));
            }
        }
        let code = self.take_in(event);
        self.keeper.hurry();
        code
    }

    fn status(&self) -> Status {
        let now = now();
        let look = |it: &Service| {
            let mut status = ServiceStatus::of(&self.core, it, now);
            if let Some(end) = &mut status.last_end {
                end.incident = self.world.incidents.of_last_end(it.name());
            }
            status
        };
        let services = self.core.services().iter().map(look).collect();
        let about = About { uptime: now - self.keeper.since(), plan: self.core.plan() };
        let mut status = Status::of(&about, services);
        status.supervisor.level = status.supervisor.level.max(self.world.host.now());
        status
    }
}

/// Does keepup take this signal for a request to end?
fn signal_ends(signal: Signal, has_terminal: bool) -> bool {
    match signal {
        Signal::HUP => has_terminal,
        Signal::USR1 | Signal::USR2 => false,
        _ => true,
    }
}
