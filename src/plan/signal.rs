//! Signals, by name and number.

use std::collections::BTreeMap;
use std::fmt;

/// A signal, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(pub i32);

impl Signal {
    /// None at all: the kernel merely looks whether there is somebody to send to.
    pub const NONE: Signal = Signal(0);
    /// Asks to hang up, or to reload.
    pub const HUP: Signal = Signal(1);
    /// Asks to abort; dumps core.
    pub const ABRT: Signal = Signal(6);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// Means what its receiver says.
    pub const USR1: Signal = Signal(10);
    /// Likewise.
    pub const USR2: Signal = Signal(12);
    /// Asks to end.
    pub const TERM: Signal = Signal(15);
    /// A child died, was stopped or goes on.
    pub const CHLD: Signal = Signal(17);
    /// Lets a stopped process go on.
    pub const CONT: Signal = Signal(18);
    /// Stops; cannot be caught.
    pub const STOP: Signal = Signal(19);
    /// Stops, asked by the terminal's user.
    pub const TSTP: Signal = Signal(20);
    /// Stops who reads from a terminal in the background.
    pub const TTIN: Signal = Signal(21);
    /// Stops who writes to it.
    pub const TTOU: Signal = Signal(22);

    /// Names and numbers as on x86-64, ARM and RISC-V.
    ///
    /// Source: signal(7), "Signal numbering for standard signals".
    const NAMES: [(&'static str, i32); 31] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];

    /// The signal of this name, with or without `SIG`, in any case, or of this number.
    pub fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Signal(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        Signal::NAMES.iter().find(|it| it.0 == name).map(|it| Signal(it.1))
    }

    /// Every name that `parse` knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Signal::NAMES.iter().map(|it| it.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::NAMES.iter().find(|it| it.1 == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Signals that are passed on as others, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite(pub BTreeMap<Signal, Option<Signal>>);

impl Rewrite {
    /// What is passed on for this signal, if anything is.
    pub fn apply(&self, signal: Signal) -> Option<Signal> {
        self.0.get(&signal).copied().unwrap_or(Some(signal))
    }
}
