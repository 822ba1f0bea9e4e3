//! The files of one log, opened: the current one, and the rotated ones behind it.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use memchr::memrchr_iter;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::gzip::Mark;
use super::rotate::{self, Kept};

/// Read at once when lines are counted from the end.
const BLOCK: usize = 32 << 10;
/// How often the folder is looked at while it is being rotated.
const LOOKS_MAX: usize = 16;

/// One of a log's files, read from a place on.
pub(super) struct Part {
    file: File,
    packed: Option<Box<MultiGzDecoder<BufReader<File>>>>,
    mark: Option<Mark>,
    at: u64,
}

impl Part {
    /// Opens a file of a log; `None`: there is none, or it is no regular file.
    fn open(path: &Path, kept: Kept) -> io::Result<Option<Part>> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        match kept {
            Kept::Plain => Ok(Some(Part { file, packed: None, mark: None, at: 0 })),
            Kept::Packed => {
                let decoder = MultiGzDecoder::new(BufReader::new(file.try_clone()?));
                let mark = decoder.header().and_then(|it| Mark::parse(it.comment()?));
                Ok(Some(Part { file, packed: Some(Box::new(decoder)), mark, at: 0 }))
            }
        }
    }

    /// What it keeps whatever it is called, once nothing is written to it any more.
    fn mark(&self) -> Option<Mark> {
        match self.packed {
            Some(_) => self.mark,
            None => self.metadata().ok().map(|it| Mark::of(&it)),
        }
    }

    /// Says whether both are the same file, perhaps in another form.
    fn is(&self, other: &Part) -> bool {
        if self.packed.is_none() && other.packed.is_none() {
            return self.id() == other.id();
        }
        self.mark().is_some() && self.mark() == other.mark()
    }

    fn id(&self) -> Option<(u64, u64)> {
        self.metadata().ok().map(|it| (it.dev(), it.ino()))
    }

    /// It was written before the other was for the last time.
    fn is_older(&self, other: &Part) -> bool {
        let changed = |it: &Part| it.mark().map(Mark::changed);
        changed(self) < changed(other)
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Reads on; 0 at its end, which may move.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.packed {
            Some(decoder) => decoder.read(buffer)?,
            None => self.file.read_at(buffer, self.at)?,
        };
        self.at += count as u64;
        // Somebody emptied it, and it grows anew.
        if count == 0 && self.packed.is_none() && self.metadata()?.len() < self.at {
            self.at = 0;
        }
        Ok(count)
    }

    /// Reads it from its beginning again.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.at = 0;
        if self.packed.is_some() {
            use std::io::Seek;
            let mut file = self.file.try_clone()?;
            file.rewind()?;
            self.packed = Some(Box::new(MultiGzDecoder::new(BufReader::new(file))));
        }
        Ok(())
    }

    /// Has it read from where its last `lines` lines begin, which is faster than counting them from
    /// the beginning; returns how many there are. `None`: that cannot be done with this file.
    pub(super) fn skip_to_last(&mut self, lines: usize) -> io::Result<Option<usize>> {
        if self.packed.is_some() {
            return Ok(None);
        }
        let length = self.metadata()?.len();
        if lines == 0 {
            self.at = length;
            return Ok(Some(0));
        }
        let (mut end, mut have) = (length, 0);
        let mut block = vec![0; BLOCK];
        while 0 < end {
            let count = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
            let start = end - count as u64;
            self.file.read_exact_at(&mut block[..count], start)?;
            for found in memrchr_iter(b'\n', &block[..count]) {
                let next = start + found as u64 + 1;
                // The end of the last line is no beginning of another.
                if next < length {
                    have += 1;
                }
                if have == lines {
                    self.at = next;
                    return Ok(Some(lines));
                }
            }
            end = start;
        }
        self.at = 0;
        Ok(Some(have + usize::from(0 < length)))
    }
}

/// All files of the log at `path`, newest first; only those that came after `last`, if there is
/// one. A rotation meanwhile makes it look again, so that no file is missed.
pub(super) fn after(path: &Path, last: Option<&Part>) -> io::Result<Vec<Part>> {
    let mut parts = look(path, last)?;
    for _ in 0..LOOKS_MAX {
        let now = Part::open(path, Kept::Plain)?;
        let newest = parts.first().or(last).and_then(Part::id);
        if newest == now.as_ref().and_then(Part::id) {
            break;
        }
        parts = look(path, last)?;
    }
    Ok(parts)
}

fn look(path: &Path, last: Option<&Part>) -> io::Result<Vec<Part>> {
    let is_last = |part: &Part| last.is_some_and(|last| part.is(last));
    let mut parts: Vec<Part> = Vec::new();
    parts.extend(Part::open(path, Kept::Plain)?);
    if parts.first().is_some_and(is_last) {
        return Ok(Vec::new());
    }
    let numbers = match rotate::scan(path) {
        // Without a folder there are no files, for now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => rotate::Numbers::default(),
        found => found?,
    };
    // What moves between the look at the folder and that at the file is found one further on.
    let next = numbers.kept.keys().map(|it| it.saturating_add(1));
    for number in numbers.kept.keys().copied().chain(next).collect::<BTreeSet<u32>>() {
        let plain = Part::open(&rotate::numbered(path, number), Kept::Plain)?;
        let part = match plain {
            Some(part) => Some(part),
            None => Part::open(&rotate::formed(path, number, Kept::Packed), Kept::Packed)?,
        };
        let Some(part) = part else { continue };
        if is_last(&part) {
            return Ok(parts);
        }
        if parts.iter().all(|it| !it.is(&part)) {
            parts.push(part);
        }
    }
    // The last one is gone: what was written before it was read before it.
    parts.retain(|it| last.is_none_or(|last| !it.is_older(last)));
    Ok(parts)
}
