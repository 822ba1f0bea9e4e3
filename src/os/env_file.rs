//! Files of variables, written as systemd's `EnvironmentFile=` wants them.
//!
//! One `NAME=value` a line, blank lines, comments (`#` or `;` at the beginning of a line), an
//! optional `export `, single and double quotes (which may span lines), and a backslash before a
//! line's end that continues it. No expansion. A line that is none of these is an error: a service
//! must never start with half of its environment.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::iter::Peekable;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::Chars;

use crate::plan::EnvFile;

/// A larger file is refused, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// A line that is no variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

/// The variables of all these files in their order, and a number that is another when they are.
pub fn read_all(files: &[EnvFile]) -> Result<(Vec<(String, String)>, u64), String> {
    let mut variables = Vec::new();
    for file in files {
        variables.extend(read(file)?);
    }
    // The same for the same in this process, which is all that is asked of it.
    let mut hasher = DefaultHasher::new();
    variables.hash(&mut hasher);
    Ok((variables, hasher.finish()))
}

/// The file's variables in their order; none if it is missing and may be. The error names the
/// file, and the line where there is one.
pub fn read(file: &EnvFile) -> Result<Vec<(String, String)>, String> {
    let path = file.path.display();
    let text = match read_regular(&file.path) {
        Ok(text) => text,
        Err(error) if file.optional && error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![]);
        }
        Err(error) => return Err(format!("cannot read env file `{path}`: {error}")),
    };
    parse(&text).map_err(|bad| format!("{path}:{}: {}", bad.line, bad.text))
}

/// Refuses what could hold up the reader: pipes, devices, endless files.
fn read_regular(path: &Path) -> io::Result<String> {
    let file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// The variables in this text, in their order.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, BadLine> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { rest: text.chars().peekable(), line: 1 };
    let mut variables = Vec::new();
    while let Some(variable) = reader.variable()? {
        variables.push(variable);
    }
    Ok(variables)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }

    fn variable(&mut self) -> Result<Option<(String, String)>, BadLine> {
        loop {
            match self.rest.peek() {
                None => return Ok(None),
                Some(it) if it.is_whitespace() => _ = self.next(),
                Some('#' | ';') => while !matches!(self.next(), None | Some('\n')) {},
                Some(_) => break,
            }
        }
        let line = self.line;
        let bad = |text: String| BadLine { line, text };
        let mut name = String::new();
        loop {
            match self.rest.next_if(|&it| it != '\n') {
                Some('=') => break,
                Some(it) => name.push(it),
                None => {
                    return Err(bad(format!("`{}` is not NAME=value", short(name.trim_end()))));
                }
            }
        }
        let bare = name.strip_prefix("export").filter(|it| it.starts_with([' ', '\t']));
        let name = bare.unwrap_or(&name).trim();
        if !is_name(name) {
            return Err(bad(format!("`{}` is no name for a variable", short(name))));
        }
        let value = self.value().map_err(|text| bad(format!("`{name}`: {text}")))?;
        Ok(Some((name.to_owned(), value)))
    }

    /// Everything up to the line's end, quotes and escapes resolved.
    fn value(&mut self) -> Result<String, &'static str> {
        let mut value = String::new();
        // What was quoted or escaped is kept when the blanks at the end are cut off.
        let mut kept = 0;
        while self.rest.peek().is_some_and(|it| matches!(it, ' ' | '\t')) {
            self.next();
        }
        loop {
            match self.next() {
                None | Some('\n') => break,
                Some(quote @ ('\'' | '"')) => {
                    self.quoted(quote, &mut value)?;
                    kept = value.len();
                }
                Some('\\') => match self.next() {
                    None | Some('\n') => {}
                    Some(it) => {
                        value.push(it);
                        kept = value.len();
                    }
                },
                Some(it) => value.push(it),
            }
        }
        let end = kept.max(value.trim_end().len());
        value.truncate(end);
        if value.contains('\0') {
            return Err("a NUL cannot stand in a variable");
        }
        Ok(value)
    }

    fn quoted(&mut self, quote: char, value: &mut String) -> Result<(), &'static str> {
        loop {
            match self.next() {
                None => return Err("a quote is not closed"),
                Some(it) if it == quote => return Ok(()),
                Some('\\') if quote == '"' => match self.next() {
                    Some(it @ ('"' | '\\' | '`' | '$')) => value.push(it),
                    Some('\n') => {}
                    Some(it) => value.extend(['\\', it]),
                    None => return Err("a quote is not closed"),
                },
                Some(it) => value.push(it),
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|it: char| it.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

/// Enough of a bad line to find it; not all of it, since it may hold a secret.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(20).map(|it| it.escape_debug().to_string()).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn value(text: &str) -> String {
        let [(_, value)] = parsed(text).try_into().unwrap();
        value
    }

    #[test]
    fn names_comments_blank_lines_and_export() {
        let text = "# c\n\n  ; c\nA=1\nexport B=2\n  C = 3 \nexported=4\n_5=\n";
        let wanted = [("A", "1"), ("B", "2"), ("C", "3"), ("exported", "4"), ("_5", "")];
        assert_eq!(parsed(text), wanted.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(value("A='a $b \\n \"c'"), "a $b \\n \"c");
        assert_eq!(value(r#"A="a \"b\" \$c \n""#), "a \"b\" $c \\n");
        assert_eq!(value("A=\"two\nlines\"\n"), "two\nlines");
        assert_eq!(value("A=one \\\n  two\n"), "one   two");
        assert_eq!(value("A=pre'mid'\"post\"  "), "premidpost");
        assert_eq!(value("A=' kept '  "), " kept ");
        assert_eq!(value("A=x # no comment"), "x # no comment");
        assert_eq!(value("A=b=c"), "b=c");
        assert_eq!(value("A=1\r\n"), "1");
    }

    #[test]
    fn a_bad_line_is_named() {
        let bad = |text: &str| {
            let BadLine { line, text } = parse(text).unwrap_err();
            format!("{line}: {text}")
        };
        assert_eq!(bad("A=1\n\nword\nB=2"), "3: `word` is not NAME=value");
        assert_eq!(bad("A=1\nA-B=1"), "2: `A-B` is no name for a variable");
        assert_eq!(bad("=1"), "1: `` is no name for a variable");
        assert_eq!(bad("2A=1"), "1: `2A` is no name for a variable");
        assert_eq!(bad("A='x\ny\nz"), "1: `A`: a quote is not closed");
        for nul in ["A=x\0y", "A='\0'", "A=\"\0\"", "A=\\\0", "A=\"\\\0\""] {
            assert_eq!(bad(nul), "1: `A`: a NUL cannot stand in a variable");
        }
    }
}
