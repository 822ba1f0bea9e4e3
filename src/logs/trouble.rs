//! What people should know about a log that cannot be written: told once per change.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use crate::core::event::Short;
use crate::plan::Name;

/// Something changed about how a service's log can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whose log it is.
    pub service: Name,
    /// What there is to say, for people.
    pub text: String,
    /// Lines that this trouble has cost so far.
    pub lines_lost: u64,
    /// All is well again.
    pub over: bool,
}

/// Is told of every trouble, from a log thread, which it must not hold up.
pub type Tell = Arc<dyn Fn(Trouble) + Send + Sync>;

/// One service's troubles.
pub(super) struct Troubles {
    service: Name,
    path: PathBuf,
    tell: Tell,
    lost: AtomicU64,
    /// There is a failure in `now`; asked for each read.
    failing: AtomicBool,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    write: Option<Failure>,
    /// Of [`Work::Rotation`] and [`Work::Packing`].
    work: [Option<(String, Instant)>; 2],
}

/// What is done to files besides writing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Rotation,
    Packing,
}

#[derive(Debug)]
struct Failure {
    why: String,
    since: Instant,
    lost_before: u64,
    loss_told: bool,
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Troubles").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Troubles {
    pub(super) fn new(service: Name, path: PathBuf, tell: Tell) -> Troubles {
        let (lost, failing) = (AtomicU64::new(0), AtomicBool::new(false));
        Troubles { service, path, tell, lost, failing, now: Mutex::default() }
    }

    pub(super) fn service(&self) -> &Name {
        &self.service
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(super) fn lines_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What is wrong now, and for how long.
    pub(super) fn problem(&self) -> Option<(String, Duration)> {
        let now = lock(&self.now);
        let write = now.write.as_ref().map(|it| (self.cannot_write(it), it.since.elapsed()));
        let works = [Work::Rotation, Work::Packing].into_iter().zip(&now.work);
        let mut work = works.filter_map(|(work, it)| {
            let (why, since) = it.as_ref()?;
            Some((self.cannot(work, why), since.elapsed()))
        });
        write.or_else(|| work.next())
    }

    /// Why lines are lost now.
    pub(super) fn why(&self) -> String {
        lock(&self.now).write.as_ref().map_or_else(String::new, |it| it.why.clone())
    }

    /// A write failed, for this reason; or hangs.
    pub(super) fn failed(&self, why: &str) {
        let mut now = lock(&self.now);
        self.failing.store(true, Ordering::Relaxed);
        let failure = match &mut now.write {
            Some(failure) if failure.why == why => return,
            Some(failure) => {
                why.clone_into(&mut failure.why);
                failure
            }
            none => {
                let lost_before = self.lines_lost();
                let (why, since) = (why.to_owned(), Instant::now());
                none.insert(Failure { why, since, lost_before, loss_told: false })
            }
        };
        let (text, lost) = (self.cannot_write(failure), self.lost_in(failure));
        drop(now);
        self.say(text, lost, false);
    }

    /// So many more lines are lost; the first of them are told.
    pub(super) fn lost(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        self.lost.fetch_add(lines, Ordering::Relaxed);
        let mut now = lock(&self.now);
        let Some(failure) = now.write.as_mut().filter(|it| !it.loss_told) else { return };
        failure.loss_told = true;
        let (text, lost) = (self.cannot_write(failure), self.lost_in(failure));
        drop(now);
        self.say(text, lost, false);
    }

    /// All that waited is written.
    pub(super) fn over(&self) {
        if !self.failing.load(Ordering::Relaxed) {
            return;
        }
        let mut now = lock(&self.now);
        self.failing.store(false, Ordering::Relaxed);
        let Some(failure) = now.write.take() else { return };
        drop(now);
        let path = self.path.display();
        let after = Short(failure.since.elapsed());
        let lost = self.lost_in(&failure);
        self.say(format!("writing `{path}` again after {after}, {} lost", count(lost)), lost, true);
    }

    /// keepup ends; if that costs lines, the last count is told.
    pub(super) fn end(&self) {
        let Some(failure) = lock(&self.now).write.take() else { return };
        let (path, lost) = (self.path.display(), self.lost_in(&failure));
        let (why, lines) = (failure.why, count(lost));
        self.say(format!("cannot write `{path}`: {why}; {lines} lost in the end"), lost, false);
    }

    /// What is wrong with this work, if anything.
    pub(super) fn work(&self, work: Work, why: Option<&str>) {
        let mut now = lock(&self.now);
        let known = &mut now.work[work as usize];
        if known.as_ref().map(|it| it.0.as_str()) == why {
            return;
        }
        let since = known.as_ref().map_or_else(Instant::now, |it| it.1);
        *known = why.map(|it| (it.to_owned(), since));
        drop(now);
        match (why, work) {
            (Some(why), _) => self.say(self.cannot(work, why), 0, false),
            (None, Work::Rotation) => {
                self.say(format!("rotating `{}` again", self.path.display()), 0, true);
            }
            (None, Work::Packing) => {
                let text = format!("compressing rotated files of `{}` again", self.path.display());
                self.say(text, 0, true);
            }
        }
    }

    fn lost_in(&self, failure: &Failure) -> u64 {
        self.lines_lost() - failure.lost_before
    }

    fn cannot_write(&self, failure: &Failure) -> String {
        let (path, why) = (self.path.display(), &failure.why);
        match self.lost_in(failure) {
            0 => format!("cannot write `{path}`: {why}; nothing is lost so far, retrying"),
            lost => {
                format!("cannot write `{path}`: {why}; {} lost so far, retrying", count(lost))
            }
        }
    }

    fn cannot(&self, work: Work, why: &str) -> String {
        let path = self.path.display();
        match work {
            Work::Rotation => {
                format!("cannot rotate `{path}`: {why}; it grows beyond its size, retrying")
            }
            Work::Packing => {
                let what = format!("cannot compress rotated files of `{path}`");
                format!("{what}: {why}; they stay as they are, retrying")
            }
        }
    }

    fn say(&self, text: String, lines_lost: u64, over: bool) {
        (self.tell)(Trouble { service: Arc::clone(&self.service), text, lines_lost, over });
    }
}

fn count(lines: u64) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_tells_of_its_own_losses_alone() {
        let told: Arc<Mutex<Vec<Trouble>>> = Arc::default();
        let sink = Arc::clone(&told);
        let tell: Tell = Arc::new(move |it| lock(&sink).push(it));
        let troubles = Troubles::new("api".into(), PathBuf::from("/api.log"), tell);
        troubles.failed("no space left on device");
        troubles.lost(3);
        troubles.over();
        troubles.failed("no space left on device");
        troubles.over();
        let lost: Vec<(u64, bool)> =
            lock(&told).iter().map(|it| (it.lines_lost, it.over)).collect();
        assert_eq!(lost, [(0, false), (3, false), (3, true), (0, false), (0, true)]);
        assert_eq!(troubles.lines_lost(), 3);
    }
}
