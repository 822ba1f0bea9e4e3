//! What only shows when all services are seen together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::duration;
use super::listen;
use super::schedule;
use super::service::Draft;
use super::supervisor::cut_short;
use super::value::At;
use super::wrong::{Wrong, did_you_mean};
use crate::plan::{Name, Policy, Service, Supervisor};

type ByName<'d, 't> = BTreeMap<&'d str, &'d Draft<'t>>;

pub(super) fn check(drafts: &[Draft<'_>], supervisor: Option<&Supervisor>) {
    let by_name: ByName<'_, '_> = drafts.iter().map(|draft| (&*draft.name, draft)).collect();
    for draft in drafts {
        check_after(draft, &by_name);
        if let Some(service) = &draft.plan {
            warn_of_cap(draft, service);
            warn_of_stop(draft, service, supervisor);
        }
    }
    refuse_cycles(drafts, &by_name);
    let logs = drafts.iter().filter_map(|it| {
        let file = it.plan.as_ref()?.logs.file.as_path();
        Some((it.log_at, file, &it.name))
    });
    refuse_shared(logs.collect(), "log file");
    let heartbeats = drafts.iter().filter_map(|it| {
        let file = it.plan.as_ref()?.heartbeat.as_ref()?.file.as_deref()?;
        Some((it.heartbeat_at, file, &it.name))
    });
    refuse_shared(heartbeats.collect(), "heartbeat file");
    listen::check(drafts);
}

fn check_after(draft: &Draft<'_>, by_name: &ByName<'_, '_>) {
    for (name, at) in &draft.after {
        let Some(other) = by_name.get(&**name) else {
            let others = by_name.keys().copied().filter(|it| **it != *draft.name);
            let hint = did_you_mean(name, others);
            let text = format!("`after` names an unknown service `{name}`");
            at.refuse(Wrong { text, hint });
            continue;
        };
        let autostart = |it: &Draft<'_>| it.plan.as_ref().is_none_or(|it| it.autostart);
        if autostart(draft) && !autostart(other) {
            at.warn(Wrong::hinted(
                format!("waits for `{name}`, which has autostart = false"),
                format!("it starts once somebody has said `keepup start {name}`"),
            ));
        }
    }
}

/// Warns of a cap that crashes reach, but slower ways to fail do not.
fn warn_of_cap(draft: &Draft<'_>, service: &Service) {
    let restart = &service.restart;
    let reached = |each| schedule::is_reached(restart, each);
    if restart.policy == Policy::Never || !reached(std::time::Duration::ZERO) {
        return;
    }
    let slow: Vec<schedule::Way> =
        schedule::ways(service).into_iter().filter(|way| !reached(way.each)).collect();
    let slowest = slow.iter().filter_map(|way| schedule::time_to_cap(restart, way.each)).max();
    let Some(slowest) = slowest else { return };
    let what: Vec<&str> = slow.iter().map(|way| way.what.as_str()).collect();
    let window = duration::print(restart.window);
    draft.cap_at.warn(Wrong::hinted(
        format!(
            "the cap of {} restarts within {window} is never reached by a service that {}",
            restart.max_restarts,
            what.join(", or "),
        ),
        format!("set [service.{}.restart] window to more than \"{}\"", draft.name, {
            duration::print(rounded_up(slowest))
        }),
    ));
}

/// To whole seconds, which are easier to read.
fn rounded_up(duration: std::time::Duration) -> std::time::Duration {
    let more = u64::from(duration.subsec_nanos() > 0);
    std::time::Duration::from_secs(duration.as_secs().saturating_add(more))
}

fn warn_of_stop(draft: &Draft<'_>, service: &Service, supervisor: Option<&Supervisor>) {
    if let (Some(at), Some(supervisor)) = (draft.stop_timeout_at, supervisor)
        && let Some(text) = cut_short(service.stop_timeout, supervisor.shutdown_timeout)
    {
        at.warn(Wrong::hinted(format!("`stop_timeout` {text}"), "raise shutdown_timeout"));
    }
}

fn refuse_cycles(drafts: &[Draft<'_>], by_name: &ByName<'_, '_>) {
    let mut left: BTreeSet<&str> = by_name.keys().copied().collect();
    loop {
        // What waits for nothing that is left cannot be part of a cycle.
        let waits = |name: &str| by_name[name].after.iter().any(|it| left.contains(&*it.0));
        let free: Vec<&str> = left.iter().copied().filter(|name| !waits(name)).collect();
        for name in &free {
            left.remove(name);
        }
        if !free.is_empty() {
            continue;
        }
        let Some(first) = drafts.iter().find(|it| left.contains(&*it.name)) else { return };
        for name in refuse_cycle(first, by_name, &left) {
            left.remove(name);
        }
    }
}

/// Follows what each waits for, until it comes back to one: every one that is left waits for one.
fn refuse_cycle<'d>(
    first: &'d Draft<'_>,
    by_name: &ByName<'d, '_>,
    left: &BTreeSet<&'d str>,
) -> Vec<&'d str> {
    let mut path: Vec<&str> = vec![&*first.name];
    loop {
        let last = path[path.len() - 1];
        let next = by_name[last].after.iter().find(|it| left.contains(&*it.0));
        let Some((next, at)) = next else { return path };
        let Some(begin) = path.iter().position(|name| **name == **next) else {
            let (&next, _) = by_name.get_key_value(&**next).unwrap_or((&last, &first));
            path.push(next);
            continue;
        };
        let cycle = path.split_off(begin);
        let names: Vec<String> = cycle.iter().map(|name| format!("`{name}`")).collect();
        at.refuse(Wrong::new(match names.as_slice() {
            [name] => format!("{name} waits for itself"),
            names => format!("services wait for each other: {} → {}", names.join(" → "), names[0]),
        }));
        return cycle;
    }
}

/// Refuses a file that two services write to: its rotation and its beats would be of both.
fn refuse_shared(files: Vec<(At<'_>, &Path, &Name)>, what: &str) {
    let mut seen: BTreeMap<&Path, &Name> = BTreeMap::new();
    for (at, file, name) in &files {
        match seen.get(file) {
            Some(other) => at.refuse(Wrong::new(format!(
                "`{name}` has the same {what} as `{other}`: {}",
                file.display()
            ))),
            None => {
                seen.insert(file, name);
            }
        }
    }
    if what != "log file" {
        return;
    }
    for (at, file, name) in files {
        let rotated = file.extension().is_some_and(|it| {
            !it.is_empty() && it.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        });
        if rotated && let Some(other) = seen.get(file.with_extension("").as_path()) {
            at.refuse(Wrong::new(format!(
                "`{name}` has a log file that the rotation of `{other}` overwrites: {}",
                file.display()
            )));
        }
    }
}
