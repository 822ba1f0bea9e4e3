//! One value of a file, with its place: read as what it must be, or reported.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::expand::{Values, expand};
use super::problem::{Place, Problem, Severity};
use super::source::{Files, Source, SourceKind, Span, Surroundings, joined};
use super::wrong::{Wrong, did_you_mean};
use super::{duration, size};

/// One reading of a configuration: what it looks at, and what it found wrong so far.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) files: Files<'a>,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(surroundings: &'a Surroundings, files: Files<'a>) -> Reading<'a> {
        Reading { surroundings, files, found: RefCell::default() }
    }

    pub(super) fn report(&self, place: Place, severity: Severity, wrong: Wrong) {
        let Wrong { text, hint } = wrong;
        self.found.borrow_mut().push(Problem { place: Some(place), severity, text, hint });
    }

    /// What was found, errors and warnings apart.
    pub(super) fn found(self) -> (Vec<Problem>, Vec<Problem>) {
        let found = self.found.into_inner();
        found.into_iter().partition(|it| it.severity == Severity::Error)
    }
}

/// A place that problems can be reported at.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'t> {
    pub(super) reading: &'t Reading<'t>,
    pub(super) source: &'t Source,
    pub(super) span: Span,
}

impl<'t> At<'t> {
    pub(super) fn place(self) -> Place {
        self.source.place(self.span)
    }

    pub(super) fn refuse(self, wrong: Wrong) {
        self.reading.report(self.place(), Severity::Error, wrong);
    }

    pub(super) fn warn(self, wrong: Wrong) {
        self.reading.report(self.place(), Severity::Warning, wrong);
    }

    pub(super) fn spanning(self, span: impl Into<Span>) -> At<'t> {
        At { span: span.into(), ..self }
    }
}

/// A value, and the key it stands at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'t> {
    pub(super) key: &'t str,
    pub(super) at: At<'t>,
    pub(super) item: &'t DeValue<'t>,
}

/// Whether zero is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

impl<'t> Value<'t> {
    /// Reports what is wrong with it; `wrong` follows the key's name.
    pub(super) fn refuse(self, wrong: Wrong) {
        let text = format!("`{}` {}", self.key, wrong.text);
        self.at.refuse(Wrong { text, ..wrong });
    }

    pub(super) fn warn(self, wrong: Wrong) {
        let text = format!("`{}` {}", self.key, wrong.text);
        self.at.warn(Wrong { text, ..wrong });
    }

    /// The value, or a report.
    pub(super) fn ok<T>(self, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(wrong)).ok()
    }

    pub(super) fn must_be(self, what: &str, hint: Option<String>) {
        let text = format!("must be {what}, found {}", kind(self.item));
        self.refuse(Wrong { text, hint });
    }

    /// A text as it is meant: expanded, and without NUL.
    pub(super) fn text(self) -> Option<String> {
        let hint = |text: String| Some(format!("write \"{text}\""));
        match self.item {
            DeValue::String(text) => self.expanded(text),
            DeValue::Integer(number) => {
                self.must_be("a text", hint(number.to_string()));
                None
            }
            DeValue::Float(number) => {
                self.must_be("a text", hint(number.to_string()));
                None
            }
            DeValue::Boolean(truth) => {
                self.must_be("a text", hint(truth.to_string()));
                None
            }
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.must_be("a text", None);
                None
            }
        }
    }

    fn expanded(self, text: &'t str) -> Option<String> {
        let source = self.at.source;
        let whole = match source.kind {
            SourceKind::CommandLine => text.to_owned(),
            SourceKind::File => {
                let Reading { surroundings, files, .. } = *self.at.reading;
                let values = Values { surroundings, files, folder: &source.folder };
                match expand(text, values) {
                    Ok(whole) => whole,
                    Err(it) => {
                        self.part(it.part).refuse(it.wrong);
                        return None;
                    }
                }
            }
        };
        if whole.contains('\0') {
            self.refuse(Wrong::new("cannot hold a NUL character"));
            return None;
        }
        Some(whole)
    }

    /// The same value; its place is that of `part`, if the part stands there as it is.
    fn part(self, part: &str) -> Value<'t> {
        let Span { start, end } = self.at.span;
        let written = self.at.source.text.get(start..end).unwrap_or_default();
        match written.find(part) {
            Some(at) => {
                let from = start + at;
                Value { at: self.at.spanning(from..from + part.len()), ..self }
            }
            None => self,
        }
    }

    /// A text with something in it.
    pub(super) fn full_text(self) -> Option<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.refuse(Wrong::new("must not be empty"));
            return None;
        }
        Some(text)
    }

    pub(super) fn truth(self) -> Option<bool> {
        match self.item {
            DeValue::Boolean(truth) => Some(*truth),
            DeValue::String(text) if ["true", "false"].contains(&text.as_ref()) => {
                self.must_be("true or false", Some(format!("write {text} without quotes")));
                None
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.must_be("true or false", None);
                None
            }
        }
    }

    /// A whole number in this range.
    pub(super) fn whole(self, range: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(written) = self.item else {
            let quoted = self.item.as_str().filter(|text| text.parse::<i64>().is_ok());
            let hint = quoted.map(|text| format!("write {text} without quotes"));
            self.must_be("a whole number", hint);
            return None;
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        if let Some(number) = number.filter(|it| range.contains(it)) {
            return Some(number);
        }
        let (low, high) = (range.start(), range.end());
        self.refuse(Wrong::new(match *high {
            i64::MAX => format!("must be at least {low}, found {written}"),
            _ => format!("must be {low} to {high}, found {written}"),
        }));
        None
    }

    /// A count in this range.
    pub(super) fn count(self, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.whole(i64::from(*range.start())..=i64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    /// A number in this range, whole or not.
    pub(super) fn number(self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.item {
            DeValue::Integer(it) => it.as_str().parse::<f64>().ok().filter(|_| it.radix() == 10),
            DeValue::Float(it) => it.as_str().parse::<f64>().ok(),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.must_be("a number", None);
                return None;
            }
        };
        if let Some(number) = number.filter(|it| range.contains(it)) {
            return Some(number);
        }
        let found = describe(self.item);
        let (low, high) = (range.start(), range.end());
        self.refuse(Wrong::new(format!("must be {low} to {high}, found {found}")));
        None
    }

    /// A duration longer than zero.
    pub(super) fn duration(self) -> Option<Duration> {
        self.duration_from(Zero::Refused)
    }

    pub(super) fn duration_from(self, zero: Zero) -> Option<Duration> {
        let text = self.with_unit("a duration", |number| format!("{number}s"))?;
        let duration = self.ok(duration::parse(&text))?;
        if duration.is_zero() && zero == Zero::Refused {
            self.refuse(Wrong::hinted(
                "must be longer than zero",
                "the shortest duration is \"1us\"",
            ));
            return None;
        }
        Some(duration)
    }

    /// A size of at least one byte.
    pub(super) fn size(self) -> Option<u64> {
        self.size_from(Zero::Refused)
    }

    pub(super) fn size_from(self, zero: Zero) -> Option<u64> {
        let text = self.with_unit("a size", |_| "50MB".to_owned())?;
        let size = self.ok(size::parse(&text))?;
        if size == 0 && zero == Zero::Refused {
            self.refuse(Wrong::new("must be more than zero"));
            return None;
        }
        Some(size)
    }

    /// The text of a number with a unit; a bare number gets a hint.
    fn with_unit(self, what: &str, example: fn(&str) -> String) -> Option<String> {
        let number = match self.item {
            DeValue::String(_) => return self.text(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.must_be(what, None);
                return None;
            }
        };
        // A fraction or a sign would be refused again.
        let plain = number.chars().all(|c| c.is_ascii_digit());
        let example = example(if plain { &number } else { "10" });
        self.must_be(what, Some(format!("write it with its unit, as in \"{example}\"")));
        None
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let known = words.iter().find(|it| it.0 == text).map(|it| it.1);
        if known.is_none() {
            let names = words.iter().map(|it| it.0);
            let wrong = format!("cannot be `{text}`");
            self.refuse(Wrong { text: wrong, hint: did_you_mean(&text, names) });
        }
        known
    }

    /// The parts of a list.
    pub(super) fn list(self) -> Option<Vec<Value<'t>>> {
        let DeValue::Array(parts) = self.item else {
            let text = self.item.as_str().map(|text| format!("write [\"{text}\"]"));
            let hint = text.or_else(|| Some(format!("write [{}]", self.item.as_integer()?)));
            self.must_be("a list", hint);
            return None;
        };
        let part = |it: &'t toml::Spanned<DeValue<'t>>| Value {
            key: self.key,
            at: self.at.spanning(it.span()),
            item: it.get_ref(),
        };
        Some(parts.iter().map(part).collect())
    }

    /// A list, each part read on its own, so that all that is wrong is reported.
    pub(super) fn list_of<T>(self, read: impl Fn(Value<'t>) -> Option<T>) -> Option<Vec<T>> {
        let parts: Vec<Option<T>> = self.list()?.into_iter().map(read).collect();
        parts.into_iter().collect()
    }

    /// A path; a relative one starts at the file's folder.
    pub(super) fn path(self) -> Option<PathBuf> {
        Some(joined(&self.at.source.folder, self.full_text()?))
    }
}

/// What a value is, for people; short things are shown.
pub(super) fn describe(item: &DeValue<'_>) -> String {
    match item {
        DeValue::String(text) if text.chars().count() <= 40 => format!("`{text}`"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            kind(item)
        }
    }
}

fn kind(item: &DeValue<'_>) -> String {
    match item {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
