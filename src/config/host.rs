//! `[supervisor.host]`: thresholds of the machine.

use toml::de::DeValue;

use super::section::Section;
use super::unavailable::Asks;
use super::value::Value;
use super::wrong::Wrong;

/// Checks the table; it asks for something if anything stands in it.
pub(super) fn check(value: Value<'_>) -> Option<Asks> {
    let layer = value.table()?;
    let empty = layer.table.is_empty();
    let section = Section::of(layer);
    let parts = ["memory", "disk"].map(|key| section.get(key).is_none_or(|it| pair(it).is_some()));
    section.refuse_unknown();
    let well = parts.into_iter().all(|well| well);
    well.then_some(if empty { Asks::Nothing } else { Asks::Key })
}

/// Two percentages: where a warning begins, and where it is critical.
fn pair(value: Value<'_>) -> Option<(u32, u32)> {
    let percent = |it: Value<'_>| it.count(1..=100);
    let wrong = || Wrong::hinted("must be two percentages: warning and critical", "write [85, 90]");
    if !matches!(value.item, DeValue::Array(parts) if parts.len() == 2) {
        value.refuse(wrong());
        return None;
    }
    let parts = value.list_of(percent)?;
    let (warning, critical) = (parts[0], parts[1]);
    if warning >= critical {
        value.refuse(Wrong::new(format!(
            "must warn before it is critical, found [{warning}, {critical}]"
        )));
        return None;
    }
    Some((warning, critical))
}
