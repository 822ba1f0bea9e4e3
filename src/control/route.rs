//! From a request to its answer: who may ask what, and where it is to be found.

use std::io;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use super::incidents;
use super::logs::logs;
use super::protocol::{self, Act, Failure, Outcome, Wait};
use super::server::Control;
use crate::core::event::Short;
use crate::net::server::{Body, Sent};
use crate::plan::{Name, Signal};
use crate::report::{metrics, page};
use crate::status::{ServiceStatus, Stamp, Status};

/// Events on their way to one follower.
const PIECES_MAX: usize = 16;
/// By which way a request came, and so who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket, by somebody who may use it.
    Operator { uid: u32 },
    /// The Unix socket, by somebody who may not.
    Stranger { uid: u32 },
    /// TCP: may look.
    Visitor,
}

/// An answer that says why there is none.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    failure: Failure,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<String>,
        hint: Option<String>,
    ) -> Refusal {
        Refusal { status, failure: Failure { error: error.into(), hint }, allow: None }
    }

    pub(super) fn ending() -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "keepup is ending", None)
    }

    pub(super) fn stuck(limit: Duration) -> Refusal {
        let error = format!("the loop has not turned for {}", Short(limit));
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, None)
    }

    fn answer(self) -> Response<Body> {
        let mut answer = json(self.status, &self.failure);
        if let Some(allow) = self.allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

pub(super) type Answer = Result<Response<Body>, Refusal>;

/// Answers a request.
pub(super) async fn answer(
    control: &Control,
    door: Door,
    request: Request<()>,
    sent: Sent,
) -> Response<Body> {
    let answered = match sent {
        Sent::Whole => route(control, door, &request).await,
        Sent::TooMuch => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "cannot take a body of this size",
            Some("no request needs a body".to_owned()),
        )),
        Sent::TooSlow => {
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time", None))
        }
    };
    answered.unwrap_or_else(Refusal::answer)
}

async fn route(control: &Control, door: Door, request: &Request<()>) -> Answer {
    let path: Vec<&str> = request.uri().path().split('/').filter(|it| !it.is_empty()).collect();
    let query = Query(request.uri().query().unwrap_or_default());
    match door {
        Door::Stranger { uid } => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("cannot let uid {uid} in: this socket is for root and keepup's own user"),
            Some("`control_group` in [supervisor] lets a group in".to_owned()),
        )),
        Door::Visitor => {
            if request.method() == Method::POST {
                let hint =
                    "use the control socket: `keepup start`, `stop`, `restart`, `signal`, `reload`"
                        .to_owned();
                let error = "this address is for looking only";
                return Err(Refusal::new(StatusCode::FORBIDDEN, error, Some(hint)));
            }
            only_to_look(request)?;
            match looked_at(control, &path, query).await {
                Some(answer) => answer,
                None => Err(nowhere(request)),
            }
        }
        Door::Operator { uid } => operate(control, uid, request, &path, query).await,
    }
}

fn only_to_look(request: &Request<()>) -> Result<(), Refusal> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(wrong_method(request, "GET, HEAD")),
    }
}

fn wrong_method(request: &Request<()>, allow: &'static str) -> Refusal {
    let error = format!("cannot {} `{}`", request.method(), request.uri().path());
    let hint = format!("allowed: {allow}");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, Some(hint));
    Refusal { allow: Some(allow), ..refusal }
}

fn nowhere(request: &Request<()>) -> Refusal {
    let error = format!("there is nothing at `{}`", request.uri().path());
    Refusal::new(StatusCode::NOT_FOUND, error, None)
}

/// What everybody may look at; `None`: there is nothing of this path.
async fn looked_at(control: &Control, path: &[&str], query: Query<'_>) -> Option<Answer> {
    Some(match path {
        [] => whole_page(control).await,
        ["healthz" | "livez"] => {
            control.turn().await.map(|()| text(StatusCode::OK, "ok\n".to_owned()))
        }
        ["readyz"] => readiness(control).await,
        ["metrics"] => scrape(control).await,
        ["v1", "status"] => control.status().await.map(|it| json(StatusCode::OK, &it)),
        ["v1", "problems"] => control.look().await.map(|it| json(StatusCode::OK, &it.problems())),
        ["v1", "events"] => events(control, query),
        _ => return None,
    })
}

async fn operate(
    control: &Control,
    uid: u32,
    request: &Request<()>,
    path: &[&str],
    query: Query<'_>,
) -> Answer {
    match path {
        ["v1", "services", name] => {
            only_to_look(request)?;
            let status = control.status().await?;
            Ok(json(StatusCode::OK, known(&status, name)?))
        }
        ["v1", "services", name, "logs"] => {
            only_to_look(request)?;
            known(&control.look().await?, name)?;
            logs(control, Some(*name), query).await
        }
        ["v1", "incidents"] => {
            only_to_look(request)?;
            incidents::all(control).await
        }
        ["v1", "incidents", id] => {
            only_to_look(request)?;
            incidents::one(control, id, query).await
        }
        ["v1", "logs"] => {
            only_to_look(request)?;
            logs(control, None, query).await
        }
        ["v1", "services", name, "signal"] => {
            if request.method() != Method::POST {
                return Err(wrong_method(request, "POST"));
            }
            signal(control, name, query, uid).await
        }
        ["v1", "services", name, verb] if let Some(act) = Act::named(verb) => {
            if request.method() != Method::POST {
                return Err(wrong_method(request, "POST"));
            }
            let wait = match query.get("wait") {
                Some("false" | "0" | "no") => Wait::Nothing,
                Some(_) | None => Wait::Outcome,
            };
            act_on(control, name, act, uid, wait).await
        }
        ["v1", "reload"] => {
            if request.method() != Method::POST {
                return Err(wrong_method(request, "POST"));
            }
            reload(control, query, uid).await
        }
        _ => match looked_at(control, path, query).await {
            None => Err(nowhere(request)),
            Some(answer) => only_to_look(request).and(answer),
        },
    }
}

async fn act_on(control: &Control, name: &str, act: Act, by: u32, wait: Wait) -> Answer {
    known(&control.look().await?, name)?;
    let (reply, replied) = oneshot::channel();
    let name = Name::from(name);
    control.hand_over(protocol::Request::Act { name, act, by, wait, reply }).await?;
    came_of_it(replied).await
}

async fn signal(control: &Control, name: &str, query: Query<'_>, by: u32) -> Answer {
    let text = query.get("signal").unwrap_or_default();
    let signal = Signal::parse(text).ok_or_else(|| {
        let meant = nearest(&text.to_ascii_uppercase(), Signal::names());
        let hint = meant.map_or_else(
            || "a name or a number, as in `?signal=HUP`".to_owned(),
            |it| format!("did you mean `{it}`?"),
        );
        let error = format!("there is no signal `{text}`");
        Refusal::new(StatusCode::BAD_REQUEST, error, Some(hint))
    })?;
    known(&control.look().await?, name)?;
    let (reply, replied) = oneshot::channel();
    let name = Name::from(name);
    control.hand_over(protocol::Request::Signal { name, signal, by, reply }).await?;
    came_of_it(replied).await
}

async fn reload(control: &Control, query: Query<'_>, by: u32) -> Answer {
    let dry_run = matches!(query.get("dry_run"), Some("true" | "1" | "yes" | ""));
    let (reply, replied) = oneshot::channel();
    control.hand_over(protocol::Request::Reload { dry_run, by, reply }).await?;
    match replied.await.map_err(|_| Refusal::ending())? {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded)),
        Err(not) if not.problems.is_empty() => Ok(json(StatusCode::CONFLICT, &not)),
        Err(not) => Ok(json(StatusCode::UNPROCESSABLE_ENTITY, &not)),
    }
}

async fn came_of_it(replied: oneshot::Receiver<Outcome>) -> Answer {
    let outcome = replied.await.map_err(|_| Refusal::ending())?;
    if outcome.ok {
        Ok(json(StatusCode::OK, &outcome))
    } else {
        Err(Refusal::new(StatusCode::CONFLICT, outcome.text, outcome.hint))
    }
}

fn known<'a>(status: &'a Status, name: &str) -> Result<&'a ServiceStatus, Refusal> {
    status.service(name).ok_or_else(|| {
        let names = status.services.iter().map(|it| it.name.as_str());
        let hint = match nearest(name, names) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`keepup status` lists the services".to_owned(),
        };
        let error = format!("there is no service `{name}`");
        Refusal::new(StatusCode::NOT_FOUND, error, Some(hint))
    })
}

/// The name that was probably meant: two slips away at most, and fewer in a short name.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (name.chars().count() / 2).min(2);
    names
        .map(|it| (strsim::osa_distance(name, it), it))
        .filter(|(slips, it)| *slips <= slips_max || it.starts_with(name) || name.starts_with(it))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, it)| it)
}

async fn whole_page(control: &Control) -> Answer {
    let status = control.look().await?;
    let page = page::page(&status, Stamp::now());
    let mut answer = response(StatusCode::OK, "text/html; charset=utf-8", Body::from(page));
    let policy = HeaderValue::from_static(page::POLICY);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

async fn readiness(control: &Control) -> Answer {
    let issues = control.look().await?.issues();
    let code = if issues.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(code, &issues))
}

async fn scrape(control: &Control) -> Answer {
    let status = control.status().await?;
    match control.sources.metrics.text(&status, &control.log_counts()) {
        Ok(text) => Ok(response(StatusCode::OK, metrics::CONTENT_TYPE, Body::from(text))),
        Err(error) => {
            let error = format!("cannot write the metrics: {error}");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error, None))
        }
    }
}

fn events(control: &Control, query: Query<'_>) -> Answer {
    let lines = query.number("lines")?.unwrap_or(usize::MAX);
    let journal = &control.sources.journal;
    let body = if let Some("true" | "1" | "yes" | "") = query.get("follow") {
        follow(control, lines)?
    } else {
        let mut text = String::new();
        for line in journal.tail(lines) {
            text.push_str(&line);
            text.push('\n');
        }
        Body::from(text)
    };
    Ok(response(StatusCode::OK, "application/x-ndjson", body))
}

/// Events without end, to a client that keeps up with them.
fn follow(control: &Control, lines: usize) -> Result<Body, Refusal> {
    let Ok(slot) = control.followers.clone().try_acquire_owned() else {
        let error = "too many clients follow the events already";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, None));
    };
    let (tail, mut events) = control.sources.journal.follow(lines);
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let _slot = slot;
        for line in tail {
            if pieces.send(Ok(piece(&line))).await.is_err() {
                return;
            }
        }
        loop {
            let next = tokio::select! {
                () = pieces.closed() => return,
                next = events.recv() => next,
            };
            let (piece, last) = match next {
                Ok(Some(line)) => (Ok(piece(&line)), false),
                Ok(None) | Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(missed)) => {
                    (Err(io::Error::other(format!("too slow: {missed} events behind"))), true)
                }
            };
            if pieces.send(piece).await.is_err() || last {
                return;
            }
        }
    });
    Ok(Body::Pieces(body))
}

fn piece(line: &str) -> Bytes {
    Bytes::from(format!("{line}\n"))
}

/// The part of a path after its question mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn get(self, key: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|it| {
            let (name, value) = it.split_once('=').unwrap_or((it, ""));
            (name == key).then_some(value)
        })
    }

    pub(super) fn number(self, key: &str) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            let error = format!("cannot read `{key}={text}`");
            Refusal::new(StatusCode::BAD_REQUEST, error, Some("a whole number".to_owned()))
        })
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Our own plain types: there is nothing in them that JSON could refuse.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    response(status, "application/json", Body::from(text))
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", Body::from(text))
}

pub(super) fn response(status: StatusCode, content: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["api", "worker", "worker-mail"];
        let nearest = |name| nearest(name, names.into_iter());
        assert_eq!(nearest("apu"), Some("api"));
        assert_eq!(nearest("workr"), Some("worker"));
        assert_eq!(nearest("work"), Some("worker"));
        assert_eq!(nearest("redis"), None);
        assert_eq!(nearest("x"), None);
    }
}
