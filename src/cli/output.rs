//! Standard output and standard error, of commands that people run.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use super::error::{Error, Kind};
use crate::report::log::wants_colour;

/// Prints a text as it is.
pub(super) fn print(text: impl Display) -> Result<(), Error> {
    write(text.to_string().as_bytes())
}

/// Prints bytes as they are.
pub(super) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(bytes).and_then(|()| out.flush());
    printed.map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Error::new(Kind::Unread, "nobody reads the output any more");
        }
        Error::new(Kind::System, format!("cannot write to standard output: {error}"))
    })
}

/// Prints a text and a newline.
pub(super) fn say(text: impl Display) -> Result<(), Error> {
    print(format_args!("{text}\n"))
}

/// Prints what a command could not do.
pub(super) fn complain(error: &Error) {
    if error.kind != Kind::Unread {
        // If that cannot be printed, the exit code still tells.
        let _ = writeln!(io::stderr(), "{error}");
    }
}

/// Prints a line for people beside what is asked for.
pub(super) fn complain_of(text: &str) {
    // As above.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Colours,
    Plain,
}

impl Paint {
    /// Colours on a terminal, unless somebody does not want them.
    pub(super) fn of_stdout() -> Paint {
        if io::stdout().is_terminal() && wants_colour() { Paint::Colours } else { Paint::Plain }
    }

    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        match (self, colour.code()) {
            (Paint::Colours, Some(code)) => format!("\x1b[{code}m{text}\x1b[0m"),
            (Paint::Colours, None) | (Paint::Plain, _) => text.to_owned(),
        }
    }
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    None,
    Good,
    Warning,
    Bad,
    Dim,
    Strong,
}

impl Colour {
    fn code(self) -> Option<&'static str> {
        match self {
            Colour::None => None,
            Colour::Good => Some("32"),
            Colour::Warning => Some("33"),
            Colour::Bad => Some("31"),
            Colour::Dim => Some("2"),
            Colour::Strong => Some("1"),
        }
    }
}
