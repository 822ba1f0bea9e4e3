//! The machine that a run hangs on, and the control group it is in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::event::Pid;
use crate::os::pressure::Pressure;

/// Files of a control group that are worth a look. Source: the kernel's
/// `Documentation/admin-guide/cgroup-v2.rst`.
const FIGURES: [&str; 6] =
    ["memory.current", "memory.max", "memory.swap.current", "pids.current", "pids.max", "cpu.max"];
/// And lines of files that hold several.
const COUNTERS: [(&str, &str); 5] = [
    ("memory.events", "oom"),
    ("memory.events", "oom_kill"),
    ("cpu.stat", "nr_throttled"),
    ("cpu.stat", "throttled_usec"),
    ("cpu.stat", "usage_usec"),
];

/// The machine, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSeen {
    /// The load average over one minute.
    pub load1: Option<f64>,
    /// Memory that can be had, in MiB.
    pub memory_available_mib: Option<u64>,
    /// All memory, in MiB.
    pub memory_total_mib: Option<u64>,
    /// What waits for processor, memory and disks.
    pub pressure: Pressure,
    /// The control group (version 2), if the run has one of its own.
    pub group: Option<String>,
    /// Its figures, as the kernel names them.
    pub group_figures: BTreeMap<String, String>,
    /// What waits in it.
    pub group_pressure: Option<Pressure>,
}

impl HostSeen {
    /// As it is now; with the control group of this process.
    pub fn now(of: Option<Pid>) -> HostSeen {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mib = |key: &str| {
            let line = memory.lines().find_map(|it| it.strip_prefix(key))?;
            Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? / 1024)
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut seen = HostSeen {
            load1: load.split_ascii_whitespace().next().and_then(|it| it.parse().ok()),
            memory_available_mib: mib("MemAvailable:"),
            memory_total_mib: mib("MemTotal:"),
            pressure: Pressure::of_host(),
            ..HostSeen::default()
        };
        if let Some((name, folder)) = of.and_then(group) {
            seen.group = Some(name);
            seen.group_figures = figures(&folder);
            seen.group_pressure = Some(Pressure::of_group(&folder));
        }
        seen
    }
}

/// Not the root: that is the machine.
fn group(pid: Pid) -> Option<(String, PathBuf)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let name = text.lines().find_map(|it| it.strip_prefix("0::/"))?.to_owned();
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let folder = roots.iter().find(|it| it.join("cgroup.controllers").exists())?.join(&name);
    (!name.is_empty() && folder.is_dir()).then_some((name, folder))
}

fn figures(folder: &Path) -> BTreeMap<String, String> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let figures =
        FIGURES.iter().filter_map(|file| Some(((*file).to_owned(), read(file)?.trim().to_owned())));
    let counters = COUNTERS.iter().filter_map(|(file, key)| {
        let text = read(file)?;
        let line = text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(' '))?;
        Some((format!("{file} {key}"), line.trim().to_owned()))
    });
    figures.chain(counters).collect()
}
