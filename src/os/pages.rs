//! The pages of the program itself, which are most of what a small keepup takes.

#![expect(unsafe_code, reason = "only what is read again from its file is forgotten")]

use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Gives back what only a start needs: pages that the allocator has left free, and those of the
/// program. What is used again comes back at its next use, from the page cache.
pub fn forget() {
    give_back();
    // Without /proc all stays as it is, which is no harm.
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (address, length) in unchanged(&maps) {
        // SAFETY: it is not writable and the same as in its file, from which it is read again.
        let _ = unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) };
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: what it gives back holds nothing; it takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

/// The mappings that are the same as in their files: code and constants, but neither what was
/// written at the start and protected then, nor code with a debugger's breakpoints.
///
/// Source: `proc_pid_smaps(5)`.
fn unchanged(maps: &str) -> Vec<(NonNull<c_void>, usize)> {
    let mut found = Vec::new();
    let (mut mapping, mut has_copies) = (None, true);
    for line in maps.lines() {
        match line.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("Anonymous", size)) => has_copies = size != "0 kB",
            Some(("Swap", "0 kB")) if !has_copies => found.extend(mapping.take()),
            _ if line.starts_with(|it: char| it.is_ascii_uppercase()) => {}
            _ => (mapping, has_copies) = (of_file(line), true),
        }
    }
    found
}

/// The mapping of a line, if it is of a file, its own, and not writable.
fn of_file(line: &str) -> Option<(NonNull<c_void>, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !matches!(fields.next()?, "r-xp" | "r--p") || !fields.nth(3)?.starts_with('/') {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let address = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
    Some((address, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(maps: &str) -> Vec<(usize, usize)> {
        unchanged(maps)
            .iter()
            .map(|(address, length)| (address.as_ptr() as usize, *length))
            .collect()
    }

    #[test]
    fn what_is_the_same_as_in_a_file_and_nothing_else() {
        let (start, length) = (0x0040_0000, 0x1000);
        let with = |line: &str, rest: &str| found(&format!("{line}\nRss: 4 kB\n{rest}"));
        let clean = "Anonymous:             0 kB\nSwap:                  0 kB\nVmFlags: rd";
        for line in [
            "00400000-00401000 r-xp 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 r--p 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 r--p 00000000 fe:00 77 /usr/bin/keepup (deleted)",
        ] {
            assert_eq!(with(line, clean), vec![(start, length)], "{line}");
            for copies in [
                "Anonymous: 4 kB\nSwap: 0 kB",
                "Anonymous: 0 kB\nSwap: 4 kB",
                "Anonymous: 0 kB",
                "Swap: 0 kB",
                "",
            ] {
                assert_eq!(with(line, copies), vec![], "{line}\n{copies}");
                let next = "00500000-00501000 rw-p 00000000 fe:00 77 /usr/bin/keepup";
                assert_eq!(with(line, &format!("{copies}\n{next}\n{clean}")), vec![], "{copies}");
            }
        }
        for other in [
            "00400000-00401000 rw-p 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 r--s 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 r-xp 00000000 00:00 0 ",
            "7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]",
            "",
        ] {
            assert_eq!(with(other, clean), vec![], "{other}");
        }
    }

    #[test]
    fn a_program_that_forgot_its_pages_runs_on() {
        let code = |maps: &str| maps.lines().find(|it| it.contains("r-xp")).and_then(of_file);
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = maps.lines().skip_while(|it| !it.contains("r-xp"));
            let line = lines.find_map(|it| it.strip_prefix("Rss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u32>().unwrap()
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let (address, length) = code(&maps).unwrap();
        // SAFETY: it is only read.
        unsafe { madvise(address, length, MmapAdvise::MADV_POPULATE_READ) }.unwrap();
        let before = resident();
        forget();
        let after = resident();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }
}
