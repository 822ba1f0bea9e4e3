//! How much work waits for processor, memory and disks: the kernel's pressure stall information.
//!
//! Source: the kernel's `Documentation/accounting/psi.rst`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The parts of time, in percent, in which something had to wait for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// Some task waited, over the last 10 seconds.
    pub some_avg10: f64,
    /// The same over the last minute.
    pub some_avg60: f64,
    /// All tasks waited at once, over the last 10 seconds.
    pub full_avg10: f64,
    /// The same over the last minute.
    pub full_avg60: f64,
}

/// The pressure on a machine or in a control group; null where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// On the processors.
    pub cpu: Option<Stall>,
    /// On the memory.
    pub memory: Option<Stall>,
    /// On the disks.
    pub io: Option<Stall>,
}

impl Pressure {
    /// The machine's, or the container's where the kernel shows that.
    pub fn of_host() -> Pressure {
        Pressure::in_proc(Path::new("/proc"))
    }

    /// The same, from this folder in the place of `/proc`.
    pub(super) fn in_proc(proc: &Path) -> Pressure {
        let read = |what: &str| read(&proc.join("pressure").join(what));
        Pressure { cpu: read("cpu"), memory: read("memory"), io: read("io") }
    }

    /// That of the control group in this folder.
    pub fn of_group(folder: &Path) -> Pressure {
        let read = |what: &str| read(&folder.join(format!("{what}.pressure")));
        Pressure { cpu: read("cpu"), memory: read("memory"), io: read("io") }
    }
}

fn read(path: &Path) -> Option<Stall> {
    parse(&fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<Stall> {
    let line = |kind: &str| text.lines().find_map(|it| it.strip_prefix(kind));
    let figure = |line: &str, key: &str| {
        line.split_ascii_whitespace().find_map(|it| it.strip_prefix(key)?.parse::<f64>().ok())
    };
    let some = line("some ")?;
    let full = line("full ").unwrap_or_default();
    Some(Stall {
        some_avg10: figure(some, "avg10=")?,
        some_avg60: figure(some, "avg60=")?,
        full_avg10: figure(full, "avg10=").unwrap_or(0.0),
        full_avg60: figure(full, "avg60=").unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::{Stall, parse};

    #[test]
    fn figures_are_read_with_and_without_a_line_for_all_tasks() {
        let some = "some avg10=93.10 avg60=88.43 avg300=48.72 total=3955998880\n";
        let full = "full avg10=0.50 avg60=1.25 avg300=2.63 total=371587476\n";
        let wanted =
            Stall { some_avg10: 93.1, some_avg60: 88.43, full_avg10: 0.5, full_avg60: 1.25 };
        assert_eq!(parse(&format!("{some}{full}")), Some(wanted));
        let alone = Stall { full_avg10: 0.0, full_avg60: 0.0, ..wanted };
        assert_eq!(parse(some), Some(alone));
        assert_eq!(parse(""), None);
        assert_eq!(parse("some avg10=x"), None);
    }
}
