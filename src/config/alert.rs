//! `[[alert]]`: checked, and not available yet.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::section::{Layer, Section};
use super::unavailable::not_yet;
use super::value::Value;
use super::wrong::{Wrong, did_you_mean};
use super::{address, command};

/// The events that an alert can be about.
const EVENTS: [(&str, ()); 19] = [
    ("starting", ()),
    ("up", ()),
    ("ready", ()),
    ("miss", ()),
    ("degraded", ()),
    ("healthy", ()),
    ("unhealthy", ()),
    ("stopping", ()),
    ("killing", ()),
    ("stuck", ()),
    ("ended", ()),
    ("backoff", ()),
    ("gave-up", ()),
    ("down", ()),
    ("done", ()),
    ("reloaded", ()),
    ("lost-lines", ()),
    ("host", ()),
    ("alert-failed", ()),
];

const FORMATS: [(&str, ()); 5] =
    [("slack", ()), ("discord", ()), ("telegram", ()), ("alertmanager", ()), ("json", ())];

/// Checks all alerts; `names` are those of the services.
pub(super) fn check(value: Value<'_>, names: &BTreeSet<&str>) {
    let DeValue::Array(_) = value.item else {
        value.must_be("a list of tables", Some("write [[alert]]".to_owned()));
        return;
    };
    for alert in value.list().unwrap_or_default() {
        if let Some(layer) = alert.table()
            && one(layer, names).is_some()
        {
            alert.at.refuse(not_yet("`[[alert]]`"));
        }
    }
}

fn one(layer: Layer<'_>, names: &BTreeSet<&str>) -> Option<()> {
    let section = Section::of(layer);
    let on = section.maybe("on", |it| it.list_of(|event| event.word(&EVENTS)));
    let known = |it: Value<'_>| service(it, names);
    let services = section.maybe("services", |it| it.list_of(known));
    let webhook = section.maybe("webhook", |it| address::url(it).map(|_| ()));
    let exec = section.maybe("exec", |it| command::argv(it).map(|_| ()));
    let format = section.maybe("format", |it| it.word(&FORMATS));
    let repeat = section.maybe("repeat", Value::duration);
    section.refuse_unknown();
    if on?.is_none() {
        section.at.refuse(Wrong::hinted("the alert has no `on`", "add on = [\"gave-up\"]"));
        return None;
    }
    match (webhook?, exec?) {
        (None, None) => {
            let hint = "add webhook = \"https://…\" or exec = [\"program\"]";
            section.at.refuse(Wrong::hinted("the alert says not where to send it", hint));
            return None;
        }
        (Some(()), Some(())) => {
            let at = section.at("exec");
            at.refuse(Wrong::new("`exec` cannot stand beside `webhook`"));
            return None;
        }
        (Some(()), None) | (None, Some(())) => {}
    }
    services.and(format).and(repeat).map(|_| ())
}

fn service(value: Value<'_>, names: &BTreeSet<&str>) -> Option<()> {
    let name = value.text()?;
    if names.contains(name.as_str()) {
        return Some(());
    }
    let hint = did_you_mean(&name, names.iter().copied());
    value.refuse(Wrong { text: format!("names an unknown service `{name}`"), hint });
    None
}
