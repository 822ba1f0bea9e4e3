//! What a datagram says. Anything may stand in it.

use std::time::Duration;

use crate::core::event::News;

/// Of a status, in characters; the rest is cut off.
const STATUS_MAX: usize = 256;

/// What one datagram may say at the most; the rest is not read.
const WORDS_MAX: usize = 16;

/// One assignment that means something to keepup. Source: `sd_notify(3)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// How it is.
    News(News),
    /// WATCHDOG=1.
    Beat,
    /// MAINPID=…
    MainPid(i32),
}

/// What is said; what keepup does not know, or cannot read, is nothing.
pub fn read(datagram: &[u8]) -> Vec<Word> {
    let lines = datagram.split(|&byte| byte == b'\n');
    lines.filter_map(word).take(WORDS_MAX).collect()
}

fn word(line: &[u8]) -> Option<Word> {
    let at = line.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&line[..at], &line[at + 1..]);
    let number = || std::str::from_utf8(value).ok();
    Some(match (name, value) {
        (b"READY", b"1") => Word::News(News::Ready),
        (b"RELOADING", b"1") => Word::News(News::Reloading),
        (b"STOPPING", b"1") => Word::News(News::Stopping),
        (b"WATCHDOG", b"1") => Word::Beat,
        (b"WATCHDOG", b"trigger") => Word::News(News::Trigger),
        (b"STATUS", _) => Word::News(News::Status(status(value))),
        (b"EXTEND_TIMEOUT_USEC", _) => {
            Word::News(News::Extend(Duration::from_micros(number()?.parse().ok()?)))
        }
        (b"MAINPID", _) => Word::MainPid(number()?.parse().ok()?),
        _ => return None,
    })
}

/// One line for people, that cannot do anything to a terminal or a page.
fn status(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let shown = text.chars().filter(|it| !it.is_control() && !steers(*it));
    let text: String = shown.take(STATUS_MAX).collect();
    text.trim().to_owned()
}

/// Marks that turn the direction of what follows, or break a line.
fn steers(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_is_read_in_its_order() {
        let datagram = b"READY=1\nSTATUS=serving on :8000\nMAINPID=42\nX_OWN=1\nWATCHDOG=1\n\
                         EXTEND_TIMEOUT_USEC=1500000\nWATCHDOG=trigger\nRELOADING=1\nSTOPPING=1\n";
        assert_eq!(
            read(datagram),
            [
                Word::News(News::Ready),
                Word::News(News::Status("serving on :8000".to_owned())),
                Word::MainPid(42),
                Word::Beat,
                Word::News(News::Extend(Duration::from_millis(1500))),
                Word::News(News::Trigger),
                Word::News(News::Reloading),
                Word::News(News::Stopping),
            ]
        );
    }

    #[test]
    fn what_is_not_quite_it_is_nothing() {
        for text in [
            "",
            "=",
            "\n\n",
            "READY",
            "READY=",
            "READY=0",
            "READY=11",
            "ready=1",
            " READY=1",
            "READY=1\r",
            "WATCHDOG=TRIGGER",
            "EXTEND_TIMEOUT_USEC=",
            "EXTEND_TIMEOUT_USEC=-1",
            "EXTEND_TIMEOUT_USEC=1e3",
            "EXTEND_TIMEOUT_USEC=99999999999999999999",
            "MAINPID=x",
            "FDSTORE=1",
            "BARRIER=1",
            "READY=1\0",
        ] {
            assert_eq!(read(text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn a_status_is_one_short_tame_line() {
        let said = |bytes: &[u8]| match &read(&[b"STATUS=", bytes].concat())[..] {
            [Word::News(News::Status(text))] => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(b""), "");
        assert_eq!(said(b"  a=b  "), "a=b");
        assert_eq!(said(b"\x1b[31mred\x07\0\x7f"), "[31mred");
        assert_eq!(said("\u{202e}gnp.exe\u{2028}".as_bytes()), "gnp.exe");
        assert_eq!(said(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(said("é".repeat(5000).as_bytes()).chars().count(), STATUS_MAX);
    }

    /// Numbers that look random, the same every time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).unwrap() % limit
        }
    }

    #[test]
    fn junk_is_read_within_limits() {
        let pieces: [&[u8]; 14] = [
            b"READY=1",
            b"\n",
            b"=",
            b"STATUS=",
            b"WATCHDOG=",
            b"trigger",
            b"1",
            b"\0",
            b"\xff",
            b"MAINPID=",
            b"EXTEND_TIMEOUT_USEC=",
            b"18446744073709551615",
            b"-",
            b"\x1b[2J",
        ];
        let mut chance = Chance(1);
        for _ in 0..20_000 {
            let mut datagram = Vec::new();
            for _ in 0..chance.below(40) {
                match chance.below(4) {
                    0 => datagram.push(u8::try_from(chance.below(256)).unwrap()),
                    _ => datagram.extend_from_slice(pieces[chance.below(pieces.len())]),
                }
            }
            let words = read(&datagram);
            assert!(words.len() <= WORDS_MAX);
            for word in words {
                if let Word::News(News::Status(text)) = word {
                    assert!(!text.chars().any(char::is_control), "{text:?}");
                    assert!(text.chars().count() <= STATUS_MAX);
                }
            }
        }
        assert_eq!(read(&b"READY=1\n".repeat(1000)).len(), WORDS_MAX);
    }
}
