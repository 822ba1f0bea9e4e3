//! Commands and signals, as they are written.

use std::path::Path;

use toml::de::DeValue;

use super::source::joined;
use super::value::{At, Value};
use super::wrong::{Wrong, did_you_mean};
use crate::plan::{ExitMatch, Rewrite, Signal};

/// A program and its arguments: a list, or one text that is split as a shell splits words.
///
/// A program with a slash starts at the file's folder; one without is looked up in PATH.
pub(super) fn argv(value: Value<'_>) -> Option<Vec<String>> {
    let words = optional(value)?;
    if words.is_empty() {
        return no_program(value);
    }
    at_folder(words, value)
}

/// The same, where an empty list means none.
pub(super) fn hook(value: Value<'_>) -> Option<Vec<String>> {
    let words = optional(value)?;
    if words.is_empty() { Some(words) } else { at_folder(words, value) }
}

fn no_program<T>(value: Value<'_>) -> Option<T> {
    value.refuse(Wrong::hinted("must name a program", "write [\"program\", \"argument\"]"));
    None
}

fn at_folder(mut words: Vec<String>, value: Value<'_>) -> Option<Vec<String>> {
    if words[0].is_empty() {
        return no_program(value);
    }
    if words[0].contains('/') {
        let path = joined(&value.at.source.folder, Path::new(&words[0]));
        // Paths come from texts, so nothing is lost.
        words[0] = path.to_string_lossy().into_owned();
    }
    Some(words)
}

fn optional(value: Value<'_>) -> Option<Vec<String>> {
    let DeValue::String(_) = value.item else {
        if let DeValue::Array(_) = value.item {
            return value.list_of(Value::text);
        }
        value.must_be("a list of texts or one text", None);
        return None;
    };
    let text = value.text()?;
    let words = shlex::split(&text);
    match &words {
        None => value.refuse(Wrong::hinted(
            "cannot be split into words: a quote is not closed",
            "or write a list: [\"program\", \"argument\"]",
        )),
        Some(words) => warn_of_shell(value, words),
    }
    words
}

/// There is no shell: what only a shell understands reaches the program as it is.
fn warn_of_shell(value: Value<'_>, words: &[String]) {
    let operator = |word: &&String| {
        ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1"].contains(&word.as_str())
    };
    let variable = |word: &&String| {
        let name = word.split_once('$').map_or("", |it| it.1);
        name.starts_with(|c: char| c.is_ascii_uppercase())
    };
    if let Some(word) = words.iter().find(operator) {
        value.warn(Wrong::hinted(
            format!("passes `{word}` on as an argument: there is no shell"),
            "for a shell, write [\"sh\", \"-c\", \"…\"]",
        ));
    } else if let Some(word) = words.iter().find(variable) {
        value.warn(Wrong::hinted(
            format!("passes `{word}` on as it is: there is no shell"),
            "a variable of keepup's environment is written `${VAR}`",
        ));
    }
}

/// A signal, by name or number.
pub(super) fn signal(value: Value<'_>) -> Option<Signal> {
    if let DeValue::Integer(number) = value.item {
        let signal = Signal::parse(&number.to_string());
        if signal.is_none() {
            value.refuse(Wrong::new(format!("must be a signal, 1 to 64, found {number}")));
        }
        return signal;
    }
    let text = value.text()?;
    let signal = Signal::parse(&text);
    if signal.is_none() {
        value.refuse(unknown_signal(&text));
    }
    signal
}

fn unknown_signal(text: &str) -> Wrong {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let names: Vec<&str> = Signal::names().collect();
    let hint = did_you_mean(name, names.iter().copied());
    let hint = hint.unwrap_or_else(|| "write a name, as in \"TERM\", or a number".to_owned());
    Wrong::hinted(format!("names an unknown signal `{text}`"), hint)
}

/// An exit code, or the signal that killed a process.
pub(super) fn exit_match(value: Value<'_>) -> Option<ExitMatch> {
    match value.item {
        DeValue::Integer(_) => {
            let code = value.whole(0..=255)?;
            u8::try_from(code).ok().map(ExitMatch::Code)
        }
        DeValue::String(text) if text.parse::<i64>().is_ok() => {
            value.refuse(Wrong::hinted(
                "must hold exit codes as numbers and signals by name",
                format!("write {text} without quotes for the exit code"),
            ));
            None
        }
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => signal(value).map(ExitMatch::Signal),
    }
}

/// Signals, and what each becomes; 0 for nothing.
pub(super) fn rewrite(value: Value<'_>) -> Option<Rewrite> {
    let layer = value.table()?;
    let read = |(at, it): (At<'_>, Value<'_>)| {
        let from = Signal::parse(it.key);
        if from.is_none() {
            Value { at, ..value }.refuse(unknown_signal(it.key));
        }
        let drops = matches!(it.item, DeValue::Integer(number) if number.as_str() == "0");
        let to = if drops { None } else { Some(signal(it)?) };
        Some((from?, to))
    };
    let pairs: Vec<Option<_>> = layer.keyed_entries().into_iter().map(read).collect();
    pairs.into_iter().collect::<Option<_>>().map(Rewrite)
}
