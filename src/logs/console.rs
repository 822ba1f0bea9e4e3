//! keepup's own stdout, on which services speak, too: whole lines, with the service's name.
//!
//! It must never hold anybody up: who reads it may be slow or gone. Lines that find no room are
//! counted, and the count is printed where they are missing.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use memchr::{memchr, memrchr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::backlog::LINE_MAX;
use super::{lock, spawn};

/// Bytes that wait to be printed, at most.
const QUEUE_MAX: usize = 256 << 10;
/// Colours of names on a terminal: cyan, yellow, green, magenta, blue, and their bright forms.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `api | text`
    Plain,
    /// The same, each name in a colour.
    Colour,
    /// `<6>api | text`: the journal takes the level out.
    ///
    /// Source: sd-daemon(3).
    Journal,
}

/// Where the lines of services with `console = true` go; cheap to clone.
#[derive(Clone, Debug)]
pub struct Console {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    style: Style,
    out: Mutex<Option<OwnedFd>>,
    ended: Mutex<Option<Receiver<()>>>,
    waiting: Mutex<Waiting>,
    filled: Condvar,
    width: AtomicUsize,
    voices: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    closed: bool,
}

impl Console {
    /// None at all.
    pub fn none() -> Console {
        Console { shared: None }
    }

    /// keepup's stdout, in the style that suits it.
    pub fn stdout() -> io::Result<Console> {
        let out = io::stdout();
        let style = if std::env::var_os("JOURNAL_STREAM").is_some() {
            Style::Journal
        } else if out.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Style::Colour
        } else {
            Style::Plain
        };
        Ok(Console::to(out.as_fd().try_clone_to_owned()?, style))
    }

    /// This descriptor.
    pub fn to(out: OwnedFd, style: Style) -> Console {
        let shared = Shared {
            style,
            out: Mutex::new(Some(out)),
            ended: Mutex::default(),
            waiting: Mutex::default(),
            filled: Condvar::new(),
            width: AtomicUsize::new(0),
            voices: AtomicUsize::new(0),
        };
        Console { shared: Some(Arc::new(shared)) }
    }

    /// A service's voice; the first one starts the thread that prints.
    pub(super) fn voice(&self, name: &str) -> Option<Voice> {
        let shared = self.shared.clone()?;
        if let Some(out) = lock(&shared.out).take() {
            let (end, ended) = channel();
            let printer = Arc::clone(&shared);
            spawn("console", move || print(&printer, out, end)).ok()?;
            *lock(&shared.ended) = Some(ended);
        }
        shared.width.fetch_max(name.chars().count(), Ordering::Relaxed);
        let number = shared.voices.fetch_add(1, Ordering::Relaxed);
        let colour = COLOURS[number % COLOURS.len()];
        Some(Voice { shared, name: name.to_owned(), colour, begun: Vec::new() })
    }

    /// Prints what waits, for no longer than this.
    pub(super) fn finish(&self, limit: Duration) {
        let Some(shared) = &self.shared else { return };
        lock(&shared.waiting).closed = true;
        shared.filled.notify_one();
        if let Some(ended) = lock(&shared.ended).take() {
            let _ = ended.recv_timeout(limit);
        }
    }
}

/// One service on the console: makes whole lines of what comes in pieces.
pub(super) struct Voice {
    shared: Arc<Shared>,
    name: String,
    colour: u8,
    begun: Vec<u8>,
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voice({})", self.name)
    }
}

impl Voice {
    /// The same service, on another pipe.
    pub(super) fn twin(&self) -> Voice {
        let Voice { shared, name, colour, .. } = self;
        Voice { shared: Arc::clone(shared), name: name.clone(), colour: *colour, begun: Vec::new() }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        let whole = memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let (mut lines, rest) = bytes.split_at(whole);
        if !self.begun.is_empty()
            && let Some(end) = memchr(b'\n', lines)
        {
            let mut first = std::mem::take(&mut self.begun);
            first.extend_from_slice(&lines[..=end]);
            self.print(&first);
            lines = &lines[end + 1..];
        }
        if !lines.is_empty() {
            self.print(lines);
        }
        self.begun.extend_from_slice(rest);
        if LINE_MAX <= self.begun.len() {
            self.end_line();
        }
    }

    /// Prints a line that has no end yet: its writer died, or it is too long.
    pub(super) fn end_line(&mut self) {
        if !self.begun.is_empty() {
            let mut line = std::mem::take(&mut self.begun);
            line.push(b'\n');
            self.print(&line);
        }
    }

    fn print(&self, lines: &[u8]) {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.closed {
            return;
        }
        let was_idle = waiting.lines.is_empty() && waiting.dropped == 0;
        let prefix = self.prefix();
        for line in lines.split_inclusive(|&it| it == b'\n') {
            let room = QUEUE_MAX - waiting.lines.len();
            if waiting.dropped != 0 || room < prefix.len() + line.len() {
                waiting.dropped += 1;
            } else {
                waiting.lines.extend_from_slice(prefix.as_bytes());
                waiting.lines.extend_from_slice(line);
            }
        }
        drop(waiting);
        if was_idle {
            self.shared.filled.notify_one();
        }
    }

    fn prefix(&self) -> String {
        let width = self.shared.width.load(Ordering::Relaxed);
        let Voice { name, colour, .. } = self;
        match self.shared.style {
            Style::Plain => format!("{name:width$} | "),
            Style::Colour => format!("\x1b[{colour}m{name:width$} |\x1b[0m "),
            Style::Journal => format!("<6>{name:width$} | "),
        }
    }
}

/// The console's thread.
fn print(shared: &Shared, out: OwnedFd, end: Sender<()>) {
    let mut out = File::from(out);
    loop {
        let mut waiting = lock(&shared.waiting);
        while waiting.lines.is_empty() && waiting.dropped == 0 {
            if waiting.closed {
                return drop(end);
            }
            waiting = shared.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut lines = std::mem::take(&mut waiting.lines);
        let dropped = std::mem::take(&mut waiting.dropped);
        drop(waiting);
        if dropped != 0 {
            let level = if shared.style == Style::Journal { "<4>" } else { "" };
            let noun = if dropped == 1 { "line" } else { "lines" };
            lines.extend_from_slice(
                format!("{level}keepup: {dropped} console {noun} dropped\n").as_bytes(),
            );
        }
        // When nobody can read it any more, nobody misses it; the files have it all.
        let _ = write_all(&mut out, &lines);
    }
}

/// Writes all, also where somebody else made the descriptor non-blocking.
fn write_all(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut wait, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
