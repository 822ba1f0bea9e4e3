//! Sizes as people write them: `50MB` (10ⁿ) and `1MiB` (2ⁿ).

use super::wrong::{Wrong, closest};

/// The units, with their bytes; the order in which [`print()`] tries them.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a size in bytes; zero is one.
pub fn parse(text: &str) -> Result<u64, Wrong> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(Wrong::hinted(
            format!("must be a size, found `{text}`"),
            "write a number and a unit, as in \"50MB\" or \"1MiB\"",
        ));
    }
    if unit.starts_with(['.', ',']) {
        return Err(Wrong::hinted(
            format!("must be a whole number, found `{text}`"),
            "use a smaller unit: B, kB, MB, KiB, MiB",
        ));
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        let hint =
            format!("write \"{number}B\", or another of the units B, kB, MB, GB, KiB, MiB, GiB");
        return Err(Wrong::hinted(format!("needs a unit, found `{text}`"), hint));
    }
    let Some(&(_, bytes)) = UNITS.iter().find(|it| it.0 == unit) else {
        return Err(unknown_unit(unit));
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(bytes))
        .filter(|&size| i64::try_from(size).is_ok())
        .ok_or_else(|| Wrong::new(format!("must be below 2^63 bytes, found `{text}`")))
}

fn unknown_unit(unit: &str) -> Wrong {
    let same = UNITS.iter().map(|it| it.0).find(|it| it.eq_ignore_ascii_case(unit));
    let hint = match unit {
        "k" | "K" | "m" | "M" | "g" | "G" => {
            let big = unit.to_ascii_uppercase();
            let small = if big == "K" { "k" } else { &big };
            format!("write `{small}B` (powers of ten) or `{big}iB` (powers of two)")
        }
        _ => match same.or_else(|| closest(unit, UNITS.iter().map(|it| it.0))) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the units are B, kB, MB, GB, KiB, MiB, GiB".to_owned(),
        },
    };
    Wrong::hinted(format!("has an unknown unit `{unit}`"), hint)
}

/// Writes a size in the largest unit that divides it, so that [`parse`] reads it again.
pub fn print(bytes: u64) -> String {
    let unit = UNITS.iter().find(|it| bytes >= it.1 && bytes.is_multiple_of(it.1));
    match unit {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0B".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let wrong = parse(text).unwrap_err();
        format!("{} ({})", wrong.text, wrong.hint.unwrap_or_default())
    }

    #[test]
    fn units_are_powers_of_ten_or_two() {
        let read = |text| parse(text).unwrap();
        assert_eq!(read("7B"), 7);
        assert_eq!(read("1kB"), 1_000);
        assert_eq!(read("50MB"), 50_000_000);
        assert_eq!(read("2GB"), 2_000_000_000);
        assert_eq!(read("1KiB"), 1024);
        assert_eq!(read("1MiB"), 1_048_576);
        assert_eq!(read("1 GiB"), 1_073_741_824);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            wrong("50"),
            "needs a unit, found `50` \
             (write \"50B\", or another of the units B, kB, MB, GB, KiB, MiB, GiB)"
        );
        assert_eq!(wrong("1mb"), "has an unknown unit `mb` (did you mean `MB`?)");
        assert_eq!(
            wrong("1M"),
            "has an unknown unit `M` (write `MB` (powers of ten) or `MiB` (powers of two))"
        );
        assert!(wrong("1.5GB").starts_with("must be a whole number"));
        assert!(wrong("big").starts_with("must be a size"));
        assert!(wrong("99999999999GiB").starts_with("must be below"));
        assert!(wrong("99999999999999999999999B").starts_with("must be below"));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["0B", "7B", "1kB", "50MB", "1MiB", "1GiB", "1GB", "1536MiB", "1023B"] {
            assert_eq!(print(parse(text).unwrap()), text);
        }
    }
}
