//! What services and the machine use: sampled when somebody asks, and only then.
//!
//! Never on the loop: a process in the kernel's hands, or a dead mount, can hold up a read for as
//! long as it likes. Whoever asks waits `WAIT_MAX` at most, and then gets the figures of before.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::os::usage::{memory, open_files, threads, tree};
use crate::status::{Host, Status};

/// Older figures are shown rather than waiting longer than this.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Figures so young are not taken again; a shorter span says nothing about CPU use.
const FRESH: Duration = Duration::from_millis(250);
/// Figures older than this are not shown.
const STALE: Duration = Duration::from_secs(30);

/// Samples usage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sampler {
    disk: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<(Instant, Sample)>,
    under_way: UnderWay,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnderWay {
    #[default]
    No,
    Yes,
}

#[derive(Clone, Debug, Default)]
struct Sample {
    host: Host,
    runs: HashMap<i32, Run>,
}

/// What a run's processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Run {
    memory_bytes: Option<u64>,
    cpu: Duration,
    cpu_percent: Option<f64>,
    open_files: Option<u64>,
    threads: Option<u64>,
}

impl Sampler {
    /// A sampler that reports on the file system of this folder.
    pub fn new(disk: PathBuf) -> Sampler {
        Sampler { disk: Arc::from(disk), state: Arc::default() }
    }

    /// Fills in what the system knows. What it does not tell in time stays null.
    pub async fn fill(&self, status: &mut Status) {
        let Some(sample) = self.sample(status).await else {
            return;
        };
        status.supervisor.host = sample.host;
        for service in &mut status.services {
            let run = service.pid.and_then(|pid| sample.runs.get(&pid));
            let Some(run) = run else {
                continue;
            };
            let cpu = run.cpu.as_secs_f64();
            service.memory_bytes = run.memory_bytes;
            service.cpu_seconds = Some(cpu);
            service.open_files = run.open_files;
            service.threads = run.threads;
            // Before the second sample: over the whole of the run.
            let whole = service.uptime_seconds.filter(|it| *it > 0.0).map(|it| 100.0 * cpu / it);
            service.cpu_percent = run.cpu_percent.or(whole).map(tenth);
        }
    }

    async fn sample(&self, status: &Status) -> Option<Sample> {
        let before = {
            let mut state = self.state();
            let last = state.last.clone();
            if state.under_way == UnderWay::Yes
                || last.as_ref().is_some_and(|it| it.0.elapsed() < FRESH)
            {
                return fresh_enough(last);
            }
            state.under_way = UnderWay::Yes;
            last
        };
        let pids: Vec<i32> = status.services.iter().filter_map(|it| it.pid).collect();
        let it = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let sample = take(&pids, &it.disk, before.as_ref());
            let mut state = it.state();
            state.last = Some((Instant::now(), sample));
            state.under_way = UnderWay::No;
        });
        // Late or not: what was sampled last is what there is to show.
        let _ = tokio::time::timeout(WAIT_MAX, task).await;
        fresh_enough(self.state().last.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Both fields are valid on their own, whatever panicked between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh_enough(last: Option<(Instant, Sample)>) -> Option<Sample> {
    last.filter(|it| it.0.elapsed() < STALE).map(|it| it.1)
}

fn take(pids: &[i32], disk: &Path, before: Option<&(Instant, Sample)>) -> Sample {
    // Without this sysinfo keeps a file of every process open.
    sysinfo::set_open_files_limit(0);
    let trees: Vec<(i32, Vec<i32>)> = pids.iter().map(|pid| (*pid, tree(*pid))).collect();
    let all: Vec<Pid> = trees
        .iter()
        .flat_map(|it| &it.1)
        .filter_map(|it| u32::try_from(*it).ok())
        .map(Pid::from_u32)
        .collect();
    let mut system = System::new();
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&all),
        false,
        ProcessRefreshKind::nothing().with_cpu().without_tasks(),
    );
    let runs = trees.iter().map(|(pid, tree)| (*pid, run(*pid, tree, &system, before))).collect();
    Sample { host: host(disk), runs }
}

/// The machine now, and the file system of this folder. Not for the loop: a dead mount never answers.
pub(super) fn host(disk: &Path) -> Host {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Host {
        memory_used_percent: memory_used(&system),
        disk_used_percent: disk_used(disk),
        load1: Some(System::load_average().one),
    }
}

fn run(pid: i32, tree: &[i32], system: &System, before: Option<&(Instant, Sample)>) -> Run {
    let cpu = |pid: &i32| {
        let process = system.process(Pid::from_u32(u32::try_from(*pid).ok()?))?;
        Some(Duration::from_millis(process.accumulated_cpu_time()))
    };
    let cpu: Duration = tree.iter().filter_map(cpu).sum();
    let cpu_percent = before.and_then(|(at, sample)| {
        let used = cpu.checked_sub(sample.runs.get(&pid)?.cpu)?;
        Some(100.0 * used.as_secs_f64() / at.elapsed().as_secs_f64())
    });
    let memory: Vec<u64> = tree.iter().filter_map(|it| memory(*it)).collect();
    let memory_bytes = (!memory.is_empty()).then(|| memory.iter().sum());
    // What cannot be seen of one process makes the sum wrong.
    let open_files = tree.iter().map(|it| open_files(*it)).sum();
    let threads = tree.iter().map(|it| threads(*it)).sum();
    Run { memory_bytes, cpu, cpu_percent, open_files, threads }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| tenth(100.0 * part as f64 / whole as f64))
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Of the container's limit where there is one, else of the machine.
fn memory_used(system: &System) -> Option<f64> {
    let whole = system.total_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory < whole => percent(limits.rss, limits.total_memory),
        Some(_) | None => percent(whole.saturating_sub(system.available_memory()), whole),
    }
}

/// As `df` says it: of what an ordinary user could have.
fn disk_used(path: &Path) -> Option<f64> {
    let disk = statvfs(path).ok()?;
    let used = disk.blocks().saturating_sub(disk.blocks_free());
    percent(used, used + disk.blocks_available())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{service, status};

    #[tokio::test]
    async fn a_run_and_the_host_are_sampled() {
        let sampler = Sampler::new(std::env::temp_dir());
        let me = i32::try_from(std::process::id()).unwrap();
        let mine = crate::status::ServiceStatus { pid: Some(me), ..service("me") };
        let gone = crate::status::ServiceStatus { pid: Some(i32::MAX), ..service("gone") };
        let mut all = status(vec![mine, gone]);
        sampler.fill(&mut all).await;
        let used = all.services[0].memory_bytes.unwrap();
        assert!((100_000..10_000_000_000).contains(&used), "{used}");
        assert!(all.services[0].cpu_percent.is_some());
        assert!(all.services[0].open_files.unwrap() >= 3);
        assert!(all.services[0].threads.unwrap() >= 1);
        assert_eq!(all.services[1].memory_bytes, None);
        let host = all.supervisor.host;
        for figure in [host.memory_used_percent, host.disk_used_percent] {
            assert!((0.0..=100.0).contains(&figure.unwrap()), "{host:?}");
        }
        assert!(host.load1.is_some());
    }

    #[tokio::test]
    async fn who_asks_while_a_sample_hangs_gets_the_figures_of_before() {
        let sampler = Sampler::new(std::env::temp_dir());
        let mut all = status(vec![]);
        sampler.state().under_way = UnderWay::Yes;
        sampler.fill(&mut all).await;
        assert_eq!(all.supervisor.host, Host::default());
    }
}
