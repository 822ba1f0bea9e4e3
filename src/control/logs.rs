//! Logs over the control socket: `GET /v1/services/NAME/logs`, and `/v1/logs` for all of them.
//!
//! Files are read on threads that may block, few at a time: a dead disk costs their readers an
//! answer, and nobody else.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::protocol::{LogQuery, decode};
use super::route::{Answer, Query, Refusal, response};
use super::server::Control;
use crate::core::event::Short;
use crate::net::server::Body;

/// Pieces on their way to one client.
const PIECES_MAX: usize = 4;
/// How long a log may take to answer.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often is looked for more, when there was none.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines, unless the client says otherwise, and at most.
const LINES: usize = 100;

/// Lines that are being read.
pub trait LogLines: Send {
    /// More whole lines; nothing: there are none for now. May block, and fail with a text.
    fn more(&mut self) -> Result<Vec<u8>, String>;
    /// What there is besides when nothing more is waited for.
    fn rest(&mut self) -> Vec<u8>;
}

/// Why a log is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// What is asked for makes no sense.
    Query(String),
    /// It cannot be read.
    Failed(String),
}

/// Begins to read what is asked for. May block.
pub type OpenLog = Box<dyn Fn(&LogQuery) -> Result<Box<dyn LogLines>, NotShown> + Send + Sync>;

/// Answers with lines, and then, if that is wanted, with each as it comes.
pub(super) async fn logs(control: &Control, service: Option<&str>, query: Query<'_>) -> Answer {
    let query = read(service, query)?;
    let follow = query.follow;
    let slots = if follow { &control.followers } else { &control.readers };
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        let error = "too many clients read logs already";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, None));
    };
    let sources = Arc::clone(&control.sources);
    let open = spawn_blocking(move || match &sources.open_log {
        Some(open) => open(&query),
        None => Err(NotShown::Failed("logs are not shown here".to_owned())),
    });
    let mut lines = in_time(open).await.map_err(failed)?.map_err(|why| match why {
        NotShown::Query(why) => Refusal::new(StatusCode::BAD_REQUEST, why, None),
        NotShown::Failed(why) => failed(why),
    })?;
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    let closing = Arc::clone(&control.closing);
    tokio::spawn(async move {
        let _slot = slot;
        loop {
            let (again, more) = match next(lines, follow).await {
                Ok(next) => next,
                Err(why) => return drop(pieces.send(Err(io::Error::other(why))).await),
            };
            lines = again;
            let end = more.is_empty();
            if !end && pieces.send(Ok(Bytes::from(more))).await.is_err() {
                return;
            }
            if end && (!follow || closing.load(Ordering::Relaxed)) {
                return;
            }
            if end {
                tokio::select! {
                    () = pieces.closed() => return,
                    () = sleep(LOOK_EVERY) => {}
                }
            }
        }
    });
    Ok::<Response<Body>, Refusal>(response(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::Pieces(body),
    ))
}

async fn next(
    mut lines: Box<dyn LogLines>,
    follow: bool,
) -> Result<(Box<dyn LogLines>, Vec<u8>), String> {
    let read = spawn_blocking(move || {
        let more = match lines.more() {
            Ok(more) if more.is_empty() && !follow => Ok(lines.rest()),
            more => more,
        };
        more.map(|more| (lines, more))
    });
    in_time(read).await?
}

async fn in_time<T, E: ToString>(read: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(WAIT_MAX, read).await {
        Ok(read) => read.map_err(|it| it.to_string()),
        Err(_) => Err(format!("the disk has not answered for {}", Short(WAIT_MAX))),
    }
}

fn failed(why: String) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why, None)
}

fn read(service: Option<&str>, query: Query<'_>) -> Result<LogQuery, Refusal> {
    let text = |key| query.get(key).filter(|it| !it.is_empty()).map(decode);
    let is = |key| matches!(query.get(key), Some("true" | "1" | "yes" | ""));
    let wanted = query.get("since").is_some() || query.get("grep").is_some();
    let lines = match query.get("lines") {
        Some("all") => None,
        Some(_) => query.number("lines")?,
        None if wanted => None,
        None => Some(LINES),
    };
    Ok(LogQuery {
        service: service.map(str::to_owned),
        lines,
        follow: is("follow"),
        since: text("since"),
        grep: text("grep"),
        json: is("json"),
    })
}
