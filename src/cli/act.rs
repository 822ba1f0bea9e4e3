//! `keepup start`, `stop` and `restart`.

use super::args::ActArguments;
use super::error::{Error, Kind};
use super::output::{complain, say};
use super::remote::{Remote, name};
use crate::control::protocol::{act_path, service_path};
use crate::control::{Act, Outcome, Wait};

/// Acts on one service after the other, and goes on after one that failed; on none if there is one
/// that keepup does not know.
pub(super) fn act(remote: &Remote, act: Act, arguments: &ActArguments) -> Result<(), Error> {
    let wait = if arguments.no_wait { Wait::Nothing } else { Wait::Outcome };
    if arguments.names.len() > 1 {
        for service in &arguments.names {
            remote.get(&service_path(name(service)?))?;
        }
    }
    let mut last: Option<Error> = None;
    for name in &arguments.names {
        match act_on(remote, act, name, wait) {
            Ok(()) => {}
            Err(error) if error.kind == Kind::Failed => {
                if let Some(earlier) = last.replace(error) {
                    complain(&earlier);
                }
            }
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(()), Err)
}

fn act_on(remote: &Remote, act: Act, service: &str, wait: Wait) -> Result<(), Error> {
    let reply = remote.post(&act_path(name(service)?, act, wait))?;
    match serde_json::from_slice::<Outcome>(&reply.body) {
        Ok(outcome) => say(outcome.text),
        Err(error) => {
            let message = format!("cannot read what came of it: {error}");
            Err(Error::new(Kind::Failed, message))
        }
    }
}
