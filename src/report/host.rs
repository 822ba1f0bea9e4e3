//! How full the machine is, against `[supervisor.host]`: looked at now and then where that is asked
//! for, told when it gets worse or better, and part of the level.
//!
//! Never on the loop: a dead mount never answers, and then what was known last stays.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::journal::Journal;
use super::usage;
use crate::plan::{self, Full};
use crate::status::{Host, Level};

/// From one look to the next.
const PACE: Duration = Duration::from_secs(30);

/// It is not better before it is so much better, in percent of the whole.
const CLEARLY: f64 = 2.0;

/// How bad it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostLevel(Arc<Mutex<Level>>);

impl HostLevel {
    /// Nobody asked: it is normal, and nothing is looked at.
    pub fn unwatched() -> HostLevel {
        HostLevel(Arc::new(Mutex::new(Level::Normal)))
    }

    /// Begins to look, if one of the limits is set; to be called within a tokio runtime. `disk`: a
    /// folder in the file system that matters.
    pub fn watch(limits: plan::Host, disk: PathBuf, journal: Journal) -> HostLevel {
        let level = HostLevel::unwatched();
        if limits != plan::Host::default() {
            tokio::spawn(watch(limits, disk, journal, level.clone()));
        }
        level
    }

    /// As it was seen last.
    pub fn now(&self) -> Level {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, level: Level) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = level;
    }
}

async fn watch(limits: plan::Host, disk: PathBuf, journal: Journal, level: HostLevel) {
    let mut watched = [
        Watched { what: "memory", full: limits.memory, level: Level::Normal },
        Watched { what: "disk", full: limits.disk, level: Level::Normal },
    ];
    loop {
        let folder = disk.clone();
        // Its thread can only be missing as keepup ends.
        let seen = tokio::task::spawn_blocking(move || usage::host(&folder)).await;
        let Host { memory_used_percent, disk_used_percent, .. } = seen.unwrap_or_default();
        for (watched, used) in watched.iter_mut().zip([memory_used_percent, disk_used_percent]) {
            if let Some((used, text)) = used.and_then(|it| Some((it, watched.takes(it)?))) {
                journal.full(watched.what, used, watched.level, &text);
            }
        }
        level.set(watched.iter().map(|it| it.level).max().unwrap_or(Level::Normal));
        tokio::time::sleep(PACE).await;
    }
}

#[derive(Debug)]
struct Watched {
    what: &'static str,
    full: Option<Full>,
    level: Level,
}

impl Watched {
    /// So much of it is used. What to tell of it, if that is another level.
    fn takes(&mut self, used: f64) -> Option<String> {
        let Full { warning, critical } = self.full?;
        // What was reached once stays so until it is clearly less.
        let reached = |limit: u32, level: Level| {
            let slack = if level <= self.level { CLEARLY } else { 0.0 };
            f64::from(limit) - slack <= used
        };
        let level = if reached(critical, Level::Critical) {
            Level::Critical
        } else if reached(warning, Level::Warning) {
            Level::Warning
        } else {
            Level::Normal
        };
        if std::mem::replace(&mut self.level, level) == level {
            return None;
        }
        let what = self.what;
        Some(match level {
            Level::Critical => format!("{what} is {used} % full, critical from {critical} % on"),
            Level::Warning | Level::Degraded => {
                format!("{what} is {used} % full, to be watched from {warning} % on")
            }
            Level::Normal => format!("{what} is {used} % full, which is well again"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(full: Option<Full>) -> Watched {
        Watched { what: "disk", full, level: Level::Normal }
    }

    #[test]
    fn each_level_is_told_once_and_left_when_it_is_clearly_better() {
        let mut disk = watched(Some(Full { warning: 85, critical: 90 }));
        let mut levels = Vec::new();
        let used = [84.9, 85.0, 89.9, 90.0, 88.1, 87.9, 86.0, 83.1, 82.9, 84.0, 99.0, 10.0];
        for used in used {
            if disk.takes(used).is_some() {
                levels.push((used, disk.level.name()));
            }
        }
        let wanted = [
            (85.0, "warning"),
            (90.0, "critical"),
            (87.9, "warning"),
            (82.9, "normal"),
            (99.0, "critical"),
            (10.0, "normal"),
        ];
        assert_eq!(levels, wanted);
    }

    #[test]
    fn what_nobody_asked_for_is_never_told() {
        assert_eq!(watched(None).takes(100.0), None);
    }

    #[test]
    fn it_is_told_in_words() {
        let mut disk = watched(Some(Full { warning: 85, critical: 90 }));
        assert_eq!(disk.takes(87.5).unwrap(), "disk is 87.5 % full, to be watched from 85 % on");
        assert_eq!(disk.takes(93.0).unwrap(), "disk is 93 % full, critical from 90 % on");
        assert_eq!(disk.takes(12.0).unwrap(), "disk is 12 % full, which is well again");
    }
}
