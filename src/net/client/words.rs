//! Turns whatever a peer or the kernel said into one short line that is safe to print.
//!
//! It must never let a line break, an escape sequence or a text without end through.

use std::fmt::Write;
use std::io;

use nix::errno::Errno;

/// The longest text of a miss, in characters.
pub(crate) const TEXT_MAX: usize = 200;

/// The first line of `bytes` that is not blank; empty if there is none. Bounded and printable.
pub(crate) fn first_line(bytes: &[u8]) -> String {
    let blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
    let lines = bytes.split(|&byte| byte == b'\n' || byte == b'\r');
    let line = lines.into_iter().find(|line| !blank(line)).unwrap_or_default();
    let start = line.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    // No character takes more than four bytes, and one more shows that there was more.
    let line = &line[start..line.len().min(start + 4 * (TEXT_MAX + 1))];
    one_line(String::from_utf8_lossy(line).trim_end())
}

/// `text` in one line of at most [`TEXT_MAX`] characters, what cannot be seen made visible.
pub(crate) fn one_line(text: &str) -> String {
    clipped(text, TEXT_MAX)
}

/// `text` in one line of at most `max` characters, what cannot be seen made visible.
pub(crate) fn clipped(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut room = max;
    let mut shown = String::new();
    for character in text.chars() {
        shown.clear();
        push_visible(&mut shown, character);
        let width = shown.chars().count();
        if width > room {
            // The mark takes the place of the last character that fitted.
            if room == 0 {
                line.pop();
            }
            line.push('…');
            return line;
        }
        line.push_str(&shown);
        room -= width;
    }
    line
}

fn push_visible(line: &mut String, character: char) {
    match character {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        character if is_invisible(character) => {
            // Writing to a string cannot fail.
            let _ = write!(line, "\\u{{{:x}}}", u32::from(character));
        }
        character => line.push(character),
    }
}

/// Control characters, and those that break lines or reorder what stands around them.
///
/// Source: Unicode Standard Annex #9, "Explicit Directional Formatting", and general categories
/// Zl, Zp and Cf as far as they are in use.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// An error of the kernel in plain words, without its number: `permission denied`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => one_line(&format!("{}{}", first.to_lowercase(), characters.as_str())),
        None => "unknown error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_made_visible() {
        assert_eq!(one_line("a\x1b[2Jb\r\nc\td"), "a\\u{1b}[2Jb\\r\\nc\\td");
        assert_eq!(one_line("abc\u{202e}def\u{2028}\u{85}"), "abc\\u{202e}def\\u{2028}\\u{85}");
        assert_eq!(one_line("grün ✓"), "grün ✓");
    }

    #[test]
    fn a_long_text_is_cut_at_the_limit_and_shows_it() {
        let whole = "x".repeat(TEXT_MAX);
        assert_eq!(one_line(&whole), whole);
        let cut = one_line(&"x".repeat(TEXT_MAX + 1));
        assert_eq!(cut.chars().count(), TEXT_MAX);
        assert!(cut.ends_with("x…"), "{cut}");
        assert_eq!(one_line(&"\0".repeat(1000)).chars().count(), TEXT_MAX);
        assert_eq!(clipped("abc", 0), "…");
    }

    #[test]
    fn the_first_line_is_the_first_that_says_something() {
        assert_eq!(first_line(b"\r\n \t\n  upstream is down \r\nmore"), "upstream is down");
        assert_eq!(first_line(b"\n\n"), "");
        assert_eq!(first_line(b""), "");
        assert_eq!(first_line(b"\xff\xfeabc"), "\u{fffd}\u{fffd}abc");
        assert_eq!(first_line("€".repeat(400).as_bytes()).chars().count(), TEXT_MAX);
    }

    #[test]
    fn errors_of_the_kernel_are_plain_words() {
        assert_eq!(plain(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(plain(&io::Error::from_raw_os_error(113)), "no route to host");
        assert_eq!(plain(&io::Error::other("")), "unknown error");
    }
}
