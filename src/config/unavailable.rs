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
