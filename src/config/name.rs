//! Names, of services and of keepup; they become names of files.

use super::value::Value;
use super::wrong::Wrong;

/// What is wrong with this name of a service, if anything.
pub(super) fn of_service(name: &str) -> Result<(), Wrong> {
    if name == "keepup" {
        return Err(Wrong::new("a service cannot be named `keepup`, which is keepup itself"));
    }
    check(name)
}

/// The name of a keepup.
pub(super) fn of_keepup(value: Value<'_>) -> Option<String> {
    let name = value.text()?;
    match check(&name) {
        Ok(()) => Some(name),
        Err(wrong) => {
            value.at.refuse(wrong);
            None
        }
    }
}

/// `[a-z0-9][a-z0-9_.-]{0,62}`
fn check(name: &str) -> Result<(), Wrong> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if first && name.len() <= 63 && name.chars().all(inner) {
        return Ok(());
    }
    let wrong = format!("cannot use `{name}` as a name");
    let proposal = proposal(name);
    if proposal.is_empty() || proposal == name {
        return Err(Wrong::hinted(wrong, RULE));
    }
    Err(Wrong::hinted(wrong, format!("{RULE}, for example `{proposal}`")))
}

const RULE: &str = "a name has 1 to 63 of a-z, 0-9, `_`, `.` and `-`, and begins with a-z or 0-9";

/// The name that is nearest to a text; empty if nothing of it can be used.
pub(super) fn proposal(text: &str) -> String {
    let lower = text.to_lowercase();
    let good = |c: char| match c {
        'a'..='z' | '0'..='9' | '_' | '.' | '-' => c,
        _ => '-',
    };
    let start = lower.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    start.chars().take(63).map(good).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names() {
        let longest = "a".repeat(63);
        for good in ["api", "0", "a.b_c-d", longest.as_str()] {
            assert_eq!(of_service(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "Api", "-a", ".", "a/b", "a b", "ä", "keepup", too_long.as_str()] {
            assert!(of_service(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_a_name() {
        for text in ["My API!", "../Server.py", "Straße", "a".repeat(99).as_str()] {
            assert_eq!(check(&proposal(text)), Ok(()), "{text}");
        }
        assert_eq!(proposal("My API!"), "my-api");
    }
}
