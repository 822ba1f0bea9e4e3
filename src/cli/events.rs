//! `keepup events`.

use serde::Deserialize;

use super::error::Error;
use super::output::say;
use super::remote::Remote;
use super::status::Form;
use crate::control::protocol::{Follow, events_path};
use crate::report::log::Tame;

/// Events shown before those that are followed.
const TAIL: usize = 10;

#[derive(Deserialize)]
struct Event {
    at: String,
    service: Option<String>,
    text: String,
}

/// Shows the events that keepup remembers, or the last few and then each as it comes.
pub(super) fn events(remote: &Remote, follow: Follow, form: Form) -> Result<(), Error> {
    let tail = match follow {
        Follow::No => None,
        Follow::Yes => Some(TAIL),
    };
    remote.lines(&events_path(follow, tail), |line| match form {
        Form::Json => say(line),
        Form::People => say(in_words(line)),
    })
}

/// The event as the log shows it; what is no event is shown as it is.
fn in_words(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Event { at, service, text }) => {
            let service = service.unwrap_or_else(|| "keepup".to_owned());
            format!("{at} {service:<8} {}", Tame(&text))
        }
        Err(_) => Tame(line).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn an_event_reads_like_a_line_of_the_log() {
        let line = r#"{"at":"2026-01-02T03:04:05.678Z","service":"api","event":"up","pid":1,"text":"up, pid 1"}"#;
        assert_eq!(in_words(line), "2026-01-02T03:04:05.678Z api      up, pid 1");
        assert_eq!(in_words("\u{1b}["), "\\u{1b}[");
    }
}
