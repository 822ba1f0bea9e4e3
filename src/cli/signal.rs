//! Signals on the command line, and `keepup signal`.

use super::error::{Error, Kind};
use super::output::say;
use super::remote::{Remote, name};
use crate::config::closest;
use crate::control::Outcome;
use crate::control::protocol::signal_path;
use crate::plan::Signal;

/// A signal by name or number.
pub(super) fn named(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| {
        let upper = text.to_ascii_uppercase();
        let meant = closest(upper.strip_prefix("SIG").unwrap_or(&upper), Signal::names());
        let hint = meant.map(|it| format!("; did you mean `{it}`?")).unwrap_or_default();
        format!("there is no signal `{text}`{hint}")
    })
}

/// `A:B`; a B of 0 means that nothing is passed on.
pub(super) fn rewrite(text: &str) -> Result<(Signal, Option<Signal>), String> {
    let Some((from, to)) = text.split_once(':') else {
        return Err("it must be two signals with a `:` between them, as in 15:3".to_owned());
    };
    let to = if to == "0" { None } else { Some(named(to)?) };
    Ok((named(from)?, to))
}

/// Has a running keepup pass a signal on to a service.
pub(super) fn send(remote: &Remote, service: &str, signal: Signal) -> Result<(), Error> {
    let reply = remote.post(&signal_path(name(service)?, signal))?;
    match serde_json::from_slice::<Outcome>(&reply.body) {
        Ok(outcome) => say(outcome.text),
        Err(error) => {
            let message = format!("cannot read what came of it: {error}");
            Err(Error::new(Kind::Failed, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_rewritten_by_name_and_number() {
        let quit = Signal(libc::SIGQUIT);
        assert_eq!(rewrite("15:3"), Ok((Signal::TERM, Some(quit))));
        assert_eq!(rewrite("sigterm:Quit"), Ok((Signal::TERM, Some(quit))));
        assert_eq!(rewrite("HUP:0"), Ok((Signal::HUP, None)));
        assert_eq!(rewrite("64:1"), Ok((Signal(64), Some(Signal::HUP))));
        for wrong in ["15", "0:15", "15:", ":3", "15:65", "15:3:2", "TERM=QUIT"] {
            rewrite(wrong).unwrap_err();
        }
        assert_eq!(
            named("SIGTREM").unwrap_err(),
            "there is no signal `SIGTREM`; did you mean `TERM`?"
        );
    }
}
