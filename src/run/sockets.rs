//! The held sockets of all services, as the loop sees them: bound and taken away beside it, for a
//! disk may hang, and the one who has a port must be searched for.
//!
//! One work of a service at a time; what is wanted meanwhile is done after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::net::client::aside::aside;
use crate::os::sockets::{self, Bound, File, Handed, Passed};
use crate::plan::{Name, Service, Socket};

/// All of them.
#[derive(Debug)]
pub(super) struct Sockets {
    services: HashMap<Name, Held>,
    passed: Passed,
    tell: mpsc::UnboundedSender<Done>,
    // Holds as many as there are services at most.
    done: mpsc::UnboundedReceiver<Done>,
}

/// Those of one service.
#[derive(Debug, Default)]
struct Held {
    /// As the service is to have them; `None`: not at all.
    wanted: Option<Arc<Service>>,
    bound: Vec<Bound>,
    /// Of those that were closed; still to be taken away.
    files: Vec<File>,
    working: bool,
    /// A start waits for them.
    awaited: bool,
    /// The service is no more: nothing is kept once the work is done.
    forgotten: bool,
}

/// A work that is over.
#[derive(Debug)]
struct Done {
    name: Name,
    /// If there was anything to bind.
    made: Option<Made>,
}

/// What came of binding.
#[derive(Debug)]
struct Made {
    service: Arc<Service>,
    bound: Vec<Bound>,
    /// Why that is not all.
    result: Result<(), String>,
}

impl Sockets {
    pub(super) fn new(passed: Passed) -> Sockets {
        let (tell, done) = mpsc::unbounded_channel();
        Sockets { services: HashMap::new(), passed, tell, done }
    }

    /// Begins to bind those of this service, or those that it now has instead.
    pub(super) fn hold(&mut self, service: &Service) {
        let held = self.services.entry(service.name.clone()).or_default();
        held.forgotten = false;
        if held.wanted.as_ref().is_none_or(|it| **it != *service) {
            held.wanted = Some(Arc::new(service.clone()));
        }
        self.work(&service.name);
    }

    /// Closes them.
    pub(super) fn release(&mut self, name: &Name) {
        if let Some(held) = self.services.get_mut(name) {
            held.wanted = None;
            held.close_unwanted();
        }
        self.work(name);
    }

    /// Closes them, and forgets the service.
    pub(super) fn forget(&mut self, name: &Name) {
        self.release(name);
        if let Some(held) = self.services.get_mut(name) {
            held.forgotten = true;
        }
        self.services.retain(|_, it| it.working || !it.forgotten);
    }

    /// What a start of this service is given, at once if all is there. If not, `next` tells.
    pub(super) fn for_start(&mut self, service: &Service) -> Option<Handed> {
        if service.listen.is_empty() {
            return Some(Vec::new());
        }
        self.hold(service);
        let held = self.services.get_mut(&service.name)?;
        held.awaited = held.working;
        (!held.working).then(|| sockets::handed(service, &held.bound))
    }

    /// What came of those that a start waited for. May be dropped at any time without losing
    /// anything.
    pub(super) async fn next(&mut self) -> (Name, Result<Handed, String>) {
        loop {
            let Some(done) = self.done.recv().await else {
                return std::future::pending().await;
            };
            if let Some(outcome) = self.take_in(done) {
                return outcome;
            }
        }
    }

    /// The service is gone: connections wait for its next run.
    pub(super) fn deepen(&self, name: &Name) {
        let bound = self.services.get(name).map(|it| it.bound.as_slice());
        bound.unwrap_or_default().iter().for_each(Bound::deepen);
    }

    /// Closes all of them, within the limit.
    pub(super) async fn close(&mut self, limit: Duration) {
        let names: Vec<Name> = self.services.keys().cloned().collect();
        for name in &names {
            self.release(name);
        }
        let end = Instant::now() + limit;
        while self.services.values().any(|it| it.working) {
            match timeout_at(end, self.done.recv()).await {
                Ok(Some(done)) => _ = self.take_in(done),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn take_in(&mut self, done: Done) -> Option<(Name, Result<Handed, String>)> {
        let held = self.services.get_mut(&done.name)?;
        held.working = false;
        let mut outcome = None;
        let mut again = true;
        if let Some(Made { service, bound, result }) = done.made {
            held.bound = bound;
            if held.wanted.as_ref().is_some_and(|it| it.listen == service.listen) {
                // What failed is tried again by the next start.
                again = false;
                if std::mem::take(&mut held.awaited) {
                    outcome = Some(result.map(|()| sockets::handed(&service, &held.bound)));
                }
            }
        }
        if held.wanted.is_none() && std::mem::take(&mut held.awaited) {
            outcome = Some(Err("it was stopped before it had its sockets".to_owned()));
        }
        if again {
            held.close_unwanted();
            self.work(&done.name);
        }
        self.services.retain(|_, it| it.working || !it.forgotten);
        outcome.map(|it| (done.name, it))
    }

    /// Begins what is to be done for this service, unless something is under way.
    fn work(&mut self, name: &Name) {
        let Some(held) = self.services.get_mut(name) else { return };
        if held.working || held.is_complete() {
            return;
        }
        held.working = true;
        held.close_unwanted();
        let (wanted, files) = (held.wanted.clone(), std::mem::take(&mut held.files));
        let (before, passed) = (held.bound.clone(), self.passed.clone());
        let (kept, theirs) = (before.clone(), wanted.clone());
        let work = move || {
            files.into_iter().for_each(File::remove);
            theirs.map(|service| sockets::bind(&service, &kept, &passed))
        };
        let (name, tell) = (name.clone(), self.tell.clone());
        tokio::spawn(async move {
            let made = aside(&format!("sockets of {name}"), work).await;
            let made = made.unwrap_or_else(|why| Some((before, Err(why))));
            let made = wanted.zip(made);
            let made = made.map(|(service, (bound, result))| Made { service, bound, result });
            // It fails only when keepup has ended.
            let _ = tell.send(Done { name, made });
        });
    }
}

impl Held {
    fn wants(&self, bound: &Bound) -> bool {
        self.wanted.as_ref().is_some_and(|it| it.listen.iter().any(|wanted| bound.fits(it, wanted)))
    }

    fn close_unwanted(&mut self) {
        let (keep, close) = std::mem::take(&mut self.bound)
            .into_iter()
            .partition::<Vec<Bound>, _>(|it| self.wants(it));
        self.bound = keep;
        self.files.extend(close.into_iter().filter_map(Bound::close));
    }

    /// Nothing is to be done.
    fn is_complete(&self) -> bool {
        let complete = match &self.wanted {
            None => self.bound.is_empty(),
            Some(service) => {
                let fit = |it: (&Bound, &Socket)| it.0.fits(service, it.1);
                let all = self.bound.len() == service.listen.len();
                all && self.bound.iter().zip(&service.listen).all(fit)
            }
        };
        complete && self.files.is_empty()
    }
}
