//! The environment of a service.
//!
//! Must never hand on what was meant for keepup alone: a service that wrote to keepup's
//! `NOTIFY_SOCKET` would speak in its name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::env_file;
use super::identity::Login;
use super::init::PATH_DEFAULT;
use super::marker::{self, Keepup};
use crate::plan::Service;

/// Addressed to one process by whoever started it. Source: `sd_notify(3)`, `sd_listen_fds(3)`,
/// `sd_watchdog_enabled(3)`, systemd.exec(5). Not all of `LISTEN_*`: `LISTEN_ADDR` and the like
/// belong to services.
const NOT_INHERITED: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
    "MAINPID",
];

/// Every variable that a run of this service is started with, and a number that is another when those
/// of its files are. `inherited` is keepup's own
/// environment; `run` names the run.
pub(super) fn build(
    service: &Service,
    login: Option<&Login>,
    inherited: impl Iterator<Item = (OsString, OsString)>,
    (keepup, run): (&Keepup, &str),
) -> Result<(BTreeMap<OsString, OsString>, u64), String> {
    let mut above = None;
    let mut all = BTreeMap::new();
    for (name, value) in inherited {
        if name == marker::VARIABLE {
            above = Some(value);
        } else if !service.clear_env && !NOT_INHERITED.iter().any(|it| name == *it) {
            all.insert(name, value);
        }
    }
    let (of_files, files) = env_file::read_all(&service.env_file)?;
    let mut given: BTreeMap<String, String> = of_files.into_iter().collect();
    given.extend(service.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    if let Some(login) = login {
        all.extend([
            ("HOME".into(), login.home.clone().into()),
            ("USER".into(), login.name.clone().into()),
            ("LOGNAME".into(), login.name.clone().into()),
            ("SHELL".into(), login.shell.clone().into()),
        ]);
    }
    all.extend(given.into_iter().map(|(name, value)| (name.into(), value.into())));
    all.entry("PATH".into()).or_insert_with(|| PATH_DEFAULT.into());
    let above = above.as_deref().and_then(OsStr::to_str);
    all.insert(marker::VARIABLE.into(), keepup.mark(above, &service.name, run).into());
    all.insert("KEEPUP_SERVICE".into(), OsStr::new(&*service.name).into());
    Ok((all, files))
}
