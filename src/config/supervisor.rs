//! `[supervisor]`: keepup itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name;
use super::section::Section;
use super::source::Surroundings;
use super::value::Value;
use super::wrong::Wrong;
use super::{address, duration, host};
use crate::plan::{Host, Level, OwnLogFormat, Supervisor};

const LEVELS: [(&str, Level); 5] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

const FORMATS: [(&str, OwnLogFormat); 2] =
    [("text", OwnLogFormat::Text), ("json", OwnLogFormat::Json)];

pub(super) const USUAL_NAME: &str = "keepup";

pub(super) fn read(
    section: &Section<'_>,
    config: Option<PathBuf>,
    surroundings: &Surroundings,
) -> Option<Supervisor> {
    let name = section.or("name", USUAL_NAME.to_owned(), name::of_keepup);
    let folder = name.clone().unwrap_or_else(|| USUAL_NAME.to_owned());
    let state_dir = section.or("state_dir", surroundings.state_dir(&folder), Value::path);
    let runtime_dir = section.or("runtime_dir", surroundings.runtime_dir(&folder), runtime_dir);
    let logs = surroundings.log_dir(&folder, state_dir.as_deref().unwrap_or(Path::new("/")));
    let log_dir = section.or("log_dir", logs, Value::path);
    let listen = section.maybe("listen", listen);
    let control_group = section.maybe("control_group", Value::full_text);
    let log_level = section.or("log_level", Level::Info, |it| it.word(&LEVELS));
    let log_format = section.or("log_format", OwnLogFormat::Text, |it| it.word(&FORMATS));
    let usual = shutdown_timeout(surroundings);
    let shutdown_timeout = section.or("shutdown_timeout", usual, Value::duration);
    let stay = section.or("stay", false, Value::truth);
    let incidents_keep = section.or("incidents_keep", 100, |it| it.count(0..=1_000_000));
    let host = section.or("host", Host::default(), host::read);
    section.refuse_unknown();
    Some(Supervisor {
        name: name?,
        config,
        state_dir: state_dir?,
        runtime_dir: runtime_dir?,
        log_dir: log_dir?,
        listen: listen?,
        control_group: control_group?,
        log_level: log_level?,
        log_format: log_format?,
        shutdown_timeout: shutdown_timeout?,
        stay: stay?,
        incidents_keep: incidents_keep?,
        host: host?,
    })
}

/// Docker kills PID 1 ten seconds after it asked it to stop; Kubernetes waits thirty.
fn shutdown_timeout(surroundings: &Surroundings) -> Duration {
    let docker = surroundings.pid1 && !surroundings.kubernetes;
    Duration::from_secs(if docker { 9 } else { 25 })
}

fn runtime_dir(value: Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    value.ok(address::check_socket_length(&path.join("control.sock"))).map(|()| path)
}

fn listen(value: Value<'_>) -> Option<SocketAddr> {
    let address = address::socket_addr(value)?;
    if !address.ip().is_loopback() {
        value.warn(Wrong::hinted(
            format!("lets everybody who reaches {address} read the status and the events"),
            format!("write \"127.0.0.1:{}\" to keep them on this machine", address.port()),
        ));
    }
    Some(address)
}

/// Whether the stop of a service is cut short, and what to say about it.
pub(super) fn cut_short(stop: Duration, shutdown: Duration) -> Option<String> {
    (stop > shutdown).then(|| {
        let [stop, shutdown] = [stop, shutdown].map(duration::print);
        format!("is cut short by [supervisor] shutdown_timeout: {stop} is more than {shutdown}")
    })
}
