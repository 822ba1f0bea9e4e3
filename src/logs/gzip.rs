//! A compressed log file: how it is marked, and how it is read.
//!
//! The mark in its header names the file that it was made of, so that whoever follows a log knows
//! it again; a compressed file of somebody else has none, and is read all the same.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What stays the same when a file is renamed, and survives its compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    /// An inode is used again; its last change is not.
    changed: (i64, i64),
}

const WORD: &str = "keepup";

impl Mark {
    pub(super) fn of(meta: &Metadata) -> Mark {
        let changed = (meta.mtime(), meta.mtime_nsec());
        Mark { device: meta.dev(), inode: meta.ino(), changed }
    }

    /// When the file was written for the last time.
    pub(super) fn changed(self) -> (i64, i64) {
        self.changed
    }

    /// As it stands in the header.
    pub(super) fn comment(self) -> String {
        let Mark { device, inode, changed: (seconds, nanos) } = self;
        format!("{WORD} {device} {inode} {seconds} {nanos}")
    }

    pub(super) fn parse(comment: &[u8]) -> Option<Mark> {
        let text = std::str::from_utf8(comment).ok()?;
        let mut words = text.strip_prefix(WORD)?.split_ascii_whitespace();
        let device = words.next()?.parse().ok()?;
        let inode = words.next()?.parse().ok()?;
        let changed = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Mark { device, inode, changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { device: 1, inode: 2, changed: (3, 4) };
        assert_eq!(Mark::parse(mark.comment().as_bytes()), Some(mark));
        assert_eq!(Mark::parse(b"made by somebody else"), None);
    }
}
