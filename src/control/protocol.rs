//! The words of control: what the server asks of the loop, and what client and server say to each
//! other.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::plan::{Name, Signal};
use crate::status::{State, Status};

/// Requests that may wait for the loop; beyond that a client is told to come again.
pub const REQUESTS_MAX: usize = 64;

/// What the server asks of the loop. A reply that is dropped unsent means that keepup is ending; a
/// reply that nobody waits for any more can be dropped.
#[derive(Debug)]
pub enum Request {
    /// The status, as [`Status::of`] makes it.
    Status(oneshot::Sender<Status>),
    /// Something an operator wants done. The name was a service's a moment ago.
    Act {
        /// Of which service.
        name: Name,
        /// What.
        act: Act,
        /// The operator's uid.
        by: u32,
        /// When to reply.
        wait: Wait,
        /// What came of it.
        reply: oneshot::Sender<Outcome>,
    },
    /// A signal that an operator wants passed on. The name was a service's a moment ago.
    Signal {
        /// To which service.
        name: Name,
        /// Which, before the service's `rewrite`.
        signal: Signal,
        /// The operator's uid.
        by: u32,
        /// What came of it.
        reply: oneshot::Sender<Outcome>,
    },
    /// The file is to be read anew, and applied.
    Reload {
        /// Only to know what would be done.
        dry_run: bool,
        /// The operator's uid.
        by: u32,
        /// What came of it.
        reply: oneshot::Sender<Result<Reloaded, NotReloaded>>,
    },
    /// A sign that the loop turns.
    Turn(oneshot::Sender<()>),
}

/// What an operator can do to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To want it up.
    Start,
    /// To want it down.
    Stop,
    /// To want a new run of it.
    Restart,
}

impl Act {
    /// All of them.
    pub const ALL: [Act; 3] = [Act::Start, Act::Stop, Act::Restart];

    /// The word for it, as in the path.
    pub fn name(self) -> &'static str {
        match self {
            Act::Start => "start",
            Act::Stop => "stop",
            Act::Restart => "restart",
        }
    }

    /// The act of this name.
    pub fn named(name: &str) -> Option<Act> {
        Act::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// When an operator gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// When it is known what came of it.
    Outcome,
    /// At once.
    Nothing,
}

/// What came of an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was wanted is so; or, if nothing was waited for, it is under way.
    pub ok: bool,
    /// In words: `api is up, pid 4711`.
    pub text: String,
    /// What the operator can do about it.
    pub hint: Option<String>,
    /// The service's state now.
    pub state: State,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Nothing was changed: it is what a reload would do.
    pub dry_run: bool,
    /// Service by service, in the order of the file; those that are not in it any more at last.
    pub services: Vec<ChangeOf>,
    /// What is probably not meant, and what waits for a restart of keepup.
    pub warnings: Vec<String>,
}

/// What a reload did to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOf {
    /// Which.
    pub name: String,
    /// In one word.
    pub change: String,
    /// The keys whose values are others.
    pub keys: Vec<String>,
    /// In words: `restarted (command, env)`.
    pub text: String,
}

/// Why a reload changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReloaded {
    /// What went wrong.
    pub error: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// What is wrong with the file, each with its place.
    pub problems: Vec<String>,
}

impl NotReloaded {
    /// Not because of the file.
    pub fn refused(error: &str) -> NotReloaded {
        NotReloaded { error: error.to_owned(), hint: None, problems: Vec::new() }
    }
}

/// What a client is told when there is nothing else to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub error: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

/// The control socket in this folder.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

/// `GET`: everything, as [`Status`].
pub const STATUS: &str = "/v1/status";
/// `GET`: what is wrong, as a list of [`crate::status::Issue`].
pub const PROBLEMS: &str = "/v1/problems";
/// `GET`: what keeps services from being ready, likewise; 503 unless it is empty.
pub const READY: &str = "/readyz";

/// `GET`: one service, as [`crate::status::ServiceStatus`].
pub fn service_path(name: &str) -> String {
    format!("/v1/services/{name}")
}

/// `POST`: an act, answered with its [`Outcome`].
pub fn act_path(name: &str, act: Act, wait: Wait) -> String {
    let query = match wait {
        Wait::Outcome => "",
        Wait::Nothing => "?wait=false",
    };
    format!("/v1/services/{name}/{}{query}", act.name())
}

/// `POST`: a signal, by name or number, answered with its [`Outcome`].
pub fn signal_path(name: &str, signal: Signal) -> String {
    format!("/v1/services/{name}/signal?signal={}", signal.0)
}

/// `POST`: a reload, answered with [`Reloaded`] or [`NotReloaded`].
pub fn reload_path(dry_run: bool) -> String {
    format!("/v1/reload?dry_run={dry_run}")
}

/// Whether events are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Only what happened so far.
    No,
    /// Then each event as it comes, without end.
    Yes,
}

/// `GET`: events, one JSON object a line; the last `lines`, or all that are in memory.
pub fn events_path(follow: Follow, lines: Option<usize>) -> String {
    let follow = match follow {
        Follow::No => "false",
        Follow::Yes => "true",
    };
    let lines = lines.map(|it| format!("&lines={it}")).unwrap_or_default();
    format!("/v1/events?follow={follow}{lines}")
}

/// `GET`: all incidents, newest first, as a list of [`crate::report::incident::Listed`].
pub const INCIDENTS: &str = "/v1/incidents";

/// `GET`: an incident, as `json` or as `md`.
pub fn incident_path(id: &str, form: &str) -> String {
    format!("{INCIDENTS}/{}?form={form}", encode(id))
}

/// Which lines of which log are asked for, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this service; `None`: of all.
    pub service: Option<String>,
    /// The last so many; `None`: all.
    pub lines: Option<usize>,
    /// And then each as it comes.
    pub follow: bool,
    /// No older than this duration.
    pub since: Option<String>,
    /// Those in which this regular expression is found.
    pub grep: Option<String>,
    /// One JSON object a line.
    pub json: bool,
}

/// `GET`: lines of a log.
pub fn logs_path(query: &LogQuery) -> String {
    let LogQuery { service, lines, follow, since, grep, json } = query;
    let path = match service {
        Some(name) => format!("/v1/services/{name}/logs"),
        None => "/v1/logs".to_owned(),
    };
    let lines = lines.map_or_else(|| "all".to_owned(), |it| it.to_string());
    let text = |key, value: &Option<String>| {
        value.as_ref().map(|it| format!("&{key}={}", encode(it))).unwrap_or_default()
    };
    let (since, grep) = (text("since", since), text("grep", grep));
    format!("{path}?lines={lines}&follow={follow}&json={json}{since}{grep}")
}

/// A text as it may stand in a query.
///
/// Source: RFC 3986, 2.1 and 2.3.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text that stands in a query; what is no encoding stands for itself.
pub(super) fn decode(encoded: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = encoded.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let byte = code.and_then(|it| u8::from_str_radix(it, 16).ok()).filter(|_| first == b'%');
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(if first == b'+' { b' ' } else { first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn any_text_survives_a_query() {
        for text in ["", "a b", "100%", "é+&=#?/", "%zz", "^ERROR|x{2,}$"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(decode("a+b%20c%"), "a b c%");
    }
}
