//! What the journal remembers of each service between its notes: what is wrong with it, and what
//! was said of its start.

use crate::core::event::Note;
use crate::status::{Stamp, Trouble};

/// Texts of one run's start that are remembered, so that each is told once.
const SAID_MAX: usize = 8;

/// One service's page.
#[derive(Debug, Default)]
pub(super) struct Page {
    trouble: Option<Trouble>,
    /// What it printed last before it failed.
    pub(super) last_line: Option<String>,
    said: Vec<String>,
}

/// Whether people want to read a note when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It says something.
    News,
    /// It was said before, in this run.
    Repetition,
}

/// How the text of [`Note::Waits`] begins.
const WAITS: &str = "waits for ";

impl Page {
    /// Takes in a note. `text`: the note in words.
    pub(super) fn note(&mut self, at: Stamp, note: &Note, text: &str) -> Weight {
        self.heed_trouble(at, note, text);
        self.weigh(note, text)
    }

    /// What is wrong with it, with what it said itself.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let mut trouble = self.trouble.clone()?;
        if let Some(line) = &self.last_line {
            trouble.what = format!("{}; it printed last: {line}", trouble.what);
        }
        Some(trouble)
    }

    fn heed_trouble(&mut self, at: Stamp, note: &Note, text: &str) {
        // The line belongs to crashes; it stays while they follow each other.
        if let Note::Miss { .. }
        | Note::Degraded { .. }
        | Note::Unhealthy { .. }
        | Note::Down
        | Note::Done = note
        {
            self.last_line = None;
        }
        match note {
            Note::Ready { .. } | Note::Healthy | Note::Down | Note::Done => self.trouble = None,
            // A start tells less than the failure that it follows.
            Note::Waits { .. } | Note::Starting { .. } | Note::Up { .. } | Note::Backoff { .. } => {
                let trouble = self
                    .trouble
                    .get_or_insert_with(|| Trouble { what: text.to_owned(), since: at });
                // What it waited for has answered.
                if trouble.what.starts_with(WAITS) {
                    text.clone_into(&mut trouble.what);
                }
            }
            // Below the threshold; if it matters, degraded or unhealthy follows.
            Note::HookFailed { .. } | Note::Reloaded { .. } => {}
            Note::Miss { of: Some(_), .. } if self.trouble.is_none() => {}
            Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Busy { .. }
            | Note::Unhealthy { .. }
            | Note::Hanging { .. }
            | Note::Stopping { .. }
            | Note::Killing { .. }
            | Note::Stuck { .. }
            | Note::HookStuck { .. }
            | Note::Ended { .. }
            | Note::GaveUp { .. } => {
                let since = self.trouble.as_ref().map_or(at, |it| it.since);
                self.trouble = Some(Trouble { what: text.to_owned(), since });
            }
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Weight::{News, Repetition};
    use super::*;
    use crate::core::event::{End, Exit, Miss};
    use crate::plan::{Class, Role};

    fn take(page: &mut Page, at: Stamp, note: &Note) -> Weight {
        page.note(at, note, &note.to_string())
    }

    fn ended() -> Note {
        let exit = Exit::Code(1);
        Note::Ended { end: End::Exited(exit), exit: Some(exit), uptime: Duration::from_secs(1) }
    }

    #[test]
    fn trouble_lasts_from_the_first_bad_note_to_the_next_good_one() {
        let mut page = Page::default();
        let at = |second: u32| format!("2026-01-02T03:04:{second:02}Z").parse().unwrap();
        take(&mut page, at(1), &Note::Starting { run: 1, by: None });
        take(&mut page, at(2), &Note::Ready { after: Duration::ZERO });
        assert_eq!(page.trouble, None);
        take(&mut page, at(3), &ended());
        take(&mut page, at(4), &Note::Backoff { delay: Duration::ZERO, failures: 1 });
        take(&mut page, at(5), &Note::Starting { run: 2, by: None });
        let what = "ended after 1s: exit code 1".to_owned();
        assert_eq!(page.trouble, Some(Trouble { what, since: at(3) }));
        take(&mut page, at(6), &Note::Ready { after: Duration::ZERO });
        assert_eq!(page.trouble, None);
    }

    #[test]
    fn a_start_that_is_not_yet_through_is_told_once_a_text_and_run() {
        let mut page = Page::default();
        let miss = |text: &str| Note::Miss {
            role: Role::Liveness,
            miss: Miss { class: Class::Refused, text: text.to_owned() },
            count: 1,
            of: None,
        };
        let at = Stamp::now();
        let mut weights = |notes: &[Note]| -> Vec<Weight> {
            notes.iter().map(|note| take(&mut page, at, note)).collect()
        };
        let (a, b, start) = (miss("a"), miss("b"), Note::Starting { run: 2, by: None });
        assert_eq!(
            weights(&[a.clone(), a.clone(), b, a.clone(), start, a]),
            [News, Repetition, News, Repetition, News, News]
        );
    }
}
