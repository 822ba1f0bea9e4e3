//! A running keepup, as commands see it: where its socket is, and what it answers.

use std::env;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::error::{Error, Kind, NO_TALK};
use crate::config::{self, Surroundings};
use crate::control::client::{self, ClientError, Patience, Reply};
use crate::control::protocol::{Failure, socket_path};

/// How long an answer may take that needs nothing but a look.
const LOOK: Patience = Patience::Bounded(Duration::from_secs(10));

/// A running keepup.
#[derive(Debug)]
pub(super) struct Remote {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    /// The one that is meant: by `--socket`, by a file that is named, by `$KEEPUP_SOCKET`, or by the
    /// file that is found.
    pub(super) fn find(config: Option<&Path>, socket: Option<&Path>) -> Result<Remote, Error> {
        let told = || env::var_os("KEEPUP_SOCKET").filter(|it| !it.is_empty()).map(PathBuf::from);
        let socket = match (socket, config) {
            (Some(socket), _) => socket.to_owned(),
            (None, Some(config)) => socket_path(&runtime_dir(config)),
            (None, None) => told().unwrap_or_else(|| socket_path(&runtime_dir(found()))),
        };
        Remote::at(socket)
    }

    /// The one at this socket.
    pub(super) fn at(socket: PathBuf) -> Result<Remote, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|it| Error::new(Kind::System, format!("cannot begin: {it}")))?;
        Ok(Remote { socket, runtime })
    }

    /// The answer to a `GET`, which must be a success.
    pub(super) fn get(&self, path: &str) -> Result<Reply, Error> {
        self.wanted(self.ask(Method::GET, path, LOOK)?)
    }

    /// What the answer to a `GET` says, whether a success or not.
    pub(super) fn look<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let reply = self.ask(Method::GET, path, LOOK)?;
        serde_json::from_slice(&reply.body).map_err(|_| self.refused(&reply))
    }

    /// The answer to a `POST`, however long it takes.
    pub(super) fn post(&self, path: &str) -> Result<Reply, Error> {
        self.wanted(self.ask(Method::POST, path, Patience::Endless)?)
    }

    /// The same, whether a success or not.
    pub(super) fn answer_to_post(&self, path: &str) -> Result<Reply, Error> {
        self.ask(Method::POST, path, Patience::Endless)
    }

    /// Each line of the answer as it comes.
    pub(super) fn lines(
        &self,
        path: &str,
        take: impl FnMut(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.streamed(client::stream(&self.socket, path, take))
    }

    /// The answer to a `GET`, which must be a success, piece by piece as it comes.
    pub(super) fn pieces(
        &self,
        path: &str,
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.streamed(client::pieces(&self.socket, path, take))
    }

    fn streamed(
        &self,
        streamed: impl Future<Output = Result<Option<Reply>, Error>>,
    ) -> Result<(), Error> {
        match self.wait(streamed)? {
            None => Ok(()),
            Some(refusal) => Err(self.refused(&refusal)),
        }
    }

    /// Waits for so long.
    pub(super) fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn ask(&self, method: Method, path: &str, patience: Patience) -> Result<Reply, Error> {
        self.wait(async {
            client::call(&self.socket, method, path, patience).await.map_err(Error::from)
        })
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(answer).map_err(|it| match it.message.strip_prefix(NO_TALK) {
            Some(why) => {
                let message = format!("{NO_TALK} at `{}`{why}", self.socket.display());
                Error { message, ..it }
            }
            None => it,
        })
    }

    fn wanted(&self, reply: Reply) -> Result<Reply, Error> {
        if reply.status.is_success() { Ok(reply) } else { Err(self.refused(&reply)) }
    }

    /// What an answer says that is no success.
    pub(super) fn refused(&self, reply: &Reply) -> Error {
        let kind = if reply.status == StatusCode::NOT_FOUND { Kind::Unknown } else { Kind::Failed };
        if let Ok(Failure { error, hint }) = serde_json::from_slice(&reply.body) {
            return Error { kind, message: error, hint };
        }
        let why = format!("an answer that is not understood ({})", reply.status);
        let error = Error::from(ClientError::Broken(why));
        error.hint(format!("does a keepup listen at `{}`?", self.socket.display()))
    }
}

/// A service's name, as a part of a path.
pub(super) fn name(name: &str) -> Result<&str, Error> {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
    if !name.is_empty() && name.chars().all(plain) {
        return Ok(name);
    }
    let message = format!("there is no service `{}`", name.escape_debug());
    Err(Error::new(Kind::Unknown, message).hint("`keepup status` lists the services"))
}

/// The file that is meant when none is named.
pub(super) fn found() -> &'static Path {
    let (here, of_system) = ("supervisor.toml", "/etc/keepup/supervisor.toml");
    // Where there is neither, the one here is what is missing.
    let system = !Path::new(here).exists() && Path::new(of_system).exists();
    Path::new(if system { of_system } else { here })
}

/// Where the socket of the keepup of this file is, whatever else is wrong with the file.
fn runtime_dir(config: &Path) -> PathBuf {
    config::runtime_dir(config, &Surroundings::of_process())
}
