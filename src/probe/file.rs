//! `file`: a file that is there, that was written lately, and whose JSON says that all is well.
//!
//! It must never be read on the loop, nor to an end that never comes; a FIFO must not hold it up.
//! How old the file itself is, is told by when it was seen to change: its own times are never
//! compared with a clock. The times inside of it (`json_age`) are the wall clock's, as whoever
//! writes them means them; a clock that steps makes them older or younger.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::heartbeat::Stamp;
use super::json::{self, field, name, show};
use super::miss;
use crate::core::event::{Answer, Short};
use crate::net::client::Limits;
use crate::net::client::aside::aside;
use crate::net::client::words::{first_line, one_line, plain};
use crate::plan::{Class, FileProbe, Name};

/// Bytes of a file that are read.
const FILE_MAX: usize = 1 << 20;

/// A file that is no JSON may be caught in the middle of being written: so often it is read again.
const AGAIN_MAX: u32 = 4;

/// From one reading to the next.
const AGAIN_PAUSE: Duration = Duration::from_millis(20);

/// No number of seconds that is a time of our days is so great; a number of milliseconds is.
const MILLIS_FROM: f64 = 1e11;

/// When files were seen to change. It outlives a run: a file that an earlier run wrote last grows
/// older all the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Ages(Arc<Mutex<HashMap<(Name, PathBuf), Seen>>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Stamp,
    since: Instant,
}

impl Ages {
    /// For how long the file has been as it is; none, when it is seen for the first time.
    fn take_in(&self, name: &Name, path: &Path, stamp: Stamp, now: Instant) -> Duration {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = files.entry((name.clone(), path.to_owned()));
        let seen = seen.or_insert(Seen { stamp, since: now });
        if seen.stamp != stamp {
            *seen = Seen { stamp, since: now };
        }
        now.saturating_duration_since(seen.since)
    }
}

/// What is at a path.
struct Found {
    stamp: Stamp,
    /// Nothing, if nobody wants to know.
    text: Vec<u8>,
    seen: Instant,
}

/// What is read of a file.
#[derive(Clone, Copy)]
enum Part {
    /// Nothing: only what it is like.
    Stamp,
    /// All of it.
    Text,
}

/// Looks at the file, and judges it.
pub(super) async fn ask(probe: &FileProbe, limits: Limits, name: &Name, ages: &Ages) -> Answer {
    let patience = limits.timeout.saturating_add(limits.slack);
    match timeout(patience, look(probe, name, ages)).await {
        Ok(Ok(())) => Answer::Pass,
        Ok(Err((class, text))) => miss(class, one_line(&text)),
        Err(_) => {
            let text =
                format!("timed out after {} at {}", Short(limits.timeout), probe.path.display());
            miss(Class::Timeout, one_line(&text))
        }
    }
}

type Wrong = (Class, String);

async fn look(probe: &FileProbe, name: &Name, ages: &Ages) -> Result<(), Wrong> {
    let of_json =
        !(probe.json.is_empty() && probe.json_max.is_empty() && probe.json_age.is_empty());
    let part = if of_json { Part::Text } else { Part::Stamp };
    let mut readings = 0;
    loop {
        let path = probe.path.clone();
        let found = aside(&probe.path.to_string_lossy(), move || read(&path, part)).await;
        let found = found.and_then(|it| it).map_err(|text| (Class::Other, text))?;
        if let Some(wanted) = probe.max_age {
            let age = ages.take_in(name, &probe.path, found.stamp, found.seen);
            if age > wanted {
                let (path, age) = (probe.path.display(), Short(age));
                let text =
                    format!("{path} has not changed for {age}, wanted at most {}", Short(wanted));
                return Err((Class::Stale, text));
            }
        }
        if !of_json {
            return Ok(());
        }
        readings += 1;
        match parse(&found.text) {
            Ok(value) => return judge(probe, &value, Timestamp::now()),
            Err(text) if readings > AGAIN_MAX => return Err((Class::Body, text)),
            Err(_) => sleep(AGAIN_PAUSE).await,
        }
    }
}

fn read(path: &Path, part: Part) -> Result<Found, String> {
    let wrong = |why: &str| format!("{}{why}", path.display());
    let unread = |error: &std::io::Error| {
        let gone = error.kind() == std::io::ErrorKind::NotFound;
        if gone { wrong(" does not exist") } else { wrong(&format!(": {}", plain(error))) }
    };
    // Some devices act on being opened.
    let kind = std::fs::metadata(path).map_err(|error| unread(&error))?.file_type();
    if kind.is_dir() {
        return Err(wrong(" is a directory"));
    }
    if !kind.is_file() {
        return Err(wrong(" is not a regular file"));
    }
    // It may be a FIFO by now, which must not hold us up.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let mut open = OpenOptions::new();
    let file = match part {
        Part::Text => {
            let file = open.read(true).custom_flags(flags).open(path);
            Some(file.map_err(|error| unread(&error))?)
        }
        Part::Stamp => None,
    };
    let is = match &file {
        Some(file) => file.metadata(),
        None => std::fs::metadata(path),
    };
    let is = is.map_err(|error| unread(&error))?;
    if !is.is_file() {
        return Err(wrong(" is not a regular file"));
    }
    let mut text = Vec::new();
    if let Some(file) = file {
        let most = u64::try_from(FILE_MAX).unwrap_or(u64::MAX) + 1;
        file.take(most).read_to_end(&mut text).map_err(|error| unread(&error))?;
    }
    if text.len() > FILE_MAX {
        return Err(wrong(" is larger than 1 MiB"));
    }
    Ok(Found { stamp: Stamp::of(&is), text, seen: Instant::now() })
}

fn parse(text: &[u8]) -> Result<Value, String> {
    if first_line(text).is_empty() {
        return Err("not JSON: the file is empty".to_owned());
    }
    json::parse(text)
}

fn judge(probe: &FileProbe, found: &Value, now: Timestamp) -> Result<(), Wrong> {
    let body = |text: String| (Class::Body, text);
    json::judge_fields(found, &probe.json, "file").map_err(body)?;
    for (path, most) in &probe.json_max {
        let value = field(found, path, "file").map_err(body)?;
        match value.as_f64() {
            Some(number) if number <= *most => {}
            Some(_) => {
                let text = format!("{} is {}, wanted at most {most}", name(path), show(value));
                return Err(body(text));
            }
            None => {
                let (path, value) = (name(path), show(value));
                return Err(body(format!("{path} is {value}, wanted a number of at most {most}")));
            }
        }
    }
    for (path, wanted) in &probe.json_age {
        let value = field(found, path, "file").map_err(body)?;
        let time = moment(value)
            .map_err(|wanted| body(format!("{} is {}, {wanted}", name(path), show(value))))?;
        judge_age(&name(path), time, *wanted, now).map_err(|text| (Class::Stale, text))?;
    }
    Ok(())
}

fn judge_age(path: &str, time: Timestamp, wanted: Duration, now: Timestamp) -> Result<(), String> {
    let past = now.duration_since(time);
    let apart = past.unsigned_abs();
    // Two clocks may differ by a little; a time far ahead says nothing about now.
    if apart <= wanted {
        return Ok(());
    }
    let (apart, wanted) = (Short(whole(apart)), Short(wanted));
    Err(if past.is_negative() {
        format!("{path} is {apart} in the future, wanted at most {wanted} old")
    } else {
        format!("{path} is {apart} old, wanted at most {wanted}")
    })
}

/// In whole seconds, if it is long.
fn whole(duration: Duration) -> Duration {
    match duration.as_secs() {
        0..10 => duration,
        seconds => Duration::from_secs(seconds),
    }
}

/// The time that a field holds: RFC 3339, or the seconds or milliseconds since 1970. The error is
/// what is wanted instead.
fn moment(value: &Value) -> Result<Timestamp, &'static str> {
    const WANTED: &str = "wanted a time (RFC 3339, or seconds or milliseconds since 1970)";
    match value {
        Value::Number(number) => {
            let number = number.as_f64().ok_or(WANTED)?;
            let seconds = if number.abs() < MILLIS_FROM { number } else { number / 1000.0 };
            let time = Duration::try_from_secs_f64(seconds).map_err(|_| WANTED)?;
            Timestamp::UNIX_EPOCH.checked_add(time).map_err(|_| WANTED)
        }
        Value::String(text) => match text.trim().parse::<Timestamp>() {
            Ok(time) => Ok(time),
            Err(_) if text.trim().parse::<jiff::civil::DateTime>().is_ok() => {
                Err("wanted a time with its zone (as in 2026-01-31T12:00:00Z)")
            }
            Err(_) => Err(WANTED),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(WANTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-31T12:00:00Z";

    fn judged(edit: impl FnOnce(&mut FileProbe), text: &str) -> String {
        let mut probe = FileProbe {
            path: "/metrics.json".into(),
            json: vec![],
            json_max: vec![],
            json_age: vec![],
            max_age: None,
        };
        edit(&mut probe);
        match judge(&probe, &serde_json::from_str(text).unwrap(), NOW.parse().unwrap()) {
            Ok(()) => "pass".to_owned(),
            Err((class, text)) => format!("{}: {text}", class.name()),
        }
    }

    fn aged(value: &str) -> String {
        let limit = Duration::from_secs(120);
        let wants = |probe: &mut FileProbe| probe.json_age = vec![("at".to_owned(), limit)];
        judged(wants, &format!("{{\"at\": {value}}}"))
    }

    #[test]
    fn numbers_must_not_exceed() {
        let most = |value: &str| {
            let wants = |probe: &mut FileProbe| probe.json_max = vec![("n".to_owned(), 4.0)];
            judged(wants, &format!("{{\"n\": {value}}}"))
        };
        for fine in ["4", "4.0", "-7", "0"] {
            assert_eq!(most(fine), "pass");
        }
        assert_eq!(most("5"), "body: n is 5, wanted at most 4");
        assert_eq!(most("4.01"), "body: n is 4.01, wanted at most 4");
        assert_eq!(most("\"3\""), "body: n is \"3\", wanted a number of at most 4");
        assert_eq!(most("null"), "body: n is null, wanted a number of at most 4");
        assert_eq!(
            judged(|it| it.json_max = vec![("a.b".into(), 1.0)], "{}"),
            "body: no field a.b in the file"
        );
    }

    #[test]
    fn times_are_read_in_every_usual_form() {
        let now: Timestamp = NOW.parse().unwrap();
        for fine in [
            "\"2026-01-31T11:59:00Z\"".to_owned(),
            "\"2026-01-31 12:59:00.25+01:00\"".to_owned(),
            now.as_second().to_string(),
            format!("{}.5", now.as_second()),
            now.as_millisecond().to_string(),
            format!("{}", now.as_second() - 119),
            format!("{}", now.as_second() + 119),
        ] {
            assert_eq!(aged(&fine), "pass", "{fine}");
        }
        let old = now.as_second() - 300;
        assert_eq!(aged(&old.to_string()), "stale: at is 5m old, wanted at most 2m");
        assert_eq!(aged(&(old * 1000).to_string()), "stale: at is 5m old, wanted at most 2m");
        assert_eq!(
            aged("\"2026-01-31T13:00:00Z\""),
            "stale: at is 1h in the future, wanted at most 2m old"
        );
    }

    #[test]
    fn what_is_no_time_is_told() {
        let wanted = "wanted a time (RFC 3339, or seconds or milliseconds since 1970)";
        for bad in ["null", "true", "\"soon\"", "-1", "1e300", "\"\""] {
            assert_eq!(aged(bad).split_once(", ").unwrap().1, wanted, "{bad}");
        }
        assert_eq!(
            aged("\"2026-01-31T11:59:00\""),
            "body: at is \"2026-01-31T11:59:00\", wanted a time with its zone (as in \
             2026-01-31T12:00:00Z)"
        );
    }

    #[test]
    fn a_file_ages_until_it_is_seen_to_change() {
        let path = std::env::temp_dir().join(format!("keepup-ages-{}", std::process::id()));
        let stamp = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Stamp::of(&std::fs::metadata(&path).unwrap())
        };
        let (one, two) = (stamp("1"), stamp("12"));
        std::fs::remove_file(&path).unwrap();
        let (ages, name, start) = (Ages::default(), Name::from("api"), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let age = |stamp, seconds| ages.take_in(&name, &path, stamp, after(seconds)).as_secs();
        assert_eq!([age(one, 0), age(one, 60), age(two, 70), age(two, 75)], [0, 60, 0, 5]);
        let other = ages.take_in(&Name::from("other"), &path, two, after(100));
        assert_eq!(other, Duration::ZERO);
    }
}
