//! Lines that show an error: found where the lines are, counted for whoever wants to know.
//!
//! Costs nothing where no pattern is given. A line counts once, however often it matches, however it
//! comes in pieces, and of a long one no more than a part is kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use memchr::{memchr, memrchr};
use regex::bytes::{Regex, RegexBuilder};

use super::backlog::LINE_MAX;
use super::lock;
use crate::plan::{self, Name};

/// Of a line that is too long to be kept, so much is looked at together with what follows.
const OVERLAP: usize = 256;
/// Memory that a pattern may take.
const PATTERN_MAX: usize = 1 << 20;

/// Reads the pattern of an error line.
///
/// # Errors
///
/// What is wrong with it, for people.
pub fn pattern(text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(text);
    // Many lines are looked at together, and each of them begins and ends.
    builder.multi_line(true).size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX);
    builder.build().map_err(|error| {
        if let regex::Error::CompiledTooBig(_) = error {
            return "it is too large".to_owned();
        }
        // The last line says what, those before it where.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })
}

/// Finds error lines in what comes out of a service's pipes.
#[derive(Debug)]
pub(super) struct Finder {
    regex: Regex,
    /// Of each pipe.
    begun: Vec<Begun>,
}

/// A line whose end has not come yet.
#[derive(Clone, Debug, Default)]
struct Begun {
    bytes: Vec<u8>,
    /// It was found to be one already.
    found: bool,
}

impl Finder {
    /// `None`: nobody wants to know.
    pub(super) fn of(plan: &plan::Logs, pipes: usize) -> Option<Finder> {
        // A plan holds patterns that can be read.
        let regex = pattern(&plan.errors.as_ref()?.pattern).ok()?;
        Some(Finder { regex, begun: vec![Begun::default(); pipes] })
    }

    /// How many error lines end in what came out of this pipe.
    pub(super) fn take(&mut self, pipe: usize, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        if !self.begun[pipe].bytes.is_empty() {
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |it| it + 1);
            let begun = &mut self.begun[pipe];
            begun.more(&bytes[..end], &self.regex);
            if bytes[..end].last() == Some(&b'\n') {
                count += u64::from(begun.end(&self.regex));
            }
            bytes = &bytes[end..];
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |it| it + 1);
        let (lines, rest) = bytes.split_at(whole);
        self.begun[pipe].more(rest, &self.regex);
        count + self.lines(lines)
    }

    /// Nothing follows what has begun: how many of them are error lines.
    pub(super) fn end(&mut self) -> u64 {
        self.begun.iter_mut().map(|it| u64::from(it.end(&self.regex))).sum()
    }

    /// In whole lines, searched together: most have nothing in them.
    fn lines(&self, bytes: &[u8]) -> u64 {
        let (mut count, mut at) = (0, 0);
        while at < bytes.len()
            && let Some(found) = self.regex.find_at(bytes, at)
            && found.start() < bytes.len()
        {
            let start = memrchr(b'\n', &bytes[..found.start()]).map_or(0, |it| it + 1);
            let rest = &bytes[found.start()..];
            let end = found.start() + memchr(b'\n', rest).unwrap_or(rest.len());
            // What goes over a line's end was not found in one line.
            count += u64::from(found.end() <= end || self.regex.is_match(&bytes[start..end]));
            at = end + 1;
        }
        count
    }
}

impl Begun {
    fn more(&mut self, bytes: &[u8], regex: &Regex) {
        self.bytes.extend_from_slice(bytes);
        if LINE_MAX < self.bytes.len() {
            self.found |= regex.is_match(&self.bytes);
            self.bytes.drain(..self.bytes.len() - OVERLAP);
        }
    }

    fn end(&mut self, regex: &Regex) -> bool {
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let found = self.found || !line.is_empty() && regex.is_match(line);
        self.bytes.clear();
        self.found = false;
        found
    }
}

/// Error lines that nobody has been told of yet, by service, each with the number of its run.
#[derive(Default)]
pub(super) struct Tally {
    fresh: Mutex<HashMap<Name, (u64, u64)>>,
    call: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Tally {
    /// Has this called when there are some, once until they are taken; it must not wait.
    pub(super) fn call(&self, call: Box<dyn Fn() + Send + Sync>) {
        if self.call.set(call).is_ok()
            && !lock(&self.fresh).is_empty()
            && let Some(call) = self.call.get()
        {
            call();
        }
    }

    pub(super) fn add(&self, service: &Name, run: u64, lines: u64) {
        let mut fresh = lock(&self.fresh);
        let first = fresh.is_empty();
        let of = fresh.entry(Arc::clone(service)).or_insert((run, 0));
        // Those of a run that is over matter to nobody.
        *of = (run, if of.0 == run { of.1 + lines } else { lines });
        drop(fresh);
        if let Some(call) = self.call.get().filter(|_| first) {
            call();
        }
    }

    pub(super) fn take(&self) -> Vec<(Name, u64, u64)> {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        fresh.into_iter().map(|(name, (run, lines))| (name, run, lines)).collect()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("fresh", &self.fresh).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn finder(text: &str) -> Finder {
        let errors = plan::Errors { pattern: text.to_owned(), per_hour: None };
        let plan = plan::Logs { errors: Some(errors), ..plan::Logs::usual("/x.log".into()) };
        Finder::of(&plan, 2).unwrap()
    }

    #[test]
    fn a_line_counts_once_whatever_the_pieces() {
        let text = b"all is well\nERROR: an ERROR\nERR\nOR\n\nlast ERROR\nno\nERROR";
        for piece in 1..text.len() {
            let mut finder = finder("ERROR|CRITICAL");
            let count: u64 = text.chunks(piece).map(|it| finder.take(0, it)).sum();
            assert_eq!(count, 2, "pieces of {piece}");
            assert_eq!((finder.end(), finder.end()), (1, 0), "pieces of {piece}");
        }
    }

    #[test]
    fn what_was_found_before_anybody_asked_is_told() {
        let (tally, calls) = (Tally::default(), Arc::new(AtomicU32::new(0)));
        tally.add(&"api".into(), 1, 2);
        let called = Arc::clone(&calls);
        tally.call(Box::new(move || _ = called.fetch_add(1, Ordering::Relaxed)));
        tally.add(&"api".into(), 1, 1);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(tally.take(), [("api".into(), 1, 3)]);
    }

    #[test]
    fn the_pipes_do_not_mix() {
        let mut finder = finder("ERROR");
        assert_eq!(finder.take(0, b"ERR") + finder.take(1, b"OR\n") + finder.take(0, b"OR\n"), 1);
    }

    #[test]
    fn a_pattern_looks_at_one_line_at_a_time() {
        assert_eq!(finder("^b").take(0, b"a\nb\nab\nb\n"), 2);
        assert_eq!(finder("a$").take(0, b"a\nb\nab\nba\n"), 2);
        assert_eq!(finder(r"a\s+b").take(0, b"a\nb\na b\n"), 1);
        assert_eq!(finder(r"a[^x]*b").take(0, b"a\nb\na b\nab\n"), 2);
        assert_eq!(finder("x*").take(0, b"a\n\nb\n"), 3);
        assert_eq!(finder(r"\xff").take(0, b"\xff\n\xc3\xbf\n"), 1);
    }

    #[test]
    fn a_line_without_an_end_is_found_and_not_kept() {
        let mut finder = finder("ERROR");
        let mut count = 0;
        for piece in 0..100 {
            count += finder.take(0, &[b'x'; 10_000]);
            count += finder.take(0, if piece == 50 { b"ERR" } else { b"OR" });
        }
        assert!(finder.begun[0].bytes.capacity() < 4 * LINE_MAX);
        assert_eq!((count, finder.take(0, b"ERROR\nx\n")), (0, 1));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said_in_a_line() {
        assert_eq!(pattern("a(b").unwrap_err(), "unclosed group");
        assert_eq!(pattern(r"(\w{100}){100}").unwrap_err(), "it is too large");
    }
}
