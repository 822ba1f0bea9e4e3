//! Durations as people write them: `500ms`, `90s`, `1m 30s`.
//!
//! Integers with units, no fractions and no bare numbers, so that nobody has to remember whether
//! `timeout = 5` meant seconds or milliseconds.

use std::fmt::Write as _;
use std::time::Duration;

use super::wrong::{Wrong, closest};

/// The units, the longest first, in microseconds.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// What people write for the units in other places.
const OTHER_NAMES: [(&str, &str); 17] = [
    ("day", "d"),
    ("days", "d"),
    ("hour", "h"),
    ("hours", "h"),
    ("hr", "h"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("M", "m"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("msec", "ms"),
    ("usec", "us"),
    ("µs", "us"),
];

/// Nothing lasts longer: a hundred years, far from what a clock can count.
const LONGEST_DAYS: u64 = 36_500;

/// Reads a duration; zero is one.
pub fn parse(text: &str) -> Result<Duration, Wrong> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(Wrong::hinted("must be a duration, found an empty text", "write \"10s\""));
    }
    let mut total = 0_u64;
    let mut below = u64::MAX;
    while !rest.is_empty() {
        let (number, unit, after) = part(text, rest)?;
        if unit >= below {
            return Err(Wrong::hinted(
                format!("must name each unit once, the longest first, found `{text}`"),
                "write \"1m 30s\"",
            ));
        }
        below = unit;
        total = number
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .filter(|&sum| sum <= LONGEST_DAYS * UNITS[0].1)
            .ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(total))
}

/// Splits one number and its unit off; the unit comes in microseconds.
fn part<'t>(text: &str, rest: &'t str) -> Result<(u64, u64, &'t str), Wrong> {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at(digits);
    if number.is_empty() {
        return Err(Wrong::hinted(
            format!("must be a duration, found `{text}`"),
            "write a number and a unit, as in \"10s\" or \"1m 30s\"",
        ));
    }
    if after.starts_with(['.', ',']) {
        return Err(fraction(text));
    }
    let number: u64 = number.parse().map_err(|_| too_long())?;
    let after = after.trim_start();
    let end = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
    let (unit, after) = after.split_at(end);
    if unit.is_empty() {
        let hint = format!("write \"{number}s\", or another of the units us, ms, s, m, h, d");
        return Err(Wrong::hinted(format!("needs a unit, found `{text}`"), hint));
    }
    match UNITS.iter().find(|it| it.0 == unit) {
        Some(&(_, micros)) => Ok((number, micros, after)),
        None => Err(unknown_unit(unit)),
    }
}

fn unknown_unit(unit: &str) -> Wrong {
    let other = OTHER_NAMES.iter().find(|it| it.0 == unit).map(|it| it.1);
    let near = other.or_else(|| closest(unit, UNITS.iter().map(|it| it.0)));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the units are us, ms, s, m, h, d".to_owned(),
    };
    Wrong::hinted(format!("has an unknown unit `{unit}`"), hint)
}

/// No fractions: says the same in whole numbers where it can.
fn fraction(text: &str) -> Wrong {
    let wrong = format!("must be in whole numbers, found `{text}`");
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let whole = number.trim().replace(',', ".").parse::<f64>().ok().and_then(|number| {
        let unit = UNITS.iter().find(|it| it.0 == unit.trim())?.1;
        let seconds = Duration::from_micros(unit).as_secs_f64() * number;
        Duration::try_from_secs_f64(seconds).ok().map(|it| Duration::from_millis(millis(it)))
    });
    match whole {
        Some(whole) if !whole.is_zero() => {
            Wrong::hinted(wrong, format!("write \"{}\"", print(whole)))
        }
        Some(_) | None => Wrong::hinted(wrong, "use a smaller unit: us, ms, s, m, h, d"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn too_long() -> Wrong {
    Wrong::new(format!("must be at most {LONGEST_DAYS}d"))
}

/// Writes a duration so that [`parse`] reads it again (microseconds are the finest).
pub fn print(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit) in UNITS {
        let number = rest / unit;
        if number > 0 {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(text, "{space}{number}{name}");
            rest -= number * unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> u64 {
        u64::try_from(parse(text).unwrap().as_micros()).unwrap()
    }

    fn wrong(text: &str) -> String {
        let wrong = parse(text).unwrap_err();
        format!("{} ({})", wrong.text, wrong.hint.unwrap_or_default())
    }

    #[test]
    fn units_are_read_alone_and_combined() {
        assert_eq!(micros("3us"), 3);
        assert_eq!(micros("500ms"), 500_000);
        assert_eq!(micros("10s"), 10_000_000);
        assert_eq!(micros("2m"), 120_000_000);
        assert_eq!(micros("1h"), 3_600_000_000);
        assert_eq!(micros("1d"), 86_400_000_000);
        assert_eq!(micros("1m 30s"), 90_000_000);
        assert_eq!(micros("1m30s"), 90_000_000);
        assert_eq!(micros(" 1d  2h 3m 4s 5ms 6us "), 93_784_005_006);
        assert_eq!(micros("0s"), 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            wrong("5"),
            "needs a unit, found `5` (write \"5s\", or another of the units us, ms, s, m, h, d)"
        );
        assert_eq!(wrong("1.5s"), "must be in whole numbers, found `1.5s` (write \"1s 500ms\")");
        assert_eq!(wrong("5min"), "has an unknown unit `min` (did you mean `m`?)");
        assert_eq!(
            wrong("30s 1m"),
            "must name each unit once, the longest first, found `30s 1m` (write \"1m 30s\")"
        );
        assert_eq!(wrong("36501d"), "must be at most 36500d ()");
        assert_eq!(wrong("99999999999999999999999s"), "must be at most 36500d ()");
        assert_eq!(wrong("9999999999999999999d"), "must be at most 36500d ()");
        assert!(wrong("").starts_with("must be a duration, found an empty text"));
        assert!(wrong("-5s").starts_with("must be a duration, found `-5s`"));
        assert!(wrong("soon").starts_with("must be a duration, found `soon`"));
        assert!(wrong("5 x").starts_with("has an unknown unit `x`"));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["0s", "1us", "1ms 1us", "350ms", "1m 30s", "1d 1h 1m 1s 1ms 1us", "36500d"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
        assert_eq!(print(Duration::from_secs(90)), "1m 30s");
    }
}
