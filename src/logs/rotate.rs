//! When a log is rotated, and what is renamed and removed then.
//!
//! `api.log` becomes `api.log.1`, the newest, and so on up to `keep`. Every step leaves a folder
//! from which the next rotation goes on, so a crash between two steps loses nothing: it leaves a
//! gap in the numbers, which the next rotation fills.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memchr::memchr;
use nix::libc::{O_NOFOLLOW, O_PATH};

use super::backlog::LINE_MAX;

/// Freeing a file of this size takes a millisecond or so, and longer while it is written back.
const LARGE: u64 = 1 << 20;

/// One step of a rotation. File 0 is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This file is given up.
    Remove(u32),
    /// This file becomes that one; what stood there is given up.
    Rename { from: u32, to: u32 },
}

/// How much of `bytes` belongs into a file that has `size` bytes already; `None`: it is full, and
/// the rest belongs into the next one. A file is full at the first line end at or past `size_max`,
/// and in a longer line after at most [`LINE_MAX`] more bytes.
pub(super) fn piece(size: u64, line_start: bool, size_max: u64, bytes: &[u8]) -> Option<usize> {
    let bound = size_max.saturating_add(LINE_MAX as u64);
    if size != 0 && (bound <= size || size_max <= size && line_start) {
        return None;
    }
    let clamp = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
    let first = clamp(size_max.saturating_sub(size).saturating_sub(1));
    let last = clamp(bound - size);
    Some(memchr(b'\n', &bytes[first..last]).map_or(last, |end| first + end + 1))
}

/// What to do, in this order, with the current file and the rotated ones of these numbers.
pub(super) fn steps(numbers: &BTreeSet<u32>, keep: u32) -> Vec<Step> {
    let mut steps: Vec<Step> =
        numbers.iter().rev().filter(|&&it| keep < it).map(|&it| Step::Remove(it)).collect();
    if keep == 0 {
        steps.push(Step::Remove(0));
        return steps;
    }
    let free = (1..keep).find(|it| !numbers.contains(it)).unwrap_or(keep);
    steps.extend((1..=free).rev().map(|to| Step::Rename { from: to - 1, to }));
    steps
}

/// The numbers after these steps.
pub(super) fn after(numbers: &BTreeSet<u32>, steps: &[Step]) -> BTreeSet<u32> {
    let mut left = numbers.clone();
    for step in steps {
        match *step {
            Step::Remove(number) => {
                left.remove(&number);
            }
            Step::Rename { from, to } => {
                left.remove(&from);
                left.insert(to);
            }
        }
    }
    left
}

/// The path of a rotated file; of the current one for 0.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// The numbers of the rotated files beside `path`.
pub(super) fn scan(path: &Path) -> io::Result<BTreeSet<u32>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(BTreeSet::new());
    };
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.file_name();
        if let Some(rest) = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())
            && let Some(number) = number(rest)
        {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

/// Reads `.12`, and nothing else that could mean 12.
fn number(suffix: &[u8]) -> Option<u32> {
    let digits = suffix.strip_prefix(b".")?;
    let plain = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// Performs the steps. A file that is gone already is no error: somebody else removed it.
/// Returns the large ones that were given up, still open: letting go of them is what takes time.
pub(super) fn perform(path: &Path, steps: &[Step]) -> io::Result<Vec<File>> {
    let mut doomed = Vec::new();
    for step in steps {
        let done = match *step {
            Step::Remove(number) => {
                let victim = numbered(path, number);
                doomed.extend(hold(&victim));
                std::fs::remove_file(victim)
            }
            Step::Rename { from, to } => {
                let victim = numbered(path, to);
                doomed.extend(hold(&victim));
                std::fs::rename(numbered(path, from), victim)
            }
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(doomed)
}

/// Keeps a large file's content from being freed when its name goes.
fn hold(path: &Path) -> Option<File> {
    let file = OpenOptions::new().read(true).custom_flags(O_PATH | O_NOFOLLOW).open(path).ok()?;
    file.metadata().is_ok_and(|it| LARGE <= it.len()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(numbers: &[u32], keep: u32) -> String {
        let numbers = numbers.iter().copied().collect();
        let tell = |step: &Step| match step {
            Step::Remove(number) => format!("-{number}"),
            Step::Rename { from, to } => format!("{from}>{to}"),
        };
        steps(&numbers, keep).iter().map(tell).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_oldest_moves_first() {
        assert_eq!(told(&[], 3), "0>1");
        assert_eq!(told(&[1], 3), "1>2 0>1");
        assert_eq!(told(&[1, 2], 3), "2>3 1>2 0>1");
        assert_eq!(told(&[1, 2, 3], 3), "2>3 1>2 0>1");
        assert_eq!(told(&[1], 1), "0>1");
    }

    #[test]
    fn a_gap_is_filled_and_what_is_behind_it_stays() {
        assert_eq!(told(&[2, 3], 5), "0>1");
        assert_eq!(told(&[1, 3], 5), "1>2 0>1");
    }

    #[test]
    fn what_exceeds_keep_is_removed() {
        assert_eq!(told(&[1, 2, 3, 9], 2), "-9 -3 1>2 0>1");
        assert_eq!(told(&[1, 2], 0), "-2 -1 -0");
        assert_eq!(told(&[], 0), "-0");
    }

    #[test]
    fn a_crash_after_any_step_loses_nothing_but_the_oldest() {
        for keep in 1..6 {
            for mask in 0..64_u32 {
                let numbers: BTreeSet<u32> =
                    (1..7).filter(|it| mask >> (it - 1) & 1 == 1).collect();
                let all = steps(&numbers, keep);
                for done in 0..=all.len() {
                    let left = after(&numbers, &all[..done]);
                    let lost = numbers.len() + 1 - left.len() - usize::from(done < all.len());
                    let surplus = numbers.iter().filter(|&&it| keep < it).count();
                    let full = (1..=keep).all(|it| numbers.contains(&it));
                    assert!(lost <= surplus + usize::from(full), "{numbers:?} {keep} {done}");
                    let again = after(&left, &steps(&left, keep));
                    assert!(again.iter().all(|&it| it <= keep), "{numbers:?} {keep} {done}");
                    assert!(again.contains(&1));
                }
            }
        }
    }

    #[test]
    fn only_plain_numbers_count() {
        assert_eq!(number(b".1"), Some(1));
        assert_eq!(number(b".12"), Some(12));
        for other in
            [&b""[..], b".", b".0", b".01", b".1x", b".+1", b"1", b".99999999999", b".1.gz"]
        {
            assert_eq!(number(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_file_ends_at_the_first_line_end_at_or_past_its_size() {
        assert_eq!(piece(0, true, 10, b"abc\ndef\n"), Some(8));
        assert_eq!(piece(0, true, 4, b"abc\ndef\n"), Some(4));
        assert_eq!(piece(0, true, 5, b"abc\ndef\n"), Some(8));
        assert_eq!(piece(8, true, 8, b"x\n"), None);
        assert_eq!(piece(9, false, 8, b"rest\nnext\n"), Some(5));
        assert_eq!(piece(9, false, 8, b"rest"), Some(4));
        assert_eq!(piece(0, true, 0, b"a\nb\n"), Some(2), "even then every file has a line");
        assert_eq!(piece(3, true, u64::MAX, b"a\nb\n"), Some(4));
    }

    #[test]
    fn a_long_line_is_split_so_that_a_file_is_bounded() {
        let long = vec![b'x'; 3 * LINE_MAX];
        assert_eq!(piece(0, true, 10, &long), Some(10 + LINE_MAX));
        assert_eq!(piece(10 + LINE_MAX as u64, false, 10, &long), None);
    }
}
