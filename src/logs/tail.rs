//! The last lines of a log: from its file, the one before it, and what is not written yet.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memrchr_iter;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::rotate;

/// Bytes looked at, at most; what lines are longer than that together is cut at the front.
const BYTES_MAX: usize = 1 << 20;
/// Read at once.
const BLOCK: usize = 32 << 10;

/// Knows where the last lines of a service are.
#[derive(Debug)]
pub struct Tail {
    pub(super) path: PathBuf,
    pub(super) unwritten: Vec<u8>,
    pub(super) lines: usize,
}

impl Tail {
    /// Bytes that are looked at, at most.
    pub(super) const BYTES_MAX: usize = BYTES_MAX;

    /// Reads the lines, oldest first, without their ends; an unfinished one is one, too.
    /// Can hang as a disk can, so the loop must not call it.
    pub fn read(self) -> Vec<Vec<u8>> {
        let mut bytes = self.unwritten;
        for number in 0..2 {
            prepend(&rotate::numbered(&self.path, number), &mut bytes, self.lines);
        }
        let whole = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if self.lines == 0 || bytes.is_empty() {
            return Vec::new();
        }
        let start = memrchr_iter(b'\n', whole).nth(self.lines - 1).map_or(0, |end| end + 1);
        whole[start..].split(|&it| it == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// Puts the end of this file before `bytes`, as far as it takes for so many lines.
fn prepend(path: &Path, bytes: &mut Vec<u8>, lines: usize) {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let Ok(file) = options.open(path) else { return };
    let Ok(meta) = file.metadata() else { return };
    let mut end = if meta.is_file() { meta.len() } else { 0 };
    let mut have = memrchr_iter(b'\n', bytes).count();
    while 0 < end && have <= lines && bytes.len() < BYTES_MAX {
        let count = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
        let start = end - count as u64;
        let mut block = vec![0; count];
        if file.read_exact_at(&mut block, start).is_err() {
            return;
        }
        have += memrchr_iter(b'\n', &block).count();
        block.extend_from_slice(bytes);
        *bytes = block;
        end = start;
    }
}
