//! What could not be written yet: lines up to a limit, then a count of those that were lost.
//!
//! It must never put lines out of order, tear a line that it could keep whole, or lose one without
//! counting it. No input or output happens here.

use memchr::{memchr, memchr_iter, memrchr};

/// A line longer than this may be split.
pub(super) const LINE_MAX: usize = 64 << 10;

/// Bytes in the order in which they came, and at their end at most one gap.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: usize,
    held: Vec<u8>,
    /// Bytes taken for writing that may come back; they count toward the limit.
    in_flight: usize,
    gap: Option<Gap>,
    /// The line that is coming in began in a gap that is closed: its rest is skipped.
    skipping: bool,
}

/// Lines lost after the held bytes; everything is, until the held bytes are written.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    lines: u64,
    /// The last of them has not ended yet, and is not counted in `lines`.
    open_line: bool,
}

impl Gap {
    fn swallow(&mut self, bytes: &[u8]) -> u64 {
        let Some(last) = bytes.last() else { return 0 };
        let lines = memchr_iter(b'\n', bytes).count() as u64;
        self.lines += lines;
        self.open_line = *last != b'\n';
        lines
    }
}

impl Backlog {
    pub(super) fn new(limit: u64) -> Backlog {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Backlog { limit, held: Vec::new(), in_flight: 0, gap: None, skipping: false }
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = usize::try_from(limit).unwrap_or(usize::MAX);
    }

    /// Nothing waits, neither here nor in anyone's hands.
    pub(super) fn is_clear(&self) -> bool {
        self.held.is_empty() && self.gap.is_none() && self.in_flight == 0
    }

    /// The bytes that wait, oldest first.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Puts this in the place of what waits.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        self.held = bytes.to_vec();
    }

    /// Says that `count` bytes are on their way past the backlog, which holds nothing.
    pub(super) fn pass(&mut self, count: usize) {
        self.in_flight = count;
    }

    /// Cuts off the rest of a line whose beginning was lost.
    pub(super) fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.skipping {
            return bytes;
        }
        match memchr(b'\n', bytes) {
            Some(end) => {
                self.skipping = false;
                &bytes[end + 1..]
            }
            None => &[],
        }
    }

    /// Keeps what came in, or counts it as lost; returns how many more lines are lost.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> u64 {
        let bytes = self.skip(bytes);
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> u64 {
        if let Some(gap) = &mut self.gap {
            return gap.swallow(bytes);
        }
        let room = self.limit.saturating_sub(self.held.len() + self.in_flight);
        if bytes.len() <= room {
            self.held.extend_from_slice(bytes);
            return 0;
        }
        let kept = self.cut(bytes, room);
        self.held.extend_from_slice(&bytes[..kept]);
        let mut gap = Gap::default();
        let lost = gap.swallow(&bytes[kept..]);
        if kept < bytes.len() {
            self.gap = Some(gap);
        }
        lost
    }

    /// How much of `bytes` is kept when only `room` is left; gives up a line that began here.
    fn cut(&mut self, bytes: &[u8], room: usize) -> usize {
        if let Some(end) = memrchr(b'\n', &bytes[..room]) {
            return end + 1;
        }
        if let Some(end) = memrchr(b'\n', &self.held) {
            self.held.truncate(end + 1);
            return 0;
        }
        // What is held began on disk already, so its end is worth more than the limit.
        let near = &bytes[..bytes.len().min(room + LINE_MAX)];
        memchr(b'\n', near).map_or(room, |end| end + 1)
    }

    /// Takes everything held, for writing; [`Backlog::written`] or [`Backlog::refused`] follows.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.in_flight = self.held.len();
        std::mem::take(&mut self.held)
    }

    /// What was taken or passed is written.
    pub(super) fn written(&mut self) {
        self.in_flight = 0;
    }

    /// This rest of what was taken or passed is not: it goes back before all that came since.
    pub(super) fn refused(&mut self, rest: &[u8]) -> u64 {
        self.in_flight = 0;
        let later = std::mem::take(&mut self.held);
        let later_gap = self.gap.take();
        let mut lost = self.append(rest);
        if let Some(gap) = &mut self.gap {
            lost += gap.swallow(&later);
        } else {
            self.held.extend_from_slice(&later);
        }
        match (&mut self.gap, later_gap) {
            (Some(gap), Some(after)) => {
                gap.lines += after.lines;
                gap.open_line = after.open_line;
            }
            (gap @ None, after) => *gap = after,
            (Some(_), None) => {}
        }
        lost
    }

    /// Nothing will be written any more; returns how many more lines are lost by that.
    pub(super) fn give_up(&mut self) -> u64 {
        let after = self.gap.take();
        let mut held = Gap::default();
        let lines = held.swallow(&std::mem::take(&mut self.held));
        // The last of them, if it has no end, is the first of the gap, and counted there.
        lines + u64::from(after.map_or(held.open_line, |it| it.open_line))
    }

    /// Once all is written that was held: puts the mark where the lost lines would stand.
    /// Returns how many more lines turned out to be lost; `None` when there is no gap.
    pub(super) fn close_gap(&mut self, at_line_start: bool, why: &str) -> Option<u64> {
        if !self.held.is_empty() || self.in_flight != 0 {
            return None;
        }
        let gap = self.gap.take()?;
        let more = u64::from(gap.open_line);
        self.skipping = gap.open_line;
        let lines = gap.lines + more;
        let start = if at_line_start { "" } else { "\n" };
        let noun = if lines == 1 { "line" } else { "lines" };
        self.held = format!("{start}keepup: {lines} {noun} lost ({why})\n").into_bytes();
        Some(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(backlog: &Backlog) -> String {
        String::from_utf8_lossy(backlog.held()).into_owned()
    }

    /// Writes all that is held and closes the gap, as when the disk is well again.
    fn flush(backlog: &mut Backlog) -> String {
        let mut file = Vec::new();
        loop {
            let taken = backlog.take();
            file.extend_from_slice(&taken);
            backlog.written();
            if backlog.close_gap(file.ends_with(b"\n") || file.is_empty(), "no space").is_none() {
                return String::from_utf8(file).unwrap();
            }
        }
    }

    #[test]
    fn keeps_whole_lines_up_to_the_limit_and_counts_the_rest() {
        let mut backlog = Backlog::new(10);
        assert_eq!(backlog.accept(b"one\ntwo\nthree\nfour\n"), 2);
        assert_eq!(text(&backlog), "one\ntwo\n");
        assert_eq!(backlog.accept(b"a\n"), 1, "later lines are lost although they would fit");
        assert_eq!(flush(&mut backlog), "one\ntwo\nkeepup: 3 lines lost (no space)\n");
        assert!(backlog.is_clear());
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_lost_whole_and_counted_once() {
        let mut backlog = Backlog::new(10);
        assert_eq!(backlog.accept(b"one\ntw"), 0);
        assert_eq!(backlog.accept(b"o but longer"), 0);
        assert_eq!(text(&backlog), "one\n");
        assert_eq!(flush(&mut backlog), "one\nkeepup: 1 line lost (no space)\n");
        assert_eq!(backlog.accept(b" than that\nnext\n"), 0);
        assert_eq!(flush(&mut backlog), "next\n");
    }

    #[test]
    fn the_end_of_a_line_that_is_on_disk_already_is_kept_beyond_the_limit() {
        let mut backlog = Backlog::new(4);
        assert_eq!(backlog.accept(b" and the rest of it\nlost\n"), 1);
        assert_eq!(text(&backlog), " and the rest of it\n");
    }

    #[test]
    fn an_endless_line_is_cut_at_the_limit_and_the_mark_stands_on_a_line_of_its_own() {
        let mut backlog = Backlog::new(4);
        let endless = vec![b'x'; 2 * LINE_MAX];
        assert_eq!(backlog.accept(&endless), 0);
        assert_eq!(flush(&mut backlog), "xxxx\nkeepup: 1 line lost (no space)\n");
    }

    #[test]
    fn what_is_refused_goes_back_before_what_came_since() {
        let mut backlog = Backlog::new(14);
        backlog.accept(b"one\ntwo\n");
        let taken = backlog.take();
        assert_eq!(backlog.accept(b"three\n"), 0);
        assert_eq!(backlog.accept(b"four\n"), 1, "what is in flight counts toward the limit");
        assert_eq!(backlog.refused(&taken[2..]), 0);
        assert_eq!(flush(&mut backlog), "e\ntwo\nthree\nkeepup: 1 line lost (no space)\n");
    }

    #[test]
    fn what_is_refused_and_too_much_leaves_one_gap() {
        let mut backlog = Backlog::new(4);
        backlog.pass(12);
        assert_eq!(backlog.accept(b"d\ne"), 0);
        assert_eq!(backlog.refused(b"aa\nbb\ncc\n"), 3, "what came since is lost, too");
        assert_eq!(flush(&mut backlog), "aa\nkeepup: 4 lines lost (no space)\n");
        assert_eq!(backlog.accept(b"rest of e\nf\n"), 0);
        assert_eq!(flush(&mut backlog), "f\n");
    }

    #[test]
    fn what_is_given_up_is_counted_with_its_unfinished_lines() {
        let mut backlog = Backlog::new(10);
        backlog.accept(b"a\nb\nc");
        assert_eq!(backlog.give_up(), 3);
        let mut backlog = Backlog::new(4);
        assert_eq!(backlog.accept(b"a\nb\nc\nd"), 1);
        assert_eq!(backlog.give_up(), 3, "a, b and d; c was counted before");
        let mut backlog = Backlog::new(4);
        assert_eq!(backlog.accept(&[vec![b'x'; LINE_MAX + 5], b"\nb\n".to_vec()].concat()), 2);
        assert_eq!(backlog.give_up(), 0, "the line whose beginning is kept was counted before");
    }

    #[test]
    fn nothing_is_lost_twice_or_uncounted_whatever_the_pieces() {
        let lines: Vec<String> =
            (0..200).map(|n| format!("{n:03} {}\n", "x".repeat(n % 7))).collect();
        let all = lines.concat().into_bytes();
        for piece in 1..40 {
            let mut backlog = Backlog::new(300);
            let mut file = String::new();
            let mut counted = 0;
            for (turn, bytes) in all.chunks(piece).enumerate() {
                counted += backlog.accept(bytes);
                if turn % 90 == 89 {
                    let taken = backlog.take();
                    file.push_str(std::str::from_utf8(&taken).unwrap());
                    backlog.written();
                    let start = file.is_empty() || file.ends_with('\n');
                    counted += backlog.close_gap(start, "full").unwrap_or(0);
                }
            }
            file.push_str(&flush(&mut backlog));
            let whole = file.lines().filter(|it| !it.starts_with("keepup")).count() as u64;
            let marked: u64 = file
                .lines()
                .filter_map(|it| {
                    it.strip_prefix("keepup: ")?.split(' ').next()?.parse::<u64>().ok()
                })
                .sum();
            assert_eq!(whole + marked, 200, "pieces of {piece}");
            assert!(file.lines().all(|it| it.starts_with("keepup")
                || lines.iter().any(|line| line.trim_end_matches('\n') == it)));
            assert!(counted <= marked, "pieces of {piece}: {counted} {marked}");
        }
    }
}
