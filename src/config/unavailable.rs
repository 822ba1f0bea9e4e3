//! The keys that are known, and checked, but that nothing does yet.
//!
//! One line each: whoever implements a key deletes its line here and reads the key in its section.

use super::section::Section;
use super::value::Value;
use super::wrong::Wrong;

/// The table of the file that a key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Service,
}

/// Checks a value; false if it is wrong, and reported.
type Check = fn(Value<'_>) -> bool;

const UNAVAILABLE: &[(Table, &str, Check)] = &[];

/// Checks the keys of this table that nothing does yet, and refuses what they ask for.
pub(super) fn refuse(table: Table, section: &Section<'_>) {
    for (_, key, check) in UNAVAILABLE.iter().filter(|it| it.0 == table) {
        if let Some(value) = section.get(key)
            && check(value)
        {
            value.at.refuse(not_yet(&format!("`{key}`")));
        }
    }
}

/// What is known but not there yet.
pub(super) fn not_yet(what: &str) -> Wrong {
    Wrong::new(format!("{what} is not available in this version of keepup"))
}
