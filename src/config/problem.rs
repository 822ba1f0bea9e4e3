//! Problems, as people meet them: the place, what is wrong, the line with a caret, and a hint.

use std::fmt;

/// Something wrong, or (a warning) probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; a file that cannot be read has no lines.
    pub place: Option<Place>,
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Whether a problem keeps the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A place in a file, or in the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The line itself, cut to [`WIDTH_MAX`], and where in it the caret stands.
    shown: Shown,
    /// The how manieth file it is, and the byte in it: problems are told in this order.
    order: (usize, usize),
}

/// A line as it is printed, and how far its underline is indented and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    line: String,
    indent: String,
    length: usize,
}

/// The most characters of a line that are shown; a minified file is one line.
const WIDTH_MAX: usize = 160;

impl Place {
    /// The place of the bytes `start..end` of a text.
    pub(super) fn of(file: &str, number: usize, text: &str, start: usize, end: usize) -> Place {
        let start = floor(text, start);
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let finish = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let column = text[begin..start].chars().count();
        let end = floor(text, end).clamp(start, finish);
        Place {
            file: file.to_owned(),
            line: text[..begin].matches('\n').count() + 1,
            column: column + 1,
            shown: Shown::of(&text[begin..finish], column, text[start..end].chars().count()),
            order: (number, start),
        }
    }

    /// `FILE:LINE:COLUMN`.
    pub fn short(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The beginning of the character that the byte belongs to.
fn floor(text: &str, byte: usize) -> usize {
    let byte = byte.min(text.len());
    (0..=byte).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

impl Shown {
    fn of(line: &str, column: usize, length: usize) -> Shown {
        // Far to the right, the beginning is left out.
        let skipped = if column < WIDTH_MAX * 3 / 4 { 0 } else { column - WIDTH_MAX / 4 };
        let mut visible = line.trim_end_matches('\r').chars().skip(skipped).map(printable);
        let line: String = visible.by_ref().take(WIDTH_MAX).collect();
        let more = visible.next().is_some();
        let indent = line.chars().take(column - skipped).map(|c| match c {
            '\t' => '\t',
            _ => ' ',
        });
        let indent: String = indent.collect();
        let length = length.clamp(1, WIDTH_MAX - (column - skipped));
        let dots = |is: bool| if is { "…" } else { "" };
        Shown {
            indent: format!("{}{indent}", if skipped > 0 { " " } else { "" }),
            line: format!("{}{line}{}", dots(skipped > 0), dots(more)),
            length,
        }
    }
}

/// A file must not play tricks on the terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text.chars().map(printable).collect();
        let warning = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        match &self.place {
            Some(place) => {
                writeln!(f, "{}: {warning}{text}", place.short())?;
                let number = place.line.to_string();
                let margin = " ".repeat(number.len());
                writeln!(f, "{margin} |")?;
                writeln!(f, "{number} | {}", place.shown.line)?;
                let carets = "^".repeat(place.shown.length);
                write!(f, "{margin} | {}{carets}", place.shown.indent)?;
            }
            None => write!(f, "{warning}{text}")?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a file gives no plan: all of its problems, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The problems; never empty.
    pub list: Vec<Problem>,
    /// What kept the plan from being made.
    pub cause: Cause,
}

/// What kept a plan from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The file cannot be read.
    Unreadable,
    /// What stands in it.
    Invalid,
}

impl Problems {
    pub(super) fn unreadable(text: String, hint: Option<String>) -> Problems {
        let problem = Problem { place: None, severity: Severity::Error, text, hint };
        Problems { list: vec![problem], cause: Cause::Unreadable }
    }
}

impl fmt::Display for Problems {
    /// Problems with an empty line between them, and no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// In the order of the files, and each once: what stands in `[defaults]` is read for every service.
pub(super) fn in_order(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort_by(|one, other| {
        let order = |it: &Problem| it.place.as_ref().map(|place| place.order);
        order(one).cmp(&order(other))
    });
    let mut told: Vec<Problem> = Vec::new();
    for problem in list {
        let order = problem.place.as_ref().map(|place| place.order);
        let same_place =
            told.iter().rev().take_while(|it| it.place.as_ref().map(|place| place.order) == order);
        if !same_place.into_iter().any(|it| it.text == problem.text) {
            told.push(problem);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, start: usize, end: usize) -> String {
        let place = Some(Place::of("f.toml", 0, text, start, end));
        let text = "cannot".to_owned();
        Problem { place, severity: Severity::Error, text, hint: None }.to_string()
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        assert_eq!(
            shown("a = 1\n\tb = 22\n", 11, 13),
            "f.toml:2:6: cannot\n  |\n2 | \tb = 22\n  | \t    ^^"
        );
    }

    #[test]
    fn columns_are_characters() {
        assert!(shown("ä = \"ö\" # x", 5, 9).starts_with("f.toml:1:5: "));
    }

    #[test]
    fn any_bytes_are_a_place() {
        let text = "aä\r\nü\0b\n\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                assert!(shown(text, start, end).contains('^'));
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_round_the_caret() {
        let line = format!("{}WRONG{}", "a".repeat(5000), "b".repeat(5000));
        let shown = shown(&line, 5000, 5005);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("f.toml:1:5001: "));
        assert!(lines[2].chars().count() < 180);
        let column = |line: &str, what: char| line.chars().position(|c| c == what);
        assert_eq!(column(lines[2], 'W'), column(lines[3], '^'));
    }
}
