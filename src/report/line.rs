//! One event as one line of JSON.
//!
//! The names of the fields are a contract: `at`, `service`, `event`, then what belongs to the
//! event, and last `text`, the same in words.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::core::event::{Asker, End, Note};
use crate::status::{ExitStatus, Level, Stamp, seconds};

/// An event that is not about the course of a run.
#[derive(Clone, Debug)]
pub(super) enum Other<'a> {
    /// The host stood still for so long.
    Stalled { gap: Duration },
    /// Memory or disk of the machine reached another level.
    Full { what: &'a str, used_percent: f64, level: Level },
    /// Lines of a service's log were lost.
    LostLines { service: &'a str, lines: u64, why: &'a str },
}

#[derive(Serialize)]
struct Line<'a> {
    at: Stamp,
    service: Option<&'a str>,
    event: &'a str,
    #[serde(flatten)]
    fields: Fields<'a>,
    text: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Starting {
        run: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<u32>,
    },
    Pid {
        pid: i32,
    },
    Ready {
        after_seconds: f64,
    },
    Miss {
        role: String,
        class: &'static str,
        detail: &'a str,
        count: u32,
        of: Option<u32>,
    },
    Why {
        why: &'a str,
    },
    Busy {
        why: &'a str,
        host: &'a str,
    },
    Hanging {
        reason: &'static str,
        signal: String,
        stop_after_seconds: f64,
    },
    Stopping {
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<u32>,
        signal: String,
        kill_after_seconds: f64,
    },
    Ended {
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<u32>,
        exit: Option<ExitStatus>,
        uptime_seconds: f64,
    },
    Backoff {
        delay_seconds: f64,
        failures: u32,
    },
    GaveUp {
        why: &'a str,
        retry_seconds: Option<f64>,
    },
    Full {
        what: &'a str,
        used_percent: f64,
        level: Level,
    },
    Reloaded {
        change: &'static str,
        keys: &'a [&'static str],
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<u32>,
    },
    Stalled {
        stalled_seconds: f64,
    },
    LostLines {
        lines: u64,
        why: &'a str,
    },
    Nothing {},
}

/// The line of a note, without its newline. `text`: the note in words.
pub(super) fn of_note(at: Stamp, service: &str, note: &Note, text: &str) -> Arc<str> {
    write(&Line { at, service: Some(service), event: note.name(), fields: fields(note), text })
}

/// The line of another event, without its newline. `text`: the event in words.
pub(super) fn of_other(at: Stamp, other: &Other<'_>, text: &str) -> Arc<str> {
    let (service, event, fields) = match *other {
        Other::Stalled { gap } => (None, "host", Fields::Stalled { stalled_seconds: seconds(gap) }),
        Other::Full { what, used_percent, level } => {
            (None, "host", Fields::Full { what, used_percent, level })
        }
        Other::LostLines { service, lines, why } => {
            (Some(service), "lost-lines", Fields::LostLines { lines, why })
        }
    };
    write(&Line { at, service, event, fields, text })
}

fn write(line: &Line<'_>) -> Arc<str> {
    // Strings and numbers alone: there is nothing in a line that JSON could refuse.
    Arc::from(serde_json::to_string(line).unwrap_or_default())
}

fn fields(note: &Note) -> Fields<'_> {
    match note {
        Note::Waits { what } => Fields::Why { why: what },
        Note::Starting { run, by } => Fields::Starting { run: *run, by: *by },
        Note::Up { pid } | Note::Stuck { pid } => Fields::Pid { pid: pid.0 },
        Note::Ready { after } => Fields::Ready { after_seconds: seconds(*after) },
        Note::Miss { role, miss, count, of } => Fields::Miss {
            role: role.to_string(),
            class: miss.class.name(),
            detail: &miss.text,
            count: *count,
            of: *of,
        },
        Note::Degraded { why } | Note::Unhealthy { why } | Note::HookFailed { why } => {
            Fields::Why { why }
        }
        Note::Busy { why, host } => Fields::Busy { why, host },
        Note::Killing { why } => Fields::Why { why },
        Note::Hanging { end, signal, stop_after, .. } => Fields::Hanging {
            reason: end.reason(),
            signal: signal.to_string(),
            stop_after_seconds: seconds(*stop_after),
        },
        Note::Stopping { end, signal, kill_after } => Fields::Stopping {
            reason: end.reason(),
            by: operator(end),
            signal: signal.to_string(),
            kill_after_seconds: seconds(*kill_after),
        },
        Note::Ended { end, exit, uptime } => Fields::Ended {
            reason: end.reason(),
            by: operator(end),
            exit: exit.map(ExitStatus::of),
            uptime_seconds: seconds(*uptime),
        },
        Note::Backoff { delay, failures } => {
            Fields::Backoff { delay_seconds: seconds(*delay), failures: *failures }
        }
        Note::GaveUp { why, retry } => Fields::GaveUp { why, retry_seconds: retry.map(seconds) },
        Note::Reloaded { change, by } => {
            Fields::Reloaded { change: change.what.name(), keys: &change.keys, by: *by }
        }
        Note::HookStuck { .. } | Note::Healthy | Note::Down | Note::Done => Fields::Nothing {},
    }
}

fn operator(end: &End) -> Option<u32> {
    match end {
        End::Asked(Asker::Operator(uid)) => Some(*uid),
        End::Asked(Asker::Shutdown | Asker::Reload | Asker::Removal)
        | End::Exited(_)
        | End::SpawnFailed(_)
        | End::NeverReady(_)
        | End::Unhealthy(_)
        | End::HeartbeatLost(_)
        | End::OverMemory(_)
        | End::OverCpu(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Exit, Miss, Pid};
    use crate::plan::{Class, Role, Signal};

    fn line(note: &Note) -> String {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        of_note(at, "api", note, &note.to_string()).to_string()
    }

    fn assert_rest(note: &Note, rest: &str) {
        let head = r#"{"at":"2026-01-02T03:04:05.678Z","service":"api","event":"#;
        assert_eq!(line(note), format!("{head}{rest}"));
    }

    #[test]
    fn a_line_says_when_who_what_and_by_whom() {
        assert_rest(
            &Note::Starting { run: 2, by: Some(1000) },
            r#""starting","run":2,"by":1000,"text":"starting run 2, asked by uid 1000"}"#,
        );
        assert_rest(&Note::Up { pid: Pid(7) }, r#""up","pid":7,"text":"up, pid 7"}"#);
        assert_rest(&Note::Done, r#""done","text":"done"}"#);
        let end = End::Asked(Asker::Operator(0));
        assert_rest(
            &Note::Stopping { end, signal: Signal::TERM, kill_after: Duration::from_secs(8) },
            concat!(
                r#""stopping","reason":"asked","by":0,"signal":"SIGTERM","kill_after_seconds":8.0,"#,
                r#""text":"stopping (asked by uid 0): sent SIGTERM, KILL follows in 8s"}"#
            ),
        );
    }

    #[test]
    fn a_miss_and_an_end_carry_what_programs_need() {
        let miss = Miss { class: Class::Http, text: "502 \"Bad\"".to_owned() };
        assert_rest(
            &Note::Miss { role: Role::Liveness, miss, count: 2, of: Some(3) },
            concat!(
                r#""miss","role":"liveness","class":"http","detail":"502 \"Bad\"","count":2,"of":3,"#,
                r#""text":"liveness missed 2/3: 502 \"Bad\""}"#
            ),
        );
        let exit = Exit::Code(3);
        let (end, uptime) = (End::Exited(exit), Duration::from_millis(1500));
        assert_rest(
            &Note::Ended { end, exit: Some(exit), uptime },
            concat!(
                r#""ended","reason":"exited","exit":{"code":3,"signal":null,"core_dumped":false,"#,
                r#""oom":false,"text":"exit code 3"},"uptime_seconds":1.5,"#,
                r#""text":"ended after 1.5s: exit code 3"}"#
            ),
        );
        let gave_up = Note::GaveUp { why: "10 restarts in 30m".to_owned(), retry: None };
        assert_rest(
            &gave_up,
            concat!(
                r#""gave-up","why":"10 restarts in 30m","retry_seconds":null,"#,
                r#""text":"given up: 10 restarts in 30m"}"#
            ),
        );
    }
}
