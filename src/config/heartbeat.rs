//! `[service.NAME.heartbeat]`: how a service shows that it lives.

use std::time::Duration;

use super::duration;
use super::section::Section;
use super::value::Value;
use super::wrong::Wrong;
use crate::plan::Heartbeat;

/// The heartbeat, if there is one; nothing if it is wrong, and reported.
#[expect(clippy::option_option, reason = "outside: nothing, because it is wrong")]
pub(super) fn read(service: &Section<'_>, notify: bool) -> Option<Option<Heartbeat>> {
    let section = service.section("heartbeat");
    let file = section.maybe("file", Value::path);
    let degraded_after = section.maybe("degraded_after", Value::duration);
    let unhealthy_after = section.maybe("unhealthy_after", Value::duration);
    section.refuse_unknown();
    let file = file?;
    // Defaults may say how long, and leave it to each service which file, or none.
    let own = service.is_own("heartbeat") || notify;
    if file.is_none() && !(own && section.is_written()) {
        return degraded_after.and(unhealthy_after).map(|_| None);
    }
    let (degraded_after, unhealthy_after) = match (degraded_after?, unhealthy_after?) {
        (None, None) => (Duration::from_secs(60), Duration::from_secs(120)),
        (Some(degraded), None) => (degraded, degraded.saturating_mul(2)),
        (None, Some(unhealthy)) => (unhealthy / 2, unhealthy),
        (Some(degraded), Some(unhealthy)) => (degraded, unhealthy),
    };
    if degraded_after >= unhealthy_after {
        let [degraded, unhealthy] = [degraded_after, unhealthy_after].map(duration::print);
        section.at("unhealthy_after").refuse(Wrong::new(format!(
            "`unhealthy_after` must be above `degraded_after`, found {unhealthy} and {degraded}"
        )));
        return None;
    }
    Some(Some(Heartbeat { file, degraded_after, unhealthy_after }))
}
