//! The pages of the program itself, which are most of what a small keepup takes.

#![expect(unsafe_code, reason = "only code, which is read again from its file, is forgotten")]

use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Has the kernel forget which pages of the program were needed so far: those that only a start
/// needs never come back, and the others do at their next use, from the page cache.
pub fn forget() {
    // Without /proc all stays as it is, which is no harm.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (address, length) in maps.lines().filter_map(code) {
        // SAFETY: what is executable, not writable, and from a file is read again from that file;
        // nothing but a debugger's breakpoints can differ from it.
        let _ = unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// The mapping of a line, if it holds code of a file.
///
/// Source: `proc_pid_maps(5)`.
fn code(line: &str) -> Option<(NonNull<c_void>, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" || !fields.nth(3)?.starts_with('/') {
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

    fn found(line: &str) -> Option<(usize, usize)> {
        code(line).map(|(address, length)| (address.as_ptr() as usize, length))
    }

    #[test]
    fn code_of_files_and_nothing_else() {
        let (start, length) = (0x0040_0000, 0x1000);
        let line = "00400000-00401000 r-xp 00000000 fe:00 77 /usr/bin/keepup";
        assert_eq!(found(line), Some((start, length)));
        assert_eq!(found(&format!("{line} (deleted)")), Some((start, length)));
        for other in [
            "00400000-00401000 r--p 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 rwxp 00000000 fe:00 77 /usr/bin/keepup",
            "00400000-00401000 r-xp 00000000 00:00 0 ",
            "7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_that_forgot_its_pages_runs_on() {
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut lines = maps.lines().skip_while(|it| code(it).is_none());
            let line = lines.find_map(|it| it.strip_prefix("Rss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u32>().unwrap()
        };
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let (address, length) = maps.lines().find_map(code).unwrap();
        // SAFETY: it is only read.
        unsafe { madvise(address, length, MmapAdvise::MADV_POPULATE_READ) }.unwrap();
        let before = resident();
        forget();
        let after = resident();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }
}
