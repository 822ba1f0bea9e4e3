//! The client of the control socket, for the command line.

use std::io;
use std::path::Path;
use std::time::Duration;
use std::{error, fmt};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Bytes of an answer; the status of some thousand services.
const ANSWER_MAX: usize = 16 << 20;
/// Bytes of one event.
const LINE_MAX: usize = 1 << 20;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its code.
    pub status: StatusCode,
    /// All of it.
    pub body: Bytes,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// This long.
    Bounded(Duration),
    /// As long as it takes: the answer tells what came of an act.
    Endless,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// No keepup listens there.
    Nobody(io::Error),
    /// This user may not connect.
    Denied(io::Error),
    /// Connected, but then: this.
    Broken(String),
}

impl ClientError {
    fn connecting(error: io::Error) -> ClientError {
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if error.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Denied(error)
        } else if nobody.contains(&error.kind()) {
            ClientError::Nobody(error)
        } else {
            ClientError::Broken(error.to_string())
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Nobody(error) | ClientError::Denied(error) => error.fmt(f),
            ClientError::Broken(why) => f.write_str(why),
        }
    }
}

impl error::Error for ClientError {}

/// Asks for a path, and reads the whole answer.
pub async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    patience: Patience,
) -> Result<Reply, ClientError> {
    let answered = async {
        let (head, body) = send(socket, method, path).await?.into_parts();
        whole(head.status, body).await
    };
    match patience {
        Patience::Endless => answered.await,
        Patience::Bounded(limit) => timeout(limit, answered).await.unwrap_or_else(|_| {
            Err(ClientError::Broken(format!("no answer within {}s", limit.as_secs())))
        }),
    }
}

/// Asks for a path, and hands over each line of the answer as it comes, until there is no more or
/// `take` has enough. An answer that is no success is read whole and returned.
pub async fn stream<E: From<ClientError>>(
    socket: &Path,
    path: &str,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<Option<Reply>, E> {
    let mut rest = Vec::new();
    let by_line = |piece: &[u8]| {
        rest.extend_from_slice(piece);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            let line: Vec<u8> = rest.drain(..=end).collect();
            take(String::from_utf8_lossy(&line).trim_end())?;
        }
        if rest.len() > LINE_MAX {
            return Err(ClientError::Broken("a line without end".to_owned()).into());
        }
        Ok(())
    };
    pieces(socket, path, by_line).await
}

/// Asks for a path, and hands over the answer piece by piece as it comes. An answer that is no
/// success is read whole and returned.
pub async fn pieces<E: From<ClientError>>(
    socket: &Path,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<Reply>, E> {
    let (head, mut body) = send(socket, Method::GET, path).await?.into_parts();
    if !head.status.is_success() {
        return Ok(Some(whole(head.status, body).await?));
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|it| ClientError::Broken(it.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            take(&bytes)?;
        }
    }
    Ok(None)
}

async fn whole(status: StatusCode, body: Incoming) -> Result<Reply, ClientError> {
    let body = Limited::new(body, ANSWER_MAX).collect().await;
    let body = body.map_err(|it| ClientError::Broken(it.to_string()))?;
    Ok(Reply { status, body: body.to_bytes() })
}

async fn send(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(ClientError::connecting)?;
    let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its errors come to light in the answer.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "keepup")
        .body(Empty::<Bytes>::new())
        .map_err(|it| ClientError::Broken(it.to_string()))?;
    sender.send_request(request).await.map_err(broken)
}
