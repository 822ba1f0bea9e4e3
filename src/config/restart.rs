//! `[service.NAME.restart]`: what follows an end.

use std::time::Duration;

use super::command;
use super::section::Section;
use super::service::Pass;
use super::value::Value;
use super::wrong::{Wrong, did_you_mean};
use super::{duration, schedule};
use crate::plan::{ExitMatch, OnCap, Policy, Restart};

const POLICIES: [(&str, Policy); 5] = [
    ("always", Policy::Always),
    ("on-failure", Policy::OnFailure),
    ("unless-stopped", Policy::UnlessStopped),
    ("never", Policy::Never),
    ("no", Policy::Never),
];

const ON_CAP: [(&str, OnCap); 3] =
    [("retry", OnCap::Retry), ("fail", OnCap::Fail), ("exit", OnCap::Exit)];

/// More restarts than anybody counts.
const COUNT_MAX: u32 = 1_000_000;

/// A policy as it is written; `on-failure:N` brings a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    policy: Policy,
    cap: Option<u32>,
}

pub(super) fn read(section: &Section<'_>, oneshot: bool, pass: Pass) -> Option<Restart> {
    let usual = if oneshot { Policy::OnFailure } else { Policy::Always };
    let policy = section.or("policy", Written { policy: usual, cap: None }, policy);
    let max_restarts = section.or("max_restarts", 10, |it| it.count(0..=COUNT_MAX));
    let on_cap = section.maybe("on_cap", |it| it.word(&ON_CAP));
    let seconds = Duration::from_secs;
    let delay = section.or("delay", Duration::from_millis(500), Value::duration);
    let max_delay = section.or("max_delay", seconds(60), Value::duration);
    let factor = section.or("factor", 2.0, |it| it.number(1.0..=1000.0));
    let jitter = section.or("jitter", 0.1, |it| it.number(0.0..=1.0));
    let window = section.or("window", seconds(30 * 60), Value::duration);
    let stable_after = section.or("stable_after", seconds(60), Value::duration);
    let retry_after = section.or("retry_after", seconds(300), Value::duration);
    let codes = |it: Value<'_>| it.list_of(command::exit_match);
    let success_codes = section.or("success_codes", vec![ExitMatch::Code(0)], codes);
    let fatal_codes = section.or("fatal_codes", Vec::new(), codes);
    section.refuse_unknown();

    let written = policy?;
    let cap = cap(section, written)?;
    let restart = Restart {
        policy: written.policy,
        delay: delay?,
        max_delay: max_delay_above(section, delay?, max_delay?),
        factor: factor?,
        jitter: jitter?,
        max_restarts: match cap {
            Some(cap) => cap,
            None => max_restarts?,
        },
        window: window?,
        stable_after: stable_after?,
        on_cap: on_cap?.unwrap_or(if cap.is_some() { OnCap::Fail } else { OnCap::Retry }),
        retry_after: retry_after?,
        success_codes: success_codes?,
        fatal_codes: fatal_codes?,
    };
    if pass == Pass::Service {
        check(section, &restart);
    }
    Some(restart)
}

fn policy(value: Value<'_>) -> Option<Written> {
    let text = value.text()?;
    if let Some((_, policy)) = POLICIES.iter().find(|it| it.0 == text) {
        return Some(Written { policy: *policy, cap: None });
    }
    if let Some(count) = text.strip_prefix("on-failure:") {
        let digits = count.bytes().all(|b| b.is_ascii_digit());
        let cap = count.parse().ok().filter(|&cap| digits && (1..=COUNT_MAX).contains(&cap));
        if cap.is_none() {
            let wrong = format!("must be on-failure:N with N of 1 to {COUNT_MAX}, found `{text}`");
            value.refuse(Wrong::hinted(wrong, "for no cap, write max_restarts = 0"));
        }
        return Some(Written { policy: Policy::OnFailure, cap: Some(cap?) });
    }
    let names = POLICIES.iter().map(|it| it.0).chain(["on-failure:N"]);
    value.refuse(Wrong { text: format!("cannot be `{text}`"), hint: did_you_mean(&text, names) });
    None
}

/// The cap that the policy brings. Written in one table, it and `max_restarts` contradict each
/// other; written in two, the nearer one holds.
#[expect(clippy::option_option, reason = "outside: nothing, because it is wrong")]
fn cap(section: &Section<'_>, written: Written) -> Option<Option<u32>> {
    let Some(cap) = written.cap else { return Some(None) };
    let policy = section.get_with_depth("policy").map(|it| it.0);
    match section.get_with_depth("max_restarts") {
        Some((depth, value)) if Some(depth) == policy => {
            value.refuse(Wrong::hinted(
                format!("cannot stand beside `on-failure:{cap}`, which is a cap itself"),
                "write policy = \"on-failure\"",
            ));
            None
        }
        Some((depth, _)) if Some(depth) < policy => Some(None),
        Some(_) | None => Some(Some(cap)),
    }
}

/// The longest delay; the default of it gives way to a longer `delay`.
fn max_delay_above(section: &Section<'_>, delay: Duration, max_delay: Duration) -> Duration {
    if section.get("max_delay").is_some() { max_delay } else { max_delay.max(delay) }
}

fn check(section: &Section<'_>, restart: &Restart) {
    if restart.delay > restart.max_delay
        && let Some(value) = section.get("max_delay")
    {
        let [max_delay, delay] = [restart.max_delay, restart.delay].map(duration::print);
        let wrong = format!("must not be below `delay`: {max_delay} is less than {delay}");
        value.refuse(Wrong::new(wrong));
    }
    let both = restart.fatal_codes.iter().find(|it| restart.success_codes.contains(it));
    if let (Some(both), Some(value)) = (both, section.get("fatal_codes")) {
        let both = match both {
            ExitMatch::Code(code) => format!("the exit code {code}"),
            ExitMatch::Signal(signal) => signal.to_string(),
        };
        value.refuse(Wrong::new(format!("holds {both}, which is also in `success_codes`")));
    }
    if restart.policy != Policy::Never && !schedule::is_reached(restart, Duration::ZERO) {
        refuse_cap(section, restart);
    }
}

/// Refuses a cap that even a service that crashes at once cannot reach: it would restart for ever.
fn refuse_cap(section: &Section<'_>, restart: &Restart) {
    let Some(total) = schedule::time_to_cap(restart, Duration::ZERO) else { return };
    let window = duration::print(restart.window);
    let key = ["window", "max_restarts", "policy"].into_iter().find(|it| section.get(it).is_some());
    let at = key.map_or(section.at, |key| section.at(key));
    let most = schedule::most_reachable(restart);
    let more = duration::print(total.saturating_add(total / 2));
    let lower = match most {
        0 => String::new(),
        _ => format!(", or max_restarts to at most {most}"),
    };
    at.refuse(Wrong::hinted(
        format!(
            "the cap of {} restarts within {window} is never reached: \
             the delays alone add up to {}",
            restart.max_restarts,
            duration::print(total),
        ),
        format!("set window to \"{more}\" or so{lower}"),
    ));
}
