//! The control groups of a process, of either version, and how they are throttled.

use std::fs;
use std::path::{Path, PathBuf};

/// Groups in one another that are looked at.
const DEPTH_MAX: usize = 16;

/// In how many periods a group could run, and in how many of them it had to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    periods: u64,
    throttled: u64,
}

impl Throttle {
    /// Nothing where the group has no limit, or the kernel does not count.
    pub(super) fn read(folder: &Path) -> Option<Throttle> {
        let text = fs::read_to_string(folder.join("cpu.stat")).ok()?;
        let count = |key: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(' '))?;
            line.trim().parse::<u64>().ok()
        };
        Some(Throttle { periods: count("nr_periods")?, throttled: count("nr_throttled")? })
    }

    /// The part of the periods until `now` in which it was throttled; nothing if there was none.
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 52 bits")]
    pub(super) fn percent_until(self, now: &Throttle) -> Option<f64> {
        let periods = now.periods.checked_sub(self.periods).filter(|it| *it > 0)?;
        let throttled = now.throttled.saturating_sub(self.throttled);
        Some((100.0 * throttled as f64 / periods as f64).min(100.0))
    }
}

/// The folders of the groups that may limit the processor, each with those it is in. `listed`: as in
/// `/proc/<pid>/cgroup`. In a container the group's own folder may be what is mounted.
///
/// Source: cgroups(7).
pub(super) fn folders(mount: &Path, listed: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in listed.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(group)) = (parts.next(), parts.next()) else { continue };
        let roots = if kinds.is_empty() {
            vec![mount.to_path_buf(), mount.join("unified")]
        } else if kinds.split(',').any(|kind| kind == "cpu") {
            vec![mount.join(kinds), mount.join("cpu")]
        } else {
            continue;
        };
        let Some(root) = roots.into_iter().find(|it| it.join("cgroup.procs").exists()) else {
            continue;
        };
        let own = root.join(group.trim_start_matches('/'));
        let above = own.ancestors().take_while(|it| it.starts_with(&root)).take(DEPTH_MAX);
        found.extend(above.filter(|it| it.is_dir()).map(Path::to_path_buf));
    }
    found
}
