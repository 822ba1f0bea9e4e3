//! `[supervisor.host]`: how full the machine may be.

use toml::de::DeValue;

use super::section::Section;
use super::value::Value;
use super::wrong::Wrong;
use crate::plan::{Full, Host};

/// Reads the table; without a key in it, nothing is looked at.
pub(super) fn read(value: Value<'_>) -> Option<Host> {
    let section = Section::of(value.table()?);
    let [memory, disk] = ["memory", "disk"].map(|key| section.maybe(key, full));
    section.refuse_unknown();
    Some(Host { memory: memory?, disk: disk? })
}

/// Two percentages: where a warning begins, and where it is critical.
fn full(value: Value<'_>) -> Option<Full> {
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
    Some(Full { warning, critical })
}
