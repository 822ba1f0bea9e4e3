//! What the journal remembers of each service between its notes: what is wrong with it, and how
//! much of the day it ran.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::event::Note;
use crate::status::{Stamp, Trouble};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Runs remembered for the day's uptime; with more, the figure covers less than a day.
const SPANS_MAX: usize = 1000;
/// Texts of one run's start that are remembered, so that each is told once.
const SAID_MAX: usize = 8;

/// One service's page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) trouble: Option<Trouble>,
    said: Vec<String>,
    since: Option<Instant>,
    spans: VecDeque<(Instant, Option<Instant>)>,
}

/// Whether people want to read a note when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It says something.
    News,
    /// It was said before, in this run.
    Repetition,
}

impl Page {
    /// Takes in a note. `text`: the note in words.
    pub(super) fn note(&mut self, at: Stamp, now: Instant, note: &Note, text: &str) -> Weight {
        self.heed_trouble(at, note, text);
        self.heed_uptime(now, note);
        self.weigh(note, text)
    }

    fn heed_trouble(&mut self, at: Stamp, note: &Note, text: &str) {
        match note {
            Note::Ready { .. } | Note::Healthy | Note::Down | Note::Done => self.trouble = None,
            // A start tells less than the failure that it follows.
            Note::Starting { .. } | Note::Up { .. } | Note::Backoff { .. } => {
                if self.trouble.is_none() {
                    self.trouble = Some(Trouble { what: text.to_owned(), since: at });
                }
            }
            // Below the threshold; if it matters, degraded or unhealthy follows.
            Note::Miss { of: Some(_), .. } if self.trouble.is_none() => {}
            Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Unhealthy { .. }
            | Note::Stopping { .. }
            | Note::Killing { .. }
            | Note::Stuck { .. }
            | Note::Ended { .. }
            | Note::GaveUp { .. } => {
                let since = self.trouble.as_ref().map_or(at, |it| it.since);
                self.trouble = Some(Trouble { what: text.to_owned(), since });
            }
        }
    }

    fn heed_uptime(&mut self, now: Instant, note: &Note) {
        match note {
            Note::Starting { .. } => {
                self.since.get_or_insert(now);
            }
            Note::Up { .. } => {
                if self.spans.len() == SPANS_MAX {
                    self.spans.pop_front();
                    self.since = self.spans.front().map(|it| it.0);
                }
                self.spans.push_back((now, None));
            }
            Note::Ended { .. } => {
                if let Some((_, end @ None)) = self.spans.back_mut() {
                    *end = Some(now);
                }
            }
            Note::Ready { .. }
            | Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Healthy
            | Note::Unhealthy { .. }
            | Note::Stopping { .. }
            | Note::Killing { .. }
            | Note::Stuck { .. }
            | Note::Backoff { .. }
            | Note::GaveUp { .. }
            | Note::Down
            | Note::Done => {}
        }
    }

    fn weigh(&mut self, note: &Note, text: &str) -> Weight {
        if let Note::Starting { .. } = note {
            self.said.clear();
        }
        let Note::Miss { of: None, .. } = note else {
            return Weight::News;
        };
        if self.said.len() == SAID_MAX || self.said.iter().any(|it| it == text) {
            return Weight::Repetition;
        }
        self.said.push(text.to_owned());
        Weight::News
    }

    /// The part of the last 24 hours, or since its first start, in which its process ran.
    pub(super) fn uptime_percent(&self, now: Instant) -> Option<f64> {
        let from =
            now.checked_sub(DAY).map_or(self.since?, |day| day.max(self.since.unwrap_or(day)));
        let whole = now.saturating_duration_since(from);
        let up: Duration = self
            .spans
            .iter()
            .map(|(start, end)| end.unwrap_or(now).saturating_duration_since((*start).max(from)))
            .sum();
        self.since?;
        (!whole.is_zero()).then(|| {
            let percent = 100.0 * up.as_secs_f64() / whole.as_secs_f64();
            (percent * 1e3).round() / 1e3
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{End, Exit, Miss, Pid};
    use crate::plan::{Class, Role};

    fn take(page: &mut Page, at: Stamp, now: Instant, note: &Note) -> Weight {
        page.note(at, now, note, &note.to_string())
    }

    fn ended() -> Note {
        let exit = Exit::Code(1);
        Note::Ended { end: End::Exited(exit), exit: Some(exit), uptime: Duration::from_secs(1) }
    }

    #[test]
    fn trouble_lasts_from_the_first_bad_note_to_the_next_good_one() {
        let (mut page, now) = (Page::default(), Instant::now());
        let at = |second: u32| format!("2026-01-02T03:04:{second:02}Z").parse().unwrap();
        take(&mut page, at(1), now, &Note::Starting { run: 1, by: None });
        take(&mut page, at(2), now, &Note::Ready { after: Duration::ZERO });
        assert_eq!(page.trouble, None);
        take(&mut page, at(3), now, &ended());
        take(&mut page, at(4), now, &Note::Backoff { delay: Duration::ZERO, failures: 1 });
        take(&mut page, at(5), now, &Note::Starting { run: 2, by: None });
        let what = "ended after 1s: exit code 1".to_owned();
        assert_eq!(page.trouble, Some(Trouble { what, since: at(3) }));
        take(&mut page, at(6), now, &Note::Ready { after: Duration::ZERO });
        assert_eq!(page.trouble, None);
    }

    #[test]
    fn a_start_that_is_not_yet_through_is_told_once_a_text_and_run() {
        let (mut page, now) = (Page::default(), Instant::now());
        let miss = |text: &str| Note::Miss {
            role: Role::Liveness,
            miss: Miss { class: Class::Refused, text: text.to_owned() },
            count: 1,
            of: None,
        };
        let at = Stamp::now();
        let mut weights = |notes: &[Note]| -> Vec<Weight> {
            notes.iter().map(|note| take(&mut page, at, now, note)).collect()
        };
        let (a, b, start) = (miss("a"), miss("b"), Note::Starting { run: 2, by: None });
        use Weight::{News, Repetition};
        assert_eq!(
            weights(&[a.clone(), a.clone(), b, a.clone(), start, a]),
            [News, Repetition, News, Repetition, News, News]
        );
    }

    #[test]
    fn uptime_is_the_part_of_the_day_in_which_the_process_ran() {
        let (mut page, at) = (Page::default(), Stamp::now());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(page.uptime_percent(start), None);
        take(&mut page, at, start, &Note::Starting { run: 1, by: None });
        take(&mut page, at, start, &Note::Up { pid: Pid(1) });
        take(&mut page, at, after(30), &ended());
        assert_eq!(page.uptime_percent(after(40)), Some(75.0));
        take(&mut page, at, after(60), &Note::Up { pid: Pid(2) });
        assert_eq!(page.uptime_percent(after(120)), Some(75.0));
        assert_eq!(page.uptime_percent(after(60 + 24 * 3600)), Some(100.0));
    }
}
