//! Lines that show an error, counted over a sliding hour.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Time;

/// What slides.
const WINDOW: Duration = Duration::from_secs(3600);
/// Errors so near to each other go together, at the time of the last of them: a flood must not cost
/// memory.
const SPAN: Duration = Duration::from_secs(30);

/// The errors of a run.
#[derive(Debug, Default)]
pub(super) struct Errors {
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    first: Time,
    last: Time,
    lines: u64,
}

impl Errors {
    /// So many lines more showed an error.
    pub(super) fn add(&mut self, now: Time, lines: u64) {
        self.forget(now);
        match self.spans.back_mut() {
            Some(span) if now < span.first + SPAN => {
                span.last = now;
                span.lines = span.lines.saturating_add(lines);
            }
            Some(_) | None => self.spans.push_back(Span { first: now, last: now, lines }),
        }
    }

    /// Lets go of what is older than the window.
    pub(super) fn forget(&mut self, now: Time) {
        while self.spans.front().is_some_and(|it| it.last + WINDOW <= now) {
            self.spans.pop_front();
        }
    }

    /// How many there were within the last hour.
    pub(super) fn count(&self, now: Time) -> u64 {
        let within = self.spans.iter().filter(|it| now < it.last + WINDOW);
        within.fold(0, |sum, it| sum.saturating_add(it.lines))
    }

    /// When enough of them will be an hour old, if there are more than `limit`.
    pub(super) fn deadline(&self, limit: u64) -> Option<Time> {
        let mut left = self.spans.iter().fold(0, |sum: u64, it| sum.saturating_add(it.lines));
        let mut spans = self.spans.iter();
        let mut at = None;
        while limit < left {
            let oldest = spans.next()?;
            left = left.saturating_sub(oldest.lines);
            at = Some(oldest.last + WINDOW);
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_an_hour_old_does_not_count() {
        let mut errors = Errors::default();
        errors.add(at(0), 2);
        errors.add(at(100), 3);
        assert_eq!(
            (errors.count(at(3599)), errors.count(at(3600)), errors.count(at(3700))),
            (5, 3, 0)
        );
        assert_eq!(errors.deadline(5), None);
        assert_eq!(errors.deadline(4), Some(at(3600)));
        assert_eq!(errors.deadline(2), Some(at(3700)));
    }

    #[test]
    fn a_flood_takes_no_memory_and_is_never_counted_for_too_short() {
        let mut errors = Errors::default();
        for second in 0..10_000 {
            errors.add(at(second), 10);
        }
        assert!(errors.spans.len() <= 122, "{}", errors.spans.len());
        let count = errors.count(at(9_999));
        assert!((36_000..=36_300).contains(&count), "{count}");
    }
}
