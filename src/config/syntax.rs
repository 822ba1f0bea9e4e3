//! TOML's own problems, told as all others are.

use toml::Spanned;
use toml::de::DeTable;

use super::source::{Source, Span};
use super::value::{At, Reading};
use super::wrong::Wrong;

/// The most syntax errors of a file that are told; what follows is of no use.
const ERRORS_MAX: usize = 20;

/// Parses a file; nothing if it is not TOML, and reported.
pub(super) fn parse<'t>(source: &'t Source, reading: &Reading<'_>) -> Option<Spanned<DeTable<'t>>> {
    let (tree, errors) = DeTable::parse_recoverable(&source.text);
    let mut last_line = 0;
    let mut told = 0;
    let mut places: Vec<_> = errors.iter().map(|it| (span(it, source), it.message())).collect();
    places.sort_by_key(|it| it.0);
    for (span, message) in places {
        let at = At { reading, source, span };
        let line = at.place().line;
        // The second error of a line follows from the first.
        if line != last_line && told < ERRORS_MAX {
            at.refuse(explained(message, at));
            told += 1;
        }
        last_line = line;
    }
    errors.is_empty().then_some(tree)
}

fn span(error: &toml::de::Error, source: &Source) -> Span {
    // Without a place it is about all of the file.
    error.span().map_or(Span { start: source.text.len(), end: source.text.len() }, Span::from)
}

fn explained(message: &str, at: At<'_>) -> Wrong {
    let text = &at.source.text;
    let start = at.span.start.min(text.len());
    let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    if message == "duplicate key" {
        let key = text.get(at.span.start..at.span.end).unwrap_or_default();
        let first = first_line(&text[..begin], line, key);
        let first = first.map(|number| format!("; the first is in line {number}"));
        return Wrong::new(format!("`{key}` is defined twice{}", first.unwrap_or_default()));
    }
    if message.starts_with("string values must be quoted") && at.span.start == at.span.end {
        return Wrong::new("not valid TOML: the value is missing");
    }
    let hint = if message.contains("leading zero") {
        Some("write an octal number in quotes, as in \"022\"".to_owned())
    } else if message.starts_with("string values must be quoted") {
        Some("write it in quotes, as in key = \"text\"".to_owned())
    } else {
        None
    };
    let message = message.trim_end_matches(", expected nothing");
    Wrong { text: format!("not valid TOML: {message}"), hint }
}

/// The line that defined a key before: the same header, or the same key under the same header.
fn first_line(before: &str, line: &str, key: &str) -> Option<usize> {
    let header = line.trim_start().starts_with('[');
    let mut found = None;
    for (number, earlier) in before.lines().enumerate() {
        let earlier = earlier.trim();
        if header && earlier == line.trim() {
            return Some(number + 1);
        }
        if !header {
            if earlier.starts_with('[') {
                found = None;
            }
            let rest = earlier.strip_prefix(key).map(str::trim_start);
            if rest.is_some_and(|rest| rest.starts_with(['=', '.'])) && found.is_none() {
                found = Some(number + 1);
            }
        }
    }
    found
}
