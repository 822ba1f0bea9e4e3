//! What a service may use: `max_memory` and its like.

use super::section::Section;
use super::service::Pass;
use super::value::Value;
use super::wrong::Wrong;
use super::{duration, size};
use crate::plan::Resources;

/// The limits of a service; nothing if one is wrong, and reported.
pub(super) fn read(section: &Section<'_>, pass: Pass) -> Option<Resources> {
    let usual = Resources::default();
    let max_memory = section.maybe("max_memory", Value::size);
    let warn_memory = section.maybe("warn_memory", Value::size);
    let max_cpu = section.maybe("max_cpu", percent);
    let max_cpu_for = section.or("max_cpu_for", usual.max_cpu_for, Value::duration);
    let (max_memory, warn_memory) = (max_memory?, warn_memory?);
    if let (Some(max), Some(warn), Some(value)) =
        (max_memory, warn_memory, section.get("warn_memory"))
        && max <= warn
    {
        let [warn, max] = [warn, max].map(size::print);
        value.refuse(Wrong::new(format!("must be below `max_memory`, found {warn} and {max}")));
        return None;
    }
    let max_cpu = max_cpu?;
    let own = pass == Pass::Service && section.is_own("max_cpu_for");
    if own
        && max_cpu.is_none()
        && let Some(value) = section.get("max_cpu_for")
    {
        let wrong = "says for how long `max_cpu` may be exceeded, and there is no `max_cpu`";
        value.warn(Wrong::hinted(wrong, "add max_cpu = \"95%\""));
    }
    Some(Resources { max_memory, warn_memory, max_cpu, max_cpu_for: max_cpu_for? })
}

/// In words, for `check`; empty: no limits.
pub fn print(resources: &Resources) -> String {
    let mut parts = Vec::new();
    if let Some(max) = resources.max_memory {
        parts.push(format!("restarted above {} of memory", size::print(max)));
    }
    if let Some(warn) = resources.warn_memory {
        parts.push(format!("degraded above {}", size::print(warn)));
    }
    if let Some(max) = resources.max_cpu {
        let long = duration::print(resources.max_cpu_for);
        parts.push(format!("restarted above {max}% of a processor for {long}"));
    }
    parts.join(", ")
}

/// A part of one processor, or of several: `95%`, `250%`.
fn percent(value: Value<'_>) -> Option<u32> {
    let text = value.text()?;
    let number = text.strip_suffix('%').and_then(|it| it.trim_end().parse::<u32>().ok());
    let number = number.filter(|it| (1..=100_000).contains(it));
    if number.is_none() {
        let wrong = format!("must be a percentage of one processor, found `{text}`");
        value.refuse(Wrong::hinted(wrong, "write \"95%\""));
    }
    number
}
