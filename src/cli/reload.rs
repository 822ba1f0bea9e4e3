//! `keepup reload`.

use super::error::{Error, Kind};
use super::output::{complain_of, say};
use super::remote::Remote;
use crate::control::protocol::{NotReloaded, Reloaded, reload_path};

/// Has a running keepup read its file anew, and says what it does about it, or would do.
pub(super) fn reload(remote: &Remote, dry_run: bool) -> Result<(), Error> {
    let reply = remote.answer_to_post(&reload_path(dry_run))?;
    if let Ok(reloaded) = serde_json::from_slice::<Reloaded>(&reply.body) {
        return tell(&reloaded);
    }
    match serde_json::from_slice::<NotReloaded>(&reply.body) {
        Ok(not) if not.problems.is_empty() => Err(Error { hint: not.hint, ..failed(not.error) }),
        Ok(not) => {
            let message = format!("{}\n\n{}", not.problems.join("\n\n"), not.error);
            Err(Error { hint: not.hint, ..Error::new(Kind::File, message) })
        }
        Err(_) => Err(remote.refused(&reply)),
    }
}

fn failed(message: String) -> Error {
    Error::new(Kind::Failed, message)
}

fn tell(reloaded: &Reloaded) -> Result<(), Error> {
    for warning in &reloaded.warnings {
        complain_of(&format!("warning: {warning}"));
    }
    if reloaded.dry_run {
        say("nothing is changed; a reload would do this:")?;
    }
    for service in &reloaded.services {
        say(format_args!("{}: {}", service.name, service.text))?;
    }
    Ok(())
}
