//! Another file while everything runs: read beside the loop, for a disk may hang, and then either
//! applied as a whole or not at all.
//!
//! One reading at a time. Whoever asks meanwhile waits for the next one, since the file may have
//! changed behind the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::config::{self, Checked, Problem, Surroundings};
use crate::control::protocol::{ChangeOf, NotReloaded, Reloaded};
use crate::core::event::Short;
use crate::core::reload::{Change, What};
use crate::net::client::aside::aside;
use crate::os::env_file;
use crate::plan::{self, EnvFile, Name, Plan};

/// Those who may wait for one reading.
const WAITING_MAX: usize = 64;

/// A file that takes longer lies on a disk that hangs.
const READING_MAX: Duration = Duration::from_secs(15);

/// What came of it.
pub(super) type Answer = Result<Reloaded, NotReloaded>;

/// Somebody who wants the file read anew.
#[derive(Debug)]
pub(super) struct Asker {
    /// The operator; `None`: a signal.
    pub(super) by: Option<u32>,
    /// Only to know what would be done.
    pub(super) dry_run: bool,
    /// `None`: nobody waits for the answer.
    pub(super) reply: Option<oneshot::Sender<Answer>>,
}

impl Asker {
    pub(super) fn answer(self, answer: Answer) {
        if let Some(reply) = self.reply {
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }
}

/// All who ask, and the reading that is under way.
#[derive(Debug)]
pub(super) struct Reloads {
    /// `None`: there is no file.
    file: Option<PathBuf>,
    waiting: Vec<Asker>,
    /// Those whom the reading is for; empty: there is none.
    served: Vec<Asker>,
    tell: mpsc::UnboundedSender<Result<Fresh, Unread>>,
    // Holds one at most.
    told: mpsc::UnboundedReceiver<Result<Fresh, Unread>>,
}

/// What a reading brought.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<Problem>,
    /// What the files of variables hold now, or why that is not known, of each service with any.
    variables: BTreeMap<Name, Result<u64, String>>,
}

/// Why a reading brought nothing.
#[derive(Debug)]
pub(super) enum Unread {
    /// What is wrong with the file.
    Problems(Vec<Problem>),
    /// Something else.
    Failed(String),
}

/// A reading that is over, and those whom it was for.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) askers: Vec<Asker>,
    pub(super) result: Result<Fresh, Unread>,
}

impl Reloads {
    pub(super) fn new(file: Option<PathBuf>) -> Reloads {
        let (tell, told) = mpsc::unbounded_channel();
        Reloads { file, waiting: Vec::new(), served: Vec::new(), tell, told }
    }

    /// The file.
    pub(super) fn file(&self) -> String {
        self.file.as_ref().map(|it| it.display().to_string()).unwrap_or_default()
    }

    /// Somebody asks. Why that is of no use, if so.
    pub(super) fn ask(&mut self, asker: Asker) -> Result<(), String> {
        let refused = if self.file.is_none() {
            "cannot reload: keepup was started without a file"
        } else if self.waiting.len() == WAITING_MAX {
            "cannot reload: too many wait for that already"
        } else {
            self.waiting.push(asker);
            return Ok(());
        };
        asker.answer(Err(NotReloaded::refused(refused)));
        Err(refused.to_owned())
    }

    /// Begins to read for those who wait, unless a reading is under way. Says whether one began that
    /// is to change something.
    pub(super) fn begin(&mut self) -> bool {
        let Some(file) = self.file.clone().filter(|_| self.served.is_empty()) else { return false };
        if self.waiting.is_empty() {
            return false;
        }
        self.served = std::mem::take(&mut self.waiting);
        let (name, tell) = (file.display().to_string(), self.tell.clone());
        tokio::spawn(async move {
            let read = timeout(READING_MAX, aside("the configuration", move || read(&file)));
            let result = match read.await {
                Ok(Ok(result)) => result,
                Ok(Err(why)) => Err(Unread::Failed(why)),
                Err(_) => Err(Unread::Failed(format!(
                    "`{name}`, or what it refers to, could not be read within {} (a dead disk or \
                     mount?)",
                    Short(READING_MAX)
                ))),
            };
            // It fails only when keepup has ended.
            let _ = tell.send(result);
        });
        self.is_serious()
    }

    fn is_serious(&self) -> bool {
        self.served.iter().any(|it| !it.dry_run)
    }

    /// The next reading that is over. May be dropped at any time without losing anything.
    pub(super) async fn next(&mut self) -> Read {
        let Some(result) = self.told.recv().await else {
            return std::future::pending().await;
        };
        Read { askers: std::mem::take(&mut self.served), result }
    }
}

impl Read {
    /// Is it only to be known what would be done?
    pub(super) fn is_dry_run(&self) -> bool {
        self.askers.iter().all(|it| it.dry_run)
    }
}

impl Fresh {
    /// Whose files hold something else than what `began` says; what cannot be read is told to
    /// `warn`, and is no reason to touch a run that has what it needs.
    pub(super) fn touched(
        &self,
        began: impl Fn(&Name) -> Option<u64>,
        mut warn: impl FnMut(&Name, &str),
    ) -> BTreeSet<Name> {
        let mut touched = BTreeSet::new();
        for (name, now) in &self.variables {
            match (began(name), now) {
                (Some(before), Ok(now)) if before != *now => _ = touched.insert(name.clone()),
                (Some(_), Err(why)) => warn(name, why),
                (Some(_) | None, _) => {}
            }
        }
        touched
    }

    /// What the files of this service hold now.
    pub(super) fn variables(&self, name: &Name) -> Option<u64> {
        self.variables.get(name)?.as_ref().ok().copied()
    }
}

impl Unread {
    /// The same for whoever asked.
    pub(super) fn answer(&self, file: &str) -> NotReloaded {
        match self {
            Unread::Problems(list) => NotReloaded {
                error: format!("cannot reload: {}", self.summary(file)),
                hint: None,
                problems: list.iter().map(ToString::to_string).collect(),
            },
            Unread::Failed(why) => NotReloaded::refused(&format!("cannot reload: {why}")),
        }
    }

    /// In a line.
    pub(super) fn summary(&self, file: &str) -> String {
        match self {
            Unread::Problems(list) => {
                let count = list.len();
                let problems = if count == 1 { "problem" } else { "problems" };
                format!("{file} has {count} {problems}; nothing was changed")
            }
            Unread::Failed(why) => format!("{why}; nothing was changed"),
        }
    }
}

/// May take for ever.
fn read(file: &Path) -> Result<Fresh, Unread> {
    let checked = config::load(file, &Surroundings::of_process());
    let Checked { plan, warnings } = checked.map_err(|it| Unread::Problems(it.list))?;
    let digest = |files: &[EnvFile]| env_file::read_all(files).map(|it| it.1);
    let with_files = plan.services.iter().filter(|it| !it.env_file.is_empty());
    let variables = with_files.map(|it| (it.name.clone(), digest(&it.env_file))).collect();
    Ok(Fresh { plan, warnings, variables })
}

/// A problem of the file, in one line.
pub(super) fn in_a_line(problem: &Problem) -> String {
    match &problem.place {
        Some(place) => format!("{}: {}", place.short(), problem.text),
        None => problem.text.clone(),
    }
}

/// What keepup itself is to be like from now on: `new`, but for what cannot change while it runs;
/// and the keys of that which differ.
pub(super) fn merged(
    old: &plan::Supervisor,
    new: &plan::Supervisor,
) -> (plan::Supervisor, Vec<&'static str>) {
    let differs = [
        ("state_dir", old.state_dir != new.state_dir),
        ("runtime_dir", old.runtime_dir != new.runtime_dir),
        ("log_dir", old.log_dir != new.log_dir),
        ("listen", old.listen != new.listen),
        ("control_group", old.control_group != new.control_group),
        ("log_format", old.log_format != new.log_format),
        ("incidents_keep", old.incidents_keep != new.incidents_keep),
        ("host", old.host != new.host),
    ];
    let keys = differs.into_iter().filter(|it| it.1).map(|it| it.0).collect();
    let plan::Supervisor {
        name: _,
        config: _,
        state_dir: _,
        runtime_dir: _,
        log_dir: _,
        listen: _,
        control_group: _,
        log_level,
        log_format: _,
        shutdown_timeout,
        stay,
        incidents_keep: _,
        host: _,
    } = *new;
    (plan::Supervisor { log_level, shutdown_timeout, stay, ..old.clone() }, keys)
}

/// What was done, or would be, for whoever asked.
pub(super) fn answer(changes: &[Change], warnings: &[String], dry_run: bool) -> Reloaded {
    let of = |it: &Change| ChangeOf {
        name: it.name.to_string(),
        change: it.what.name().to_owned(),
        keys: it.keys.iter().map(|&it| it.to_owned()).collect(),
        text: it.to_string(),
    };
    let services = changes.iter().map(of).collect();
    Reloaded { dry_run, services, warnings: warnings.to_vec() }
}

/// What was done, in a line.
pub(super) fn summary(changes: &[Change]) -> String {
    let (same, other): (Vec<_>, Vec<_>) = changes.iter().partition(|it| it.what == What::Unchanged);
    let mut parts: Vec<String> = other.iter().map(|it| format!("{} {it}", it.name)).collect();
    if !same.is_empty() {
        parts.push(format!("{} unchanged", same.len()));
    }
    parts.join("; ")
}
