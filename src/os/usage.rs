//! What processes use of memory and processor, and what they hold.
//!
//! Never on the loop: a process in the kernel's hands can hold up a read for as long as it likes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::mpsc;

use super::desk::Desk;
use crate::core::event::{Event, Ticket, Used};
use crate::plan::Name;

/// Processes looked at of one run.
const PROCESSES_MAX: usize = 4096;

/// Measures runs, and answers with [`Event::Usage`].
#[derive(Debug)]
pub struct Meter {
    answers: mpsc::Sender<Event>,
    desk: Arc<Desk<Question, Reading>>,
}

#[derive(Debug)]
struct Question {
    name: Name,
    ticket: Ticket,
    main: i32,
}

/// Processor time of a run's processes, each known by its number and its start.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    main: i32,
    used: HashMap<(u32, u64), Duration>,
}

impl Meter {
    /// A meter that sends [`Event::Usage`] to `answers`, and waits where there is no room.
    pub fn new(answers: mpsc::Sender<Event>) -> Meter {
        Meter { answers, desk: Arc::new(Desk::new()) }
    }

    /// Measures the run with this main process; to be called within a tokio runtime. One answer
    /// follows, unless the system hangs.
    pub fn measure(&self, name: &Name, ticket: Ticket, main: i32) {
        if !self.desk.ask(Question { name: name.clone(), ticket, main }) {
            return;
        }
        let (desk, answers) = (Arc::clone(&self.desk), self.answers.clone());
        tokio::task::spawn_blocking(move || {
            while let Some(questions) = desk.next() {
                for event in take(&desk, questions) {
                    // Nobody is there any more: keepup ends.
                    if answers.blocking_send(event).is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// A service is no more.
    pub fn forget(&self, name: &Name) {
        self.desk.forget(name);
    }
}

fn take(desk: &Desk<Question, Reading>, questions: Vec<Question>) -> Vec<Event> {
    let trees: Vec<Vec<i32>> = questions.iter().map(|it| tree(it.main)).collect();
    let system = processor_time(trees.iter().flatten().copied());
    let answer = |(question, tree): (Question, Vec<i32>)| {
        let figures: Vec<u64> = tree.iter().filter_map(|it| memory(*it)).collect();
        let reading =
            Reading { at: Instant::now(), main: question.main, used: used(&tree, &system) };
        let before = desk.last(&question.name).filter(|it| it.main == question.main);
        let cpu = before.map(|before| percent(&before, &reading));
        desk.keep(question.name.clone(), reading);
        let memory = (!figures.is_empty()).then(|| figures.iter().sum());
        let Question { name, ticket, .. } = question;
        Event::Usage { name, ticket, used: Used { memory, cpu } }
    };
    questions.into_iter().zip(trees).map(answer).collect()
}

/// The processor time of these processes, as sysinfo knows it.
fn processor_time(pids: impl Iterator<Item = i32>) -> System {
    // Without this sysinfo keeps a file of every process open.
    sysinfo::set_open_files_limit(0);
    let pids: Vec<Pid> = pids.filter_map(|it| u32::try_from(it).ok()).map(Pid::from_u32).collect();
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&pids),
        false,
        ProcessRefreshKind::nothing().with_cpu().without_tasks(),
    );
    system
}

fn used(tree: &[i32], system: &System) -> HashMap<(u32, u64), Duration> {
    let of = |pid: &i32| {
        let pid = u32::try_from(*pid).ok()?;
        let process = system.process(Pid::from_u32(pid))?;
        let used = Duration::from_millis(process.accumulated_cpu_time());
        Some(((pid, process.start_time()), used))
    };
    tree.iter().filter_map(of).collect()
}

/// What was used between two readings, in percent of one processor. What was born since then counts
/// from its birth; what died is lost.
fn percent(before: &Reading, now: &Reading) -> f64 {
    let grown = |(key, used): (&(u32, u64), &Duration)| {
        used.saturating_sub(before.used.get(key).copied().unwrap_or_default())
    };
    let grown: Duration = now.used.iter().map(grown).sum();
    let span = now.at.saturating_duration_since(before.at).as_secs_f64();
    if span > 0.0 { 100.0 * grown.as_secs_f64() / span } else { 0.0 }
}

/// A process and all that descends from it.
pub(crate) fn tree(pid: i32) -> Vec<i32> {
    tree_in(Path::new("/proc"), pid)
}

/// The same, of processes that this folder shows.
pub(super) fn tree_in(proc: &Path, pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for child in children(proc, pid) {
            if found.len() == PROCESSES_MAX {
                return found;
            }
            found.push(child);
        }
    }
    found
}

/// Source: `proc_pid_task(5)`, `children`.
fn children(proc: &Path, pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(proc.join(format!("{pid}/task"))) else {
        return Vec::new();
    };
    let of_task = |path: PathBuf| fs::read_to_string(path.join("children")).unwrap_or_default();
    tasks
        .filter_map(Result::ok)
        .flat_map(|task| {
            let text = of_task(task.path());
            text.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// What a process shares with no other: pages shared between workers are counted by none.
///
/// Source: `proc_pid_status(5)`, `RssAnon` and `VmSwap`.
pub(crate) fn memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let swap = field(&status, "VmSwap:").unwrap_or(0);
    Some((field(&status, "RssAnon:")? + swap) * 1024)
}

/// Its threads.
///
/// Source: `proc_pid_status(5)`, `Threads`.
pub(crate) fn threads(pid: i32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "Threads:")
}

/// Its open files; nothing where the kernel does not show them to us.
pub(crate) fn open_files(pid: i32) -> Option<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(files.count()).ok()
}

/// The first number of this line.
fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_counted_from_birth_and_between_two_readings() {
        let at = Instant::now();
        let second = Duration::from_secs(1);
        let reading = |at: Instant, used: &[(u32, u64)]| Reading {
            at,
            main: 1,
            used: used
                .iter()
                .map(|(pid, s)| ((*pid, 7), second * u32::try_from(*s).unwrap()))
                .collect(),
        };
        let before = reading(at, &[(1, 10), (2, 5)]);
        let now = reading(at + second * 4, &[(1, 12), (3, 1)]);
        assert!((percent(&before, &now) - 75.0).abs() < 0.1);
        assert!(percent(&before, &reading(at, &[(1, 12)])).abs() < 0.1);
    }

    #[test]
    fn a_tree_holds_what_descends_from_a_process() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The line comes after the fork.
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let tree = tree(i32::try_from(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        for pid in &tree[1..] {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL)
                .unwrap();
        }
        assert_eq!(tree.len(), 2);
    }
}
