//! `[service.NAME.liveness]` and its like: what is asked, how often, and what follows.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::address::Scheme;
use super::section::{Layer, Section};
use super::service::Pass;
use super::value::{Value, Zero};
use super::wrong::Wrong;
use super::{address, command, duration, file, http, trust};
use crate::plan::{Class, GrpcProbe, HttpAddress, Probe, ProbeKind, Role};

/// The keys that say what is asked; one of them per probe.
const KINDS: [&str; 6] = ["http", "tcp", "exec", "grpc", "file", "listening"];

/// Keys of some kinds only.
const KEYS_OF_KINDS: [(&str, &[&str]); 11] = [
    ("method", &["http"]),
    ("headers", &["http"]),
    ("body", &["http"]),
    ("status", &["http"]),
    ("contains", &["http"]),
    ("json", &["http", "file"]),
    ("json_max", &["file"]),
    ("json_age", &["file"]),
    ("max_age", &["file"]),
    ("insecure", &["http", "grpc"]),
    ("ca_file", &["http", "grpc"]),
];

const COUNT_MAX: u32 = 1_000_000;

/// The probes of a role: one table, or several. A table of the defaults is laid under each, unless
/// the two ask different questions; one that asks nothing is no probe of its own.
pub(super) fn read(
    role: Role,
    key: &'static str,
    service: &Section<'_>,
    pass: Pass,
) -> Option<Vec<Probe>> {
    let own = pass == Pass::Service && service.is_own(key);
    let values = service.all(key);
    let Some((value, below)) = values.split_first() else { return Some(Vec::new()) };
    let below = below.iter().find(|it| matches!(it.item, DeValue::Table(_)));
    let below = below.and_then(|it| it.table());
    match value.item {
        DeValue::Array(_) => value.list_of(|it| one(role, &over(it.table()?, below))),
        DeValue::Table(_) => {
            let layer = value.table()?;
            if !own && kind_of(layer).is_none() {
                let section = Section::of(layer);
                // Each key is checked, and there is no probe yet.
                let _ = (http::read(&section), file::read(&section), grpc(&section));
                let _ = KINDS.map(|kind| section.get(kind));
                return rest(role, ProbeKind::Exec(Vec::new()), &section).map(|_| Vec::new());
            }
            Some(vec![one(role, &over(layer, below))?])
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            value.must_be("a table", Some(format!("write [service.NAME.{role}]")));
            None
        }
    }
}

/// What a probe asks, as far as its key says it.
fn kind_of(layer: Layer<'_>) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| layer.table.contains_key(*kind))
}

fn over<'t>(layer: Layer<'t>, below: Option<Layer<'t>>) -> Section<'t> {
    let agrees = |below: &Layer<'_>| match (kind_of(layer), kind_of(*below)) {
        (Some(own), Some(other)) => own == other,
        (None, _) | (_, None) => true,
    };
    let below = below.filter(agrees);
    Section::new(layer.at, std::iter::once(layer).chain(below).collect())
}

fn one(role: Role, section: &Section<'_>) -> Option<Probe> {
    let kind = kind(section);
    let probe = rest(role, ProbeKind::Exec(Vec::new()), section);
    Some(Probe { kind: kind?, ..probe? })
}

/// The keys of all kinds.
fn rest(role: Role, kind: ProbeKind, section: &Section<'_>) -> Option<Probe> {
    let interval = section.or("interval", Duration::from_secs(10), Value::duration);
    let retry_interval = section.maybe("retry_interval", Value::duration);
    let timeout = section.or("timeout", Duration::from_secs(5), Value::duration);
    let failures = section.or("failures", 3, |it| it.count(1..=COUNT_MAX));
    let successes = section.or("successes", 1, |it| it.count(1..=COUNT_MAX));
    let initial_delay =
        section.or("initial_delay", Duration::ZERO, |it| it.duration_from(Zero::Allowed));
    let slow = section.maybe("slow", Value::duration);
    let definite =
        section.or("definite", Vec::new(), |it| it.list_of(|class| class.word(&Class::ALL)));
    section.refuse_unknown();
    if let (Some(timeout), Some(Some(slow)), Some(value)) = (timeout, slow, section.get("slow"))
        && slow >= timeout
    {
        let (slow, timeout) = (duration::print(slow), duration::print(timeout));
        value.refuse(Wrong::hinted(
            format!("must be below `timeout`, found {slow} and {timeout}"),
            "an answer is slow if it comes, but late; after `timeout` it is a miss",
        ));
    }
    Some(Probe {
        role,
        kind,
        interval: interval?,
        retry_interval: retry_interval?.unwrap_or_else(|| third(interval.unwrap_or_default())),
        timeout: timeout?,
        failures: failures?,
        successes: successes?,
        initial_delay: initial_delay?,
        slow: slow?,
        definite: definite?,
    })
}

/// A third, in whole milliseconds where that is exact enough.
fn third(interval: Duration) -> Duration {
    let third = interval / 3;
    match third.as_millis() {
        0..100 => third.max(Duration::from_micros(1)),
        millis => Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)),
    }
}

fn kind(section: &Section<'_>) -> Option<ProbeKind> {
    let http = http::read(section);
    let tcp = section.maybe("tcp", address::host_port);
    let exec = section.maybe("exec", command::argv);
    let file = file::read(section);
    let grpc = grpc(section);
    let listening = section.maybe("listening", address::socket_addr);
    let written: Vec<Value<'_>> = KINDS.iter().filter_map(|kind| section.get(kind)).collect();
    let [value] = written.as_slice() else {
        refuse_kinds(section, written);
        return None;
    };
    refuse_keys_of_others(section, value.key);
    match value.key {
        "http" => Some(ProbeKind::Http(Box::new(http?))),
        "tcp" => Some(ProbeKind::Tcp(tcp??)),
        "exec" => Some(ProbeKind::Exec(exec??)),
        "grpc" => Some(ProbeKind::Grpc(Box::new(grpc?))),
        "listening" => Some(ProbeKind::Listening(listening??)),
        "file" => Some(ProbeKind::File(Box::new(file?))),
        // There are no others.
        _ => None,
    }
}

/// What a gRPC probe asks; nothing if there is none, or if a key is wrong.
fn grpc(section: &Section<'_>) -> Option<GrpcProbe> {
    let (scheme, probe) = section.maybe("grpc", address::grpc)??;
    if scheme != Scheme::Https {
        trust::refuse(section, "is for https:// addresses");
        return Some(probe);
    }
    let trust = trust::read(section)?;
    match probe.address {
        HttpAddress::Tcp(host, port) => {
            Some(GrpcProbe { address: HttpAddress::Tls(host, port, trust), ..probe })
        }
        HttpAddress::Tls(..) | HttpAddress::Unix(_) => Some(probe),
    }
}

/// None, or more than one.
fn refuse_kinds(section: &Section<'_>, mut written: Vec<Value<'_>>) {
    written.sort_by_key(|it| it.at.span);
    if let [first, second, ..] = written.as_slice() {
        second.refuse(Wrong::hinted(
            format!("cannot stand beside `{}`: a probe asks one question", first.key),
            "for several probes, write each as [[service.NAME.ROLE]]",
        ));
        return;
    }
    section.at.refuse(Wrong::hinted(
        "the probe does not say what to ask",
        format!("add one of `{}`, as in http = \"http://127.0.0.1:8000/\"", KINDS.join("`, `")),
    ));
}

fn refuse_keys_of_others(section: &Section<'_>, kind: &str) {
    for (key, kinds) in KEYS_OF_KINDS {
        if !kinds.contains(&kind)
            && let Some(value) = section.get(key)
        {
            let kinds = kinds.join("` and `");
            value.refuse(Wrong::new(format!("is for `{kinds}` probes, and this one is `{kind}`")));
        }
    }
}

/// Status codes: one number, or `200-399,404`.
pub(super) fn status(value: Value<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let code = |number: i64| u16::try_from(number).ok();
    if let DeValue::Integer(_) = value.item {
        let code = value.whole(100..=599).and_then(code)?;
        return Some(vec![code..=code]);
    }
    let text = value.text()?;
    let ranges: Option<Vec<RangeInclusive<u16>>> = text.split(',').map(range).collect();
    if ranges.is_none() {
        value.refuse(Wrong::hinted(
            format!("must hold codes and ranges of 100 to 599, found `{text}`"),
            "write \"200-399\" or \"200,204,404\"",
        ));
    }
    ranges
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let code = |text: &str| {
        let text = text.trim();
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|code| digits && (100..=599).contains(code))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = code(low)?..=code(high)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_codes() {
        assert_eq!(range("200-399"), Some(200..=399));
        assert_eq!(range(" 404 "), Some(404..=404));
        for wrong in ["", "-", "399-200", "99", "600", "2xx", "+200", "200-", "0200"] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_third_is_a_round_number() {
        assert_eq!(third(Duration::from_secs(10)), Duration::from_millis(3333));
        assert_eq!(third(Duration::from_micros(1)), Duration::from_micros(1));
        assert_eq!(third(Duration::from_millis(100)), Duration::from_nanos(33_333_333));
    }
}
