//! The keys that are known, and checked, but that nothing does yet.
//!
//! One line each: whoever implements a key deletes its line here and reads the key in its section.
//! A value that says what happens anyway is accepted.

use super::section::Section;
use super::value::Value;
use super::wrong::Wrong;
use super::{command, host};

/// The table of the file that a key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Supervisor,
    Service,
}

/// What a checked value of such a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// What happens anyway.
    Nothing,
    /// Something that is not there yet: the key itself.
    Key,
}

/// Checks a value; nothing if it is wrong, and reported.
type Check = fn(Value<'_>) -> Option<Asks>;

const UNAVAILABLE: &[(Table, &str, Check)] = &[
    (Table::Supervisor, "host", host::check),
    (Table::Service, "reload_signal", |it| any(command::signal(it))),
    (Table::Service, "max_memory", |it| any(it.size())),
    (Table::Service, "warn_memory", |it| any(it.size())),
    (Table::Service, "max_cpu", |it| any(percent(it))),
    (Table::Service, "max_cpu_for", |it| any(it.duration())),
];

/// Checks the keys of this table that nothing does yet, and refuses what they ask for.
pub(super) fn refuse(table: Table, section: &Section<'_>) {
    for (_, key, check) in UNAVAILABLE.iter().filter(|it| it.0 == table) {
        if let Some(value) = section.get(key)
            && let Some(asks) = check(value)
        {
            match asks {
                Asks::Nothing => {}
                Asks::Key => value.at.refuse(not_yet(&format!("`{key}`"))),
            }
        }
    }
}

/// What is known but not there yet.
pub(super) fn not_yet(what: &str) -> Wrong {
    Wrong::new(format!("{what} is not available in this version of keepup"))
}

fn any<T>(value: Option<T>) -> Option<Asks> {
    value.map(|_| Asks::Key)
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
