//! Lines of format text and json: what a service printed, with time, stream and run.
//!
//! Whatever bytes come, a line of format json is valid JSON, and no line is longer than a limit.
//! What began is kept until its end comes; nothing is input or output here.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use memchr::{memchr, memchr_iter, memrchr};

use super::backlog::LINE_MAX;
use crate::plan::{LogFormat, Name};

/// The streams, by the number of their pipe.
const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// The stream of keepup's own lines.
const OWN: &str = "keepup";
/// The end of a text line that goes on in the next one.
const SPLIT: &[u8] = b" [split]";

/// Makes lines of what comes out of two pipes.
#[derive(Debug)]
pub(super) struct Form {
    kind: Kind,
    /// As it stands in JSON, with its quotes.
    service: String,
    run: AtomicU64,
    /// The beginning of a line of each stream.
    begun: [Vec<u8>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
}

/// What follows a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Split,
}

impl Form {
    /// `None`: lines stay as they are.
    pub(super) fn of(format: LogFormat, service: &Name) -> Option<Form> {
        let kind = match format {
            LogFormat::Raw => return None,
            LogFormat::Text => Kind::Text,
            LogFormat::Json => Kind::Json,
        };
        let service = serde_json::Value::from(&**service).to_string();
        Some(Form { kind, service, run: AtomicU64::new(0), begun: Default::default() })
    }

    /// What is printed from now on is of this run.
    pub(super) fn set_run(&self, run: u64) {
        self.run.store(run, Ordering::Relaxed);
    }

    /// A line waits for its end.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.iter().any(|it| !it.is_empty())
    }

    /// Adds the lines that end in what came out of this pipe.
    pub(super) fn take(&mut self, pipe: usize, mut bytes: &[u8], out: &mut Vec<u8>) {
        let prefix = self.prefix(STREAMS[pipe]);
        out.reserve(bytes.len() * 2);
        let begun = &mut self.begun[pipe];
        if !begun.is_empty() {
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |it| it + 1);
            begun.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
            if let Some(line) = begun.strip_suffix(b"\n") {
                put(self.kind, &prefix, line, out);
                begun.clear();
            }
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |it| it + 1);
        let (lines, rest) = bytes.split_at(whole);
        let mut start = 0;
        for end in memchr_iter(b'\n', lines) {
            put(self.kind, &prefix, &lines[start..end], out);
            start = end + 1;
        }
        begun.extend_from_slice(rest);
        while LINE_MAX < begun.len() {
            let cut = boundary(begun, LINE_MAX);
            line(self.kind, &prefix, &begun[..cut], End::Split, out);
            begun.drain(..cut);
        }
    }

    /// The lines that will not come to their end: their writer is dead.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (pipe, stream) in STREAMS.into_iter().enumerate() {
            if !self.begun[pipe].is_empty() {
                let begun = std::mem::take(&mut self.begun[pipe]);
                put(self.kind, &self.prefix(stream), &begun, &mut out);
            }
        }
        out
    }

    /// A line of keepup's own.
    pub(super) fn own(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(self.kind, &self.prefix(OWN), text, &mut out);
        out
    }

    fn prefix(&self, stream: &str) -> Vec<u8> {
        let (now, run) = (Timestamp::now(), self.run.load(Ordering::Relaxed));
        let prefix = match self.kind {
            Kind::Text => format!("{now:.6} {stream} "),
            Kind::Json => format!(
                r#"{{"time":"{now:.6}","service":{},"stream":"{stream}","run":{run},"message":""#,
                self.service
            ),
        };
        prefix.into_bytes()
    }
}

/// Where to cut so that no character is torn.
fn boundary(bytes: &[u8], max: usize) -> usize {
    let is_inside = |at: usize| bytes[at] & 0xc0 == 0x80;
    (max - 3..=max).rev().find(|it| !is_inside(*it)).unwrap_or(max)
}

/// A line, in pieces if it is too long.
fn put(kind: Kind, prefix: &[u8], mut bytes: &[u8], out: &mut Vec<u8>) {
    while LINE_MAX < bytes.len() {
        let cut = boundary(bytes, LINE_MAX);
        line(kind, prefix, &bytes[..cut], End::Split, out);
        bytes = &bytes[cut..];
    }
    line(kind, prefix, bytes, End::Whole, out);
}

fn line(kind: Kind, prefix: &[u8], bytes: &[u8], end: End, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    match (kind, end) {
        (Kind::Text, End::Whole) => {
            out.extend_from_slice(bytes);
            out.push(b'\n');
        }
        (Kind::Text, End::Split) => {
            out.extend_from_slice(bytes);
            out.extend_from_slice(SPLIT);
            out.push(b'\n');
        }
        (Kind::Json, End::Whole) => {
            message(bytes, out);
            out.extend_from_slice(b"\"}\n");
        }
        (Kind::Json, End::Split) => {
            message(bytes, out);
            out.extend_from_slice(b"\",\"split\":true}\n");
        }
    }
}

/// Bytes as they stand in a JSON string. Most lines need nothing, which is found out many bytes at
/// once.
fn message(bytes: &[u8], out: &mut Vec<u8>) {
    if special(bytes, Other::IsSpecial).is_none() {
        return out.extend_from_slice(bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return escape(text.as_bytes(), out);
    }
    for chunk in bytes.utf8_chunks() {
        escape(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// What is not ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    IsSpecial,
    IsPlain,
}

/// Where the first byte is that cannot stand in a JSON string as it is; looked for in eight bytes
/// at once, however the compiler is set.
fn special(bytes: &[u8], other: Other) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let hit = |(nth, word): (usize, &[u8; 8])| match specials(*word, other) {
        0 => None,
        hits => Some(nth * 8 + hits.trailing_zeros() as usize / 8),
    };
    words.iter().enumerate().find_map(hit).or_else(|| {
        let mut word = [b' '; 8];
        word[..rest.len()].copy_from_slice(rest);
        hit((words.len(), &word))
    })
}

/// The highest bit of each special byte, and perhaps of some after the first one, which come later
/// in memory.
fn specials(word: [u8; 8], other: Other) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    let word = u64::from_le_bytes(word);
    // A byte below the other borrows from its highest bit; one that had that bit set does not count.
    let below = |word: u64, least: u8| word.wrapping_sub(EACH * u64::from(least)) & !word;
    let equals = |byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let ascii = below(word, b' ') | equals(b'"') | equals(b'\\');
    HIGHEST
        & match other {
            Other::IsSpecial => ascii | word,
            Other::IsPlain => ascii,
        }
}

/// Source: RFC 8259, 7.
fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = special(bytes, Other::IsPlain) {
        out.extend_from_slice(&bytes[..at]);
        let byte = bytes[at];
        if byte == 0x1b {
            bytes = &bytes[at + sequence(&bytes[at..])..];
            continue;
        }
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => {
                // Writing into memory does not fail.
                let _ = write!(out, "\\u{other:04x}");
            }
        }
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
}

/// How long the control sequence is that begins here with ESC.
///
/// Source: ECMA-48, 5.4 (control sequences) and 8.3.89 (operating system commands).
fn sequence(bytes: &[u8]) -> usize {
    let length = match bytes.get(1) {
        Some(b'[') => bytes[2..].iter().position(|it| (0x40..=0x7e).contains(it)).map(|it| it + 3),
        Some(b']') => bytes[2..].iter().position(|it| matches!(it, 0x07 | 0x1b)).map(|it| {
            let ends_in_two = bytes[it + 2] == 0x1b && bytes.get(it + 3) == Some(&b'\\');
            it + 3 + usize::from(ends_in_two)
        }),
        Some(0x20..0x7f) => Some(2),
        Some(_) | None => Some(1),
    };
    // What does not end here is no more than its introduction.
    length.unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        for length in 0..20 {
            let mut bytes = vec![b' '; length];
            assert_eq!(special(&bytes, Other::IsSpecial), None, "{length}");
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    let found = is_special(byte).then_some(at);
                    assert_eq!(special(&bytes, Other::IsPlain), found, "{byte:#x} at {at}");
                    let found = (is_special(byte) || !byte.is_ascii()).then_some(at);
                    assert_eq!(special(&bytes, Other::IsSpecial), found, "{byte:#x} at {at}");
                    // What comes after it changes nothing, nor does what comes before.
                    for around in [b'!', b'#', b'[', b']', 0x7f, b'~'] {
                        let mut bytes = vec![around; length];
                        bytes[at] = byte;
                        let found = is_special(byte).then_some(at);
                        assert_eq!(special(&bytes, Other::IsPlain), found, "{bytes:?}");
                    }
                }
                bytes[at] = b' ';
            }
        }
    }

    fn form(format: LogFormat) -> Form {
        let form = Form::of(format, &Name::from("api")).unwrap();
        form.set_run(3);
        form
    }

    fn take(form: &mut Form, pipe: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        form.take(pipe, bytes, &mut out);
        out
    }

    fn objects(bytes: &[u8]) -> Vec<serde_json::Value> {
        let lines = bytes.split_inclusive(|it| *it == b'\n');
        lines.map(|it| serde_json::from_slice(it).unwrap()).collect()
    }

    #[test]
    fn a_line_says_when_and_where_it_was_printed() {
        let mut text = form(LogFormat::Text);
        let out = String::from_utf8(take(&mut text, 1, b"oh no\nand ")).unwrap();
        assert_eq!(&out[27..], " stderr oh no\n");
        assert!(out[..27].parse::<Timestamp>().is_ok(), "{out}");
        assert_eq!(
            &String::from_utf8(take(&mut text, 0, b"out\n")).unwrap()[27..],
            " stdout out\n"
        );
        assert_eq!(&String::from_utf8(text.end()).unwrap()[27..], " stderr and \n");
        assert!(!text.has_begun());
        let object = &objects(&take(&mut form(LogFormat::Json), 0, b"\"a\\b\"\t\n"))[0];
        assert_eq!((&object["service"], &object["stream"]), (&"api".into(), &"stdout".into()));
        assert_eq!((&object["run"], &object["message"]), (&3.into(), &"\"a\\b\"\t".into()));
    }

    #[test]
    fn colours_and_titles_are_taken_out_of_json() {
        let mut json = form(LogFormat::Json);
        let out = take(
            &mut json,
            0,
            b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07a\x1b]0;t\x1b\\b\x1b(Bc\x1b\n",
        );
        assert_eq!(objects(&out)[0]["message"], "red abBc");
    }

    #[test]
    fn any_bytes_give_valid_json_whatever_the_pieces() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33).to_le_bytes()[0]
        };
        let bytes: Vec<u8> = (0..200_000).map(|_| random()).collect();
        let expected = memchr_iter(b'\n', &bytes).count();
        for piece in [1, 7, 4096, 200_000] {
            let mut json = form(LogFormat::Json);
            let out: Vec<u8> = bytes.chunks(piece).flat_map(|it| take(&mut json, 0, it)).collect();
            assert_eq!(objects(&out).len(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_long_line_is_split_between_characters_and_marked() {
        let long = "é".repeat(LINE_MAX) + "\n";
        for piece in [1000, long.len()] {
            let mut json = form(LogFormat::Json);
            let chunks = long.as_bytes().chunks(piece);
            let out: Vec<u8> = chunks.flat_map(|it| take(&mut json, 0, it)).collect();
            let objects = objects(&out);
            let whole: String = objects.iter().map(|it| it["message"].as_str().unwrap()).collect();
            assert_eq!(whole + "\n", long);
            let marks: Vec<bool> = objects.iter().map(|it| it["split"] == true).collect();
            assert_eq!(marks.last(), Some(&false));
            assert!(marks.len() > 1 && marks[..marks.len() - 1].iter().all(|it| *it));
        }
    }
}
