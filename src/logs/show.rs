//! Logs as people read them: lines of all files of a log, rotated and compressed ones too, and then
//! each as it comes.
//!
//! It must never lose or repeat a line because files are renamed meanwhile. It reads files alone,
//! so that it works without a running keepup; its calls can hang as a disk can.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use memchr::{memchr, memrchr};
use regex::bytes::Regex;

use super::file::reason;
use super::parts::{Part, after};

/// Read at once.
const BLOCK: usize = 64 << 10;
/// A line longer than this is shown in pieces.
const LINE_MAX: usize = 1 << 20;
/// Bytes that one call brings, or little more.
const PIECE: usize = 256 << 10;
/// The time that begins a line in a file of format text: `2026-01-02T03:04:05.678901Z`.
const TIME_LENGTH: usize = 27;
/// What stands before it in one of format json.
const JSON_START: &[u8] = b"{\"time\":\"";

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The last so many; `None`: all.
    pub lines: Option<usize>,
    /// Those that are not older.
    pub since: Option<Duration>,
    /// Those in which this is found.
    pub grep: Option<Regex>,
    /// How they are dressed.
    pub dress: Dress,
}

/// How lines are dressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dress {
    /// As they are.
    #[default]
    Bare,
    /// `api | line`
    Named,
    /// One JSON object a line.
    Json,
}

/// A log to be shown.
#[derive(Clone, Debug)]
pub struct Source {
    /// The service's name.
    pub name: String,
    /// The current file.
    pub path: PathBuf,
    /// Lines that are in no file yet.
    pub unwritten: Vec<u8>,
}

/// Lines on their way to somebody.
pub struct Show {
    readers: Vec<Reader>,
    /// Whose turn it is.
    turn: usize,
}

impl std::fmt::Debug for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Show").field("logs", &self.readers.len()).finish_non_exhaustive()
    }
}

impl Show {
    /// Finds where to begin in each of these logs.
    ///
    /// # Errors
    ///
    /// A text for people: a file cannot be read.
    pub fn open(sources: Vec<Source>, ask: &Ask) -> Result<Show, String> {
        let width = sources.iter().map(|it| it.name.chars().count()).max().unwrap_or(0);
        let since = ask.since.map(time_before);
        let open = |source: Source| {
            let cannot = format!("cannot read `{}`", source.path.display());
            let filter = Filter { since: since.clone(), grep: ask.grep.clone(), seen: false };
            let dressed = Dressed { dress: ask.dress, name: source.name, width };
            let opened = Reader::open(&source.path, filter, ask.lines, dressed);
            let mut reader = opened.map_err(|it| format!("{cannot}: {}", reason(&it)))?;
            reader.unwritten = source.unwritten;
            Ok(reader)
        };
        let readers = sources.into_iter().map(open).collect::<Result<_, String>>()?;
        Ok(Show { readers, turn: 0 })
    }

    /// More lines, whole ones; nothing: there are no more for now.
    ///
    /// # Errors
    ///
    /// A text for people: a file cannot be read.
    pub fn more(&mut self) -> Result<Vec<u8>, String> {
        for _ in 0..self.readers.len() {
            let reader = &mut self.readers[self.turn];
            let out = reader.more().map_err(|it| {
                format!("cannot read `{}`: {}", reader.path.display(), reason(&it))
            })?;
            if !out.is_empty() {
                return Ok(out);
            }
            self.turn = (self.turn + 1) % self.readers.len();
        }
        Ok(Vec::new())
    }

    /// What there is when nothing more is waited for: lines without an end, and unwritten ones.
    pub fn rest(&mut self) -> Vec<u8> {
        self.readers.iter_mut().flat_map(Reader::rest).collect()
    }
}

/// Which lines are let through.
#[derive(Clone)]
struct Filter {
    since: Option<String>,
    grep: Option<Regex>,
    /// A line that is not too old was there; lines without a time go with the one before.
    seen: bool,
}

impl Filter {
    fn is_open(&self) -> bool {
        self.since.is_none() && self.grep.is_none()
    }

    fn passes(&mut self, line: &[u8]) -> bool {
        if let Some(since) = &self.since
            && let Some(time) = time_of(line)
        {
            self.seen = since.as_bytes() <= time;
        }
        (self.since.is_none() || self.seen) && self.grep.as_ref().is_none_or(|it| it.is_match(line))
    }
}

/// The moment that was so long ago, as it stands in files.
fn time_before(ago: Duration) -> String {
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    format!("{:.6}", Timestamp::try_from(then).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The time that a line of format text or json begins with.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    let time = line.strip_prefix(JSON_START).unwrap_or(line).get(..TIME_LENGTH)?;
    let plain = time[4] == b'-' && time[10] == b'T' && time[19] == b'.';
    (plain && time[TIME_LENGTH - 1] == b'Z').then_some(time)
}

/// One log, read on and on.
struct Reader {
    path: PathBuf,
    dressed: Dressed,
    filter: Filter,
    /// What is to be read, oldest first; the last one may still grow.
    parts: VecDeque<Part>,
    /// Lines that pass and are not wanted.
    skip: usize,
    /// The beginning of a line.
    begun: Vec<u8>,
    unwritten: Vec<u8>,
    buffer: Vec<u8>,
}

impl Reader {
    fn open(
        path: &Path,
        filter: Filter,
        lines: Option<usize>,
        dressed: Dressed,
    ) -> std::io::Result<Reader> {
        let mut parts = VecDeque::from(after(path, None)?);
        let mut buffer = vec![0; BLOCK];
        let skip = match lines {
            Some(lines) => keep_last(&mut parts, lines, &filter, &mut buffer)?,
            None => 0,
        };
        parts.make_contiguous().reverse();
        let (begun, unwritten) = (Vec::new(), Vec::new());
        let path = path.to_owned();
        Ok(Reader { path, dressed, filter, parts, skip, begun, unwritten, buffer })
    }

    fn more(&mut self) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            let Some(part) = self.parts.front_mut() else {
                self.parts = after(&self.path, None)?.into_iter().rev().collect();
                if self.parts.is_empty() {
                    break;
                }
                continue;
            };
            let count = part.read(&mut self.buffer)?;
            if count != 0 {
                let buffer = std::mem::take(&mut self.buffer);
                self.take(&buffer[..count], &mut out);
                self.buffer = buffer;
            } else if self.parts.len() == 1 && !self.turn_page()? {
                break;
            } else if self.parts.len() > 1 {
                self.next_part(&mut out)?;
            }
        }
        Ok(out)
    }

    /// The last file that is known is at its end: finds those that came after it.
    fn turn_page(&mut self) -> std::io::Result<bool> {
        let newer = after(&self.path, self.parts.front())?;
        self.parts.extend(newer.into_iter().rev());
        Ok(self.parts.len() > 1)
    }

    /// Nothing is written any more to a file that has a newer one; what came until then is read.
    fn next_part(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let buffer = &mut std::mem::take(&mut self.buffer);
        if let Some(mut part) = self.parts.pop_front() {
            loop {
                let count = part.read(buffer)?;
                if count == 0 {
                    break;
                }
                self.take(&buffer[..count], out);
            }
        }
        self.buffer = std::mem::take(buffer);
        Ok(())
    }

    /// Takes in what was read, and lets whole lines through.
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |it| it + 1);
            self.begun.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if self.begun.ends_with(b"\n") || LINE_MAX < self.begun.len() {
                let line = std::mem::take(&mut self.begun);
                self.line(line.strip_suffix(b"\n").unwrap_or(&line), out);
            }
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |it| it + 1);
        let (lines, rest) = bytes.split_at(whole);
        self.begun.extend_from_slice(rest);
        if self.filter.is_open() && self.skip == 0 && self.dressed.dress == Dress::Bare {
            return out.extend_from_slice(lines);
        }
        for line in lines.split_inclusive(|it| *it == b'\n') {
            self.line(&line[..line.len() - 1], out);
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if !self.filter.passes(line) {
            return;
        }
        if self.skip != 0 {
            self.skip -= 1;
            return;
        }
        self.dressed.put(line, out);
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let unwritten = std::mem::take(&mut self.unwritten);
        self.take(&unwritten, &mut out);
        let line = std::mem::take(&mut self.begun);
        if !line.is_empty() {
            self.line(&line, &mut out);
        }
        out
    }
}

/// Gives up the files before the last so many lines; returns how many lines of the first one that
/// is left are not wanted. The newest file comes first here.
fn keep_last(
    parts: &mut VecDeque<Part>,
    lines: usize,
    filter: &Filter,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    let mut have = 0;
    for nth in 0..parts.len() {
        let part = &mut parts[nth];
        let fast = if filter.is_open() { part.skip_to_last(lines - have)? } else { None };
        let found = match fast {
            Some(found) => found,
            None => count(part, filter, buffer)?,
        };
        have += found;
        if lines <= have {
            parts.truncate(nth + 1);
            break;
        }
    }
    Ok(have.saturating_sub(lines))
}

/// How many lines of this file pass; each file begins with a line, and perhaps ends within one.
fn count(part: &mut Part, filter: &Filter, buffer: &mut [u8]) -> std::io::Result<usize> {
    let (mut filter, mut begun, mut found) = (filter.clone(), Vec::new(), 0);
    loop {
        let read = part.read(buffer)?;
        if read == 0 {
            break;
        }
        for piece in buffer[..read].split_inclusive(|it| *it == b'\n') {
            begun.extend_from_slice(piece);
            if let Some(line) = begun.strip_suffix(b"\n") {
                found += usize::from(filter.passes(line));
                begun.clear();
            }
        }
    }
    part.rewind()?;
    Ok(found + usize::from(!begun.is_empty() && filter.passes(&begun)))
}

/// How the lines of one log look.
struct Dressed {
    dress: Dress,
    name: String,
    width: usize,
}

impl Dressed {
    fn put(&self, line: &[u8], out: &mut Vec<u8>) {
        let Dressed { dress, name, width } = self;
        match dress {
            Dress::Bare => out.extend_from_slice(line),
            Dress::Named => {
                // Writing into memory does not fail.
                let _ = write!(out, "{name:width$} | ");
                out.extend_from_slice(line);
            }
            Dress::Json => self.put_json(line, out),
        }
        out.push(b'\n');
    }

    fn put_json(&self, line: &[u8], out: &mut Vec<u8>) {
        if line.starts_with(JSON_START) {
            return out.extend_from_slice(line);
        }
        let (time, rest) = match time_of(line) {
            Some(time) => (std::str::from_utf8(time).ok(), &line[TIME_LENGTH..]),
            None => (None, line),
        };
        let stream = ["stdout", "stderr", "keepup"].into_iter().find(|it| {
            let after = rest.strip_prefix(b" ").and_then(|rest| rest.strip_prefix(it.as_bytes()));
            time.is_some() && after.is_some_and(|it| it.starts_with(b" "))
        });
        let message = stream.map_or(line, |it| &rest[it.len() + 2..]);
        let object = serde_json::json!({
            "time": time.filter(|_| stream.is_some()),
            "service": self.name,
            "stream": stream,
            "message": String::from_utf8_lossy(message),
        });
        let _ = write!(out, "{object}");
    }
}
