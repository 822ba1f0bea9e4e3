//! The loop: next → step → perform; and what comes before it and after it.
//!
//! Before it, a failure ends keepup with an error. Once it turns, none does: a failure is an event.

mod held;
mod incidents;
mod init;
mod keeper;
mod operator;
mod reload;
mod roster;
pub mod shown;
mod sockets;
mod start;
mod systemd;
mod tidy;
mod world;

use std::time::Duration;

use tokio::sync::oneshot;

use crate::control::protocol::NotReloaded;
use crate::control::{Act, Outcome, Request, Wait};
use crate::core::event::{Effect, Event, Time};
use crate::core::reload::{Change, Reload, What};
use crate::core::{Service, Supervisor};
use crate::os::clock::now;
use crate::plan::{Level, Name, Signal};
use crate::report;
use crate::status::{About, ServiceStatus, Status};
use keeper::Keeper;
use operator::Operators;
use reload::{Asker, Fresh, Read};
use roster::Roster;
use world::{Turn, World};

pub use init::init;
pub use start::{Failed, run};

/// Why nothing is read any more.
const ENDING: &str = "cannot reload: keepup is ending";

/// The same signal again within this time is the same one.
const ECHO_MAX: Duration = Duration::from_millis(10);

/// The loop, and what it turns.
#[derive(Debug)]
struct Loop {
    core: Supervisor,
    world: World,
    keeper: Keeper,
    operators: Operators,
    roster: Roster,
    /// keepup's own log.
    log: Option<report::Guard>,
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
                Turn::Reload(read) => self.reload(*read),
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
        if std::mem::take(&mut self.world.reshaped) {
            self.roster.follow(&self.core);
        }
        let leaving = self.core.is_leaving();
        for service in self.core.services().iter().filter(|it| it.is_unwanted_start(leaving)) {
            self.world.processes.give_up_start(service.name());
        }
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
                self.ask_for_reload(Asker { by: None, dry_run: false, reply: None });
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
            Request::Reload { dry_run, by, reply } => {
                self.ask_for_reload(Asker { by: Some(by), dry_run, reply: Some(reply) });
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

    fn ask_for_reload(&mut self, asker: Asker) {
        if self.core.is_leaving() {
            return asker.answer(Err(NotReloaded::refused(ENDING)));
        }
        if let Err(why) = self.world.reloads.ask(asker) {
            self.world.journal.say(Level::Warn, &format!("{why}, ignoring"));
        }
        self.begin_reload();
    }

    fn begin_reload(&mut self) {
        if self.world.reloads.begin()
            && let Some(systemd) = &mut self.world.systemd
        {
            systemd.reloading(now());
        }
    }

    /// The file was read anew, or could not be.
    fn reload(&mut self, read: Read) -> Option<u8> {
        let dry_run = read.is_dry_run();
        let code = match read.result {
            _ if self.core.is_leaving() => {
                let ending = || Err(NotReloaded::refused(ENDING));
                read.askers.into_iter().for_each(|it| it.answer(ending()));
                None
            }
            Ok(fresh) => self.apply(&fresh, read.askers),
            Err(unread) => {
                let file = self.world.reloads.file();
                if !dry_run {
                    self.complain(&unread, &file);
                }
                let answer = unread.answer(&file);
                read.askers.into_iter().for_each(|it| it.answer(Err(answer.clone())));
                None
            }
        };
        if !dry_run && let Some(systemd) = &mut self.world.systemd {
            systemd.reloaded();
        }
        self.begin_reload();
        code
    }

    fn complain(&self, unread: &reload::Unread, file: &str) {
        let journal = &self.world.journal;
        if let reload::Unread::Problems(list) = unread {
            for problem in list {
                journal.say(Level::Error, &reload::in_a_line(problem));
            }
        }
        journal.say(Level::Error, &format!("cannot reload: {}", unread.summary(file)));
    }

    /// Applies what was read, if that is wanted; and says what is done, or would be.
    fn apply(&mut self, fresh: &Fresh, askers: Vec<Asker>) -> Option<u8> {
        let mut warnings: Vec<String> = fresh.warnings.iter().map(reload::in_a_line).collect();
        let processes = &self.world.processes;
        let touched = fresh.touched(
            |name| processes.variables(name),
            |name, why| warnings.push(format!("{why}; {name} keeps what it has")),
        );
        let mut plan = fresh.plan.clone();
        let (supervisor, later) = reload::merged(self.core.plan(), &plan.supervisor);
        plan.supervisor = supervisor;
        warnings.extend(later.iter().map(|key| {
            format!("`{key}` of [supervisor] is another now: restart keepup to apply that")
        }));
        let changes = self.core.outlook(&plan, &touched);
        let mut serious = askers.iter().filter(|it| !it.dry_run).peekable();
        let dry_run = serious.peek().is_none();
        let by = serious.find_map(|it| it.by);
        for asker in askers {
            let dry_run = asker.dry_run;
            asker.answer(Ok(reload::answer(&changes, &warnings, dry_run)));
        }
        if dry_run {
            return None;
        }
        self.say_reload(&changes, &warnings);
        if let Some(log) = &self.log {
            log.set_level(plan.supervisor.log_level);
        }
        let refreshed = changes.iter().filter(|it| matches!(it.what, What::Refreshed(_)));
        for name in refreshed.map(|it| &it.name) {
            if let Some(now) = fresh.variables(name) {
                self.world.processes.renew_variables(name, now);
            }
        }
        self.take_in(Event::Reload(Box::new(Reload { plan, touched, by })))
    }

    fn say_reload(&self, changes: &[Change], warnings: &[String]) {
        let journal = &self.world.journal;
        for warning in warnings {
            journal.say(Level::Warn, warning);
        }
        let file = self.world.reloads.file();
        journal.say(Level::Info, &format!("reloaded {file}: {}", reload::summary(changes)));
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
