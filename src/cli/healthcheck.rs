//! `keepup healthcheck`: for Docker's HEALTHCHECK, and for scripts.

use super::error::{Error, Kind};
use super::output::say;
use super::remote::{Remote, name};
use crate::control::protocol::{READY, service_path};
use crate::status::{Issue, ServiceStatus, State};

/// Says what is not ready, and fails if anything is.
pub(super) fn healthcheck(remote: &Remote, service: Option<&str>) -> Result<(), Error> {
    let issues: Vec<Issue> = remote.look(READY)?;
    let Some(service) = service else {
        return verdict(&issues, "all services are ready or done");
    };
    let status: ServiceStatus = read(&remote.get(&service_path(name(service)?))?.body)?;
    let own: Vec<Issue> = issues.into_iter().filter(|it| it.service == service).collect();
    if own.is_empty() && !status.ready && status.state != State::Done {
        return Err(ill(format!("{service} is {}", status.state.name())));
    }
    verdict(&own, &format!("{service} is ready or done"))
}

fn verdict(issues: &[Issue], well: &str) -> Result<(), Error> {
    if issues.is_empty() {
        return say(well);
    }
    let lines: Vec<String> =
        issues.iter().map(|it| format!("{}: {}", it.service, it.what)).collect();
    Err(ill(lines.join("\n")))
}

fn ill(message: String) -> Error {
    Error::new(Kind::Failed, message)
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let unread = |it| Error::new(Kind::Failed, format!("cannot read the status: {it}"));
    serde_json::from_slice(body).map_err(unread)
}
