//! When a log is rotated, and what is renamed and removed then.
//!
//! `api.log` becomes `api.log.1`, the newest, and so on up to `keep`. Every step leaves a folder
//! from which the next rotation goes on, so a crash between two steps loses nothing: it leaves a
//! gap in the numbers, which the next rotation fills.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memchr::memchr;
use nix::libc::{O_NOFOLLOW, O_PATH};

use super::backlog::LINE_MAX;

/// Freeing a file of this size takes a millisecond or so, and longer while it is written back.
const LARGE: u64 = 1 << 20;
/// What the name of a compressed file ends with.
const PACKED: &str = ".gz";

/// The form in which a rotated file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    /// As it was written.
    Plain,
    /// Compressed, under its name and `.gz`.
    Packed,
}

/// The rotated files beside a log, by number. One that stands there in both forms was compressed
/// whole before a crash; the compressed form counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) kept: BTreeMap<u32, Kept>,
    /// Those that stand there in both forms.
    pub(super) twice: Vec<u32>,
}

/// One step of a rotation. File 0 is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This file is given up.
    Remove(u32, Kept),
    /// This file becomes that one, in its form; what stood there in it is given up.
    Rename { from: u32, to: u32, kept: Kept },
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
pub(super) fn steps(numbers: &Numbers, keep: u32) -> Vec<Step> {
    let kept = &numbers.kept;
    let mut steps: Vec<Step> =
        numbers.twice.iter().map(|&it| Step::Remove(it, Kept::Plain)).collect();
    let surplus = kept.iter().rev().filter(|it| keep < *it.0);
    steps.extend(surplus.map(|(&number, &form)| Step::Remove(number, form)));
    if keep == 0 {
        steps.push(Step::Remove(0, Kept::Plain));
        return steps;
    }
    let form = |number| kept.get(&number).copied().unwrap_or(Kept::Plain);
    let free = (1..keep).find(|it| !kept.contains_key(it)).unwrap_or(keep);
    if let Some(&last) = kept.get(&free)
        && last != form(free - 1)
    {
        steps.push(Step::Remove(free, last));
    }
    let renames = (1..=free).rev();
    steps.extend(renames.map(|to| Step::Rename { from: to - 1, to, kept: form(to - 1) }));
    steps
}

/// What to remove of these rotated files, newest first, so that they have `room` bytes at most.
pub(super) fn beyond(files: &[(u32, Kept, u64)], room: u64) -> Vec<Step> {
    let mut sum = 0_u64;
    let mut full = false;
    let mut steps = Vec::new();
    for &(number, kept, size) in files {
        sum = sum.saturating_add(size);
        full |= room < sum;
        if full {
            steps.insert(0, Step::Remove(number, kept));
        }
    }
    steps
}

/// The numbers after these steps.
pub(super) fn after(numbers: &Numbers, steps: &[Step]) -> Numbers {
    let mut left = numbers.clone();
    for step in steps {
        match *step {
            Step::Remove(number, Kept::Plain) if left.twice.contains(&number) => {
                left.twice.retain(|it| *it != number);
            }
            Step::Remove(number, _) => {
                left.kept.remove(&number);
            }
            Step::Rename { from, to, kept } => {
                left.kept.remove(&from);
                left.kept.insert(to, kept);
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

/// The path of a rotated file in this form.
pub(super) fn formed(path: &Path, number: u32, kept: Kept) -> PathBuf {
    let plain = numbered(path, number);
    match kept {
        Kept::Plain => plain,
        Kept::Packed => {
            let mut name = plain.into_os_string();
            name.push(PACKED);
            PathBuf::from(name)
        }
    }
}

/// The rotated files beside `path`.
pub(super) fn scan(path: &Path) -> io::Result<Numbers> {
    let mut numbers = Numbers::default();
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(numbers);
    };
    let mut plain = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let Some(rest) = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()) else {
            continue;
        };
        if let Some(number) = rest.strip_suffix(PACKED.as_bytes()).and_then(number) {
            numbers.kept.insert(number, Kept::Packed);
        } else if let Some(number) = number(rest) {
            plain.push(number);
        }
    }
    for number in plain {
        match numbers.kept.entry(number) {
            Entry::Occupied(_) => numbers.twice.push(number),
            Entry::Vacant(free) => {
                free.insert(Kept::Plain);
            }
        }
    }
    Ok(numbers)
}

/// The rotated files with their sizes, newest first.
pub(super) fn sizes(path: &Path, numbers: &Numbers) -> Vec<(u32, Kept, u64)> {
    let size = |(&number, &kept): (&u32, &Kept)| {
        let meta = std::fs::symlink_metadata(formed(path, number, kept));
        (number, kept, meta.map_or(0, |it| it.len()))
    };
    numbers.kept.iter().map(size).collect()
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
            Step::Remove(number, kept) => {
                let victim = formed(path, number, kept);
                doomed.extend(hold(&victim));
                std::fs::remove_file(victim)
            }
            Step::Rename { from, to, kept } => {
                let victim = formed(path, to, kept);
                doomed.extend(hold(&victim));
                std::fs::rename(formed(path, from, kept), victim)
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

    fn numbers(plain: &[u32], packed: &[u32]) -> Numbers {
        let plain = plain.iter().map(|it| (*it, Kept::Plain));
        let packed = packed.iter().map(|it| (*it, Kept::Packed));
        Numbers { kept: plain.chain(packed).collect(), twice: Vec::new() }
    }

    fn tell(steps: &[Step]) -> String {
        let form = |kept| if kept == Kept::Packed { "z" } else { "" };
        let tell = |step: &Step| match *step {
            Step::Remove(number, kept) => format!("-{number}{}", form(kept)),
            Step::Rename { from, to, kept } => format!("{from}>{to}{}", form(kept)),
        };
        steps.iter().map(tell).collect::<Vec<_>>().join(" ")
    }

    fn told(plain: &[u32], keep: u32) -> String {
        tell(&steps(&numbers(plain, &[]), keep))
    }

    #[test]
    fn compressed_files_move_in_their_form() {
        let told =
            |plain: &[u32], packed: &[u32], keep| tell(&steps(&numbers(plain, packed), keep));
        assert_eq!(told(&[1], &[2, 3], 5), "3>4z 2>3z 1>2 0>1");
        assert_eq!(told(&[1, 2], &[3], 3), "-3z 2>3 1>2 0>1");
        assert_eq!(told(&[1], &[2, 3], 3), "2>3z 1>2 0>1");
        assert_eq!(told(&[], &[1, 2], 1), "-2z -1z 0>1");
        let mut both = numbers(&[1], &[2]);
        both.twice.push(2);
        assert_eq!(tell(&steps(&both, 5)), "-2 2>3z 1>2 0>1");
    }

    #[test]
    fn what_exceeds_the_total_goes_from_the_oldest_on() {
        let files = [(1, Kept::Plain, 10), (2, Kept::Packed, 5), (3, Kept::Packed, 5)];
        assert_eq!(tell(&beyond(&files, 20)), "");
        assert_eq!(tell(&beyond(&files, 19)), "-3z");
        assert_eq!(tell(&beyond(&files, 14)), "-3z -2z");
        assert_eq!(tell(&beyond(&files, 0)), "-3z -2z -1");
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
        for (keep, mask) in (1..6).flat_map(|keep| (0..729_u32).map(move |mask| (keep, mask))) {
            let digit = |it: u32| mask / 3_u32.pow(it - 1) % 3;
            let of = |wanted| (1..7).filter(|it| digit(*it) == wanted).collect::<Vec<u32>>();
            let numbers = numbers(&of(1), &of(2));
            let all = steps(&numbers, keep);
            for done in 0..=all.len() {
                let left = after(&numbers, &all[..done]);
                let gone = usize::from(done < all.len());
                let lost = numbers.kept.len() + 1 - left.kept.len() - gone;
                let surplus = numbers.kept.keys().filter(|&&it| keep < it).count();
                let full = (1..=keep).all(|it| numbers.kept.contains_key(&it));
                assert!(lost <= surplus + usize::from(full), "{numbers:?} {keep} {done}");
                let again = after(&left, &steps(&left, keep));
                assert!(again.kept.keys().all(|&it| it <= keep), "{numbers:?} {keep} {done}");
                assert_eq!(again.kept.get(&1), Some(&Kept::Plain));
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
