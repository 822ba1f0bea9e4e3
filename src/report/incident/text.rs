//! An incident as Markdown, the most important first.

use std::fmt::{self, Write};
use std::time::Duration;

use super::{Criticality, Incident, Moment, Outcome};
use crate::core::event::Short;
use crate::os::evidence::{Evidence, HostSeen, ProcessSeen, ThreadSeen};
use crate::os::pressure::{Pressure, Stall};
use crate::status::Stamp;

/// The whole report.
pub(super) fn markdown(it: &Incident) -> String {
    let mut out = String::new();
    // Writing into memory does not fail.
    let _ = write(it, &mut out);
    out
}

fn write(it: &Incident, out: &mut String) -> fmt::Result {
    let lasted = it.lasted().map(Short);
    let state = match (it.outcome, lasted) {
        (Outcome::Recovered, Some(lasted)) => format!("recovered after {lasted}"),
        (outcome, _) => outcome.to_string(),
    };
    writeln!(out, "# {}: {}; {state}\n", it.service, it.reason)?;
    summary(it, out)?;
    list(out, "Probable cause", it.causes.iter().map(String::as_str))?;
    list(out, "Follow-up", it.follow_up.iter().map(String::as_str))?;
    chronology(it, out)?;
    let action = |it: &super::Action| match it.count {
        1 => it.what.clone(),
        count => format!("{} ({count} times)", it.what),
    };
    let actions: Vec<String> = it.actions.iter().map(action).collect();
    list(out, "Actions", actions.iter().map(String::as_str))?;
    writeln!(out, "## Evidence\n")?;
    failures(it, out)?;
    for (nth, tail) in it.log.iter().enumerate() {
        let which = if nth == 0 { "first" } else { "last" };
        writeln!(out, "### Its last lines, at the {which} failure ({})\n", tail.at)?;
        block(out, tail.lines.iter().map(String::as_str))?;
    }
    probes(it, out)?;
    for evidence in &it.evidence {
        hung(evidence, out)?;
    }
    if let Some(host) = &it.host {
        host_seen("The machine", host, out)?;
    }
    Ok(())
}

fn summary(it: &Incident, out: &mut String) -> fmt::Result {
    writeln!(out, "## Summary\n")?;
    writeln!(out, "- What: {}", it.what)?;
    writeln!(out, "- Began: {}", it.began_at)?;
    match (it.ended_at, it.lasted()) {
        (Some(at), Some(lasted)) => {
            writeln!(out, "- Ended: {at}, after {}; {}", Short(lasted), it.outcome)?;
        }
        _ => writeln!(out, "- Ended: {}", it.outcome)?,
    }
    writeln!(out, "- Runs that failed: {}", it.failures_count)?;
    let affects =
        if it.affects.is_empty() { "no other service".to_owned() } else { it.affects.join(", ") };
    writeln!(out, "- Affects: {affects}")?;
    let criticality = match it.criticality {
        Criticality::Degraded => "degraded",
        Criticality::Critical => "critical",
    };
    writeln!(out, "- Criticality: {criticality}\n")
}

fn list<'a>(out: &mut String, title: &str, items: impl Iterator<Item = &'a str>) -> fmt::Result {
    writeln!(out, "## {title}\n")?;
    for item in items {
        writeln!(out, "- {item}")?;
    }
    writeln!(out)
}

fn chronology(it: &Incident, out: &mut String) -> fmt::Result {
    writeln!(out, "## Chronology\n")?;
    let line = |moment: &Moment| format!("{} {}", moment.at.time_of_day(), moment.what);
    let mut lines: Vec<String> = it.chronology.iter().map(line).collect();
    if it.moments_left_out > 0 && lines.len() > super::FIRST_MAX {
        lines.insert(super::FIRST_MAX, format!("… {} more …", it.moments_left_out));
    }
    block(out, lines.iter().map(String::as_str))
}

fn failures(it: &Incident, out: &mut String) -> fmt::Result {
    writeln!(out, "### Ends\n")?;
    for failure in it.failures.iter().rev().take(10).rev() {
        let up = Short(Duration::try_from_secs_f64(failure.uptime_seconds).unwrap_or_default());
        let exit = failure.exit.as_ref().filter(|it| it.text != failure.what);
        let exit = exit.map(|it| format!(" ({})", it.text)).unwrap_or_default();
        let (at, run, what) = (time(failure.at), failure.run, &failure.what);
        writeln!(out, "- {at} run {run}, up {up}: {what}{exit}")?;
    }
    writeln!(out)
}

fn probes(it: &Incident, out: &mut String) -> fmt::Result {
    if it.probes.is_empty() {
        return Ok(());
    }
    writeln!(out, "### What probes answered before\n")?;
    let line = |it: &super::Answered| {
        let said = it.miss.as_deref().unwrap_or("passed");
        let class = it.class.as_ref().map(|it| format!(" [{it}]")).unwrap_or_default();
        format!("{} {:>8.1} ms {} {}: {said}{class}", time(it.at), it.took_ms, it.role, it.probe)
    };
    let lines: Vec<String> = it.probes.iter().map(line).collect();
    block(out, lines.iter().map(String::as_str))
}

fn hung(it: &Evidence, out: &mut String) -> fmt::Result {
    let at = it.at.map(|it| it.to_string()).unwrap_or_default();
    writeln!(out, "### What was seen while it hung ({at})\n")?;
    if let Some(why) = &it.incomplete {
        writeln!(out, "Not all could be seen: {why}.\n")?;
    }
    for process in &it.processes {
        process_seen(process, out)?;
    }
    if it.processes_more > 0 {
        writeln!(out, "And {} more processes.\n", it.processes_more)?;
    }
    host_seen("The machine then", &it.host, out)
}

fn process_seen(it: &ProcessSeen, out: &mut String) -> fmt::Result {
    let command = it.command.as_deref().unwrap_or(&it.name);
    writeln!(out, "**pid {}** `{}`\n", it.pid, command.replace('`', "'"))?;
    let mib = |it: Option<f64>| it.map_or_else(|| "?".to_owned(), |it| format!("{it:.1}"));
    writeln!(
        out,
        "- {}, parent {}, {} MiB anonymous memory, {} MiB swapped, {:.2} s of processor time",
        it.state,
        it.parent,
        mib(it.memory_mib),
        mib(it.swap_mib),
        it.cpu_seconds
    )?;
    match it.files_count {
        Some(count) => writeln!(out, "- {count} open files, {} threads", it.threads_count)?,
        None => writeln!(out, "- open files: not permitted; {} threads", it.threads_count)?,
    }
    if let Some(maps) = &it.maps {
        writeln!(out, "- {maps}")?;
    }
    writeln!(out)?;
    let lines: Vec<String> = it.threads.iter().flat_map(thread_lines).collect();
    let files = it.files.iter().map(|it| format!("fd {it}"));
    let all: Vec<String> = lines.into_iter().chain(files).collect();
    block(out, all.iter().map(String::as_str))
}

fn thread_lines(it: &ThreadSeen) -> Vec<String> {
    let wait = it.wait.as_deref().map(|it| format!(", waits in {it}")).unwrap_or_default();
    let call = it.call.as_deref().map(|it| format!(", call {it}")).unwrap_or_default();
    let head = format!("thread {} {} {}{wait}{call}", it.tid, it.name, it.state);
    let stack = it.stack.iter().map(|it| format!("    {it}"));
    std::iter::once(head).chain(stack).collect()
}

fn host_seen(title: &str, it: &HostSeen, out: &mut String) -> fmt::Result {
    writeln!(out, "### {title}\n")?;
    if let Some(load) = it.load1 {
        writeln!(out, "- load {load}")?;
    }
    if let (Some(free), Some(all)) = (it.memory_available_mib, it.memory_total_mib) {
        writeln!(out, "- {free} of {all} MiB memory available")?;
    }
    writeln!(out, "- waiting, of the last 10 s and 60 s: {}", pressure(&it.pressure))?;
    if let Some(group) = &it.group {
        writeln!(out, "- control group {group}")?;
        for (name, value) in &it.group_figures {
            writeln!(out, "  - {name} {value}")?;
        }
        if let Some(waits) = &it.group_pressure {
            writeln!(out, "  - waiting in it: {}", pressure(waits))?;
        }
    }
    writeln!(out)
}

fn pressure(it: &Pressure) -> String {
    let one = |what: &str, stall: Option<Stall>| match stall {
        Some(it) => format!("{what} {:.0} % and {:.0} %", it.some_avg10, it.some_avg60),
        None => format!("{what} not shown"),
    };
    [one("processor", it.cpu), one("memory", it.memory), one("disk", it.io)].join(", ")
}

fn time(at: Stamp) -> impl fmt::Display {
    at.time_of_day()
}

/// Indented, so that nothing in it can end it.
fn block<'a>(out: &mut String, lines: impl Iterator<Item = &'a str>) -> fmt::Result {
    for line in lines {
        writeln!(out, "    {line}")?;
    }
    writeln!(out)
}
