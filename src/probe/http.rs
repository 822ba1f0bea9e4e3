//! `http`: a request, and whether its answer is what it must be.
//!
//! A redirect is followed on the same host alone. One that leads elsewhere is an answer like any
//! other: it passes where its status does, as the default range 200-399 says.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::timeout;

use super::json::{self, VALUE_MAX};
use super::redirect::{self, REDIRECTS_MAX, Way};
use super::{BODY_MAX, miss};
use crate::core::event::Answer;
use crate::net::client::words::{clipped, first_line, one_line};
use crate::net::client::{self, Head, Limits, Request, Response};
use crate::plan::{Class, HttpProbe, Scalar};

/// How long the body of an answer with a wrong status is waited for: it is known to be a miss, and
/// only the reason is missing.
const EXCERPT_PATIENCE: Duration = Duration::from_millis(250);

/// Bytes of such a body that are read.
const EXCERPT_MAX: usize = 2048;

/// What an exchange came to.
enum Step {
    Judged(Answer),
    /// The same host is to be asked for another path.
    On(String, u16),
}

/// Asks, and judges the answer; says what is strange about one that passes.
pub async fn ask(probe: &HttpProbe, limits: Limits, remark: impl Fn(&str)) -> Answer {
    let mut request = request(probe);
    for _ in 0..=REDIRECTS_MAX {
        match step(probe, request.clone(), limits, &remark).await {
            Step::Judged(answer) => return answer,
            Step::On(path, status) => send_on(&mut request, path, status),
        }
    }
    let text = format!("redirected {REDIRECTS_MAX} times, at last to {}", request.path);
    miss(Class::Http, one_line(&text))
}

async fn step(probe: &HttpProbe, request: Request, limits: Limits, remark: &impl Fn(&str)) -> Step {
    let path = request.path.clone();
    let judged = client::exchange(&probe.address, request, limits, async |answer| {
        let way = redirect::way(probe, &path, &answer.head);
        if let Way::On(path) = way {
            return Ok(Step::On(path, answer.head.status));
        }
        if !has_status(probe, answer.head.status) {
            return Ok(Step::Judged(wrong_status(probe, answer).await));
        }
        let response = answer.read(limits.body).await?;
        let judged = judge_body(probe, &response);
        if let (Way::Elsewhere(place), Answer::Pass) = (way, &judged) {
            let text = format!("{} is redirected to {place}, which is not asked", probe.url);
            remark(&one_line(&text));
        }
        Ok(Step::Judged(judged))
    });
    judged.await.unwrap_or_else(|failure| Step::Judged(failure.into()))
}

/// Source: RFC 9110, 15.4: 307 and 308 keep method and body; what else was sent is asked for.
fn send_on(request: &mut Request, path: String, status: u16) {
    request.path = path;
    if !matches!(status, 307 | 308) && request.method != "HEAD" {
        "GET".clone_into(&mut request.method);
        request.body.clear();
    }
}

fn request(probe: &HttpProbe) -> Request {
    Request {
        method: probe.method.clone(),
        host: probe.host.clone(),
        path: probe.path.clone(),
        headers: probe.headers.clone(),
        body: probe.body.clone().unwrap_or_default().into_bytes(),
    }
}

fn has_status(probe: &HttpProbe, status: u16) -> bool {
    probe.status.iter().any(|range| range.contains(&status))
}

async fn wrong_status(probe: &HttpProbe, mut answer: client::Answer) -> Answer {
    let mut excerpt = Vec::new();
    let read = async {
        while excerpt.len() < EXCERPT_MAX && first_line_is_whole(&excerpt).is_none() {
            match answer.piece().await {
                Ok(Some(piece)) => {
                    excerpt.extend_from_slice(&piece[..piece.len().min(EXCERPT_MAX)]);
                }
                // What came of it must do.
                Ok(None) | Err(_) => break,
            }
        }
    };
    // What came until then must do.
    let _ = timeout(EXCERPT_PATIENCE, read).await;
    miss(Class::Http, status_text(probe, &answer.head, &excerpt))
}

/// There is a line that says something, and its end.
fn first_line_is_whole(excerpt: &[u8]) -> Option<usize> {
    let start = excerpt.iter().position(|byte| !byte.is_ascii_whitespace())?;
    excerpt[start..].iter().position(|&byte| byte == b'\n')
}

fn status_text(probe: &HttpProbe, head: &Head, excerpt: &[u8]) -> String {
    let mut text = format!("{} {}", head.status, head.reason).trim_end().to_owned();
    if let Some(place) = head.headers.get(hyper::header::LOCATION)
        && (300..400).contains(&head.status)
    {
        text = format!("{text} to {}", first_line(place.as_bytes()));
    }
    // That a 4xx or 5xx is not wanted goes without saying.
    if head.status < 400 {
        text = format!("{text}, wanted {}", ranges(&probe.status));
    }
    let line = first_line(excerpt);
    one_line(&if line.is_empty() { text } else { format!("{text}: {line}") })
}

fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the body comes to.
fn judge_body(probe: &HttpProbe, response: &Response) -> Answer {
    let body = &response.body;
    if let Some(wanted) = &probe.contains
        && memchr::memmem::find(body, wanted.as_bytes()).is_none()
    {
        let within =
            if response.truncated { "the first 64 KiB of the body do" } else { "body does" };
        let wanted = clipped(wanted, VALUE_MAX);
        return miss(Class::Body, format!("{within} not contain \"{wanted}\""));
    }
    if probe.json.is_empty() {
        return Answer::Pass;
    }
    match judge_json(&probe.json, response) {
        Ok(()) => Answer::Pass,
        Err(text) => miss(Class::Body, one_line(&text)),
    }
}

fn judge_json(wanted: &[(String, Scalar)], response: &Response) -> Result<(), String> {
    if response.truncated {
        return Err(format!("not JSON: the body is cut off after {} KiB", BODY_MAX / 1024));
    }
    if first_line(&response.body).is_empty() {
        return Err("not JSON: the body is empty".to_owned());
    }
    let answer = json::parse(&response.body)?;
    json::judge_fields(&answer, wanted, "answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(wanted: &[(&str, Scalar)], body: &str) -> String {
        let wanted: Vec<_> = wanted.iter().map(|it| (it.0.to_owned(), it.1.clone())).collect();
        let head = Head { status: 200, reason: String::new(), headers: hyper::HeaderMap::new() };
        let response = Response { head, body: body.into(), truncated: false };
        judge_json(&wanted, &response).err().unwrap_or_else(|| "pass".to_owned())
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn fields_are_reached_inside_objects_and_lists() {
        let body = r#"{"daemon": {"metrics": {"status": "ok"}}, "list": [{"a": 1}, [2, 3]],
            "a.b": {"c.d": true}, "a": {"b": 7}}"#;
        assert_eq!(judged(&[("daemon.metrics.status", text("ok"))], body), "pass");
        assert_eq!(judged(&[("list.0.a", Scalar::Integer(1))], body), "pass");
        assert_eq!(judged(&[("list.1.1", Scalar::Integer(3))], body), "pass");
        assert_eq!(judged(&[("a.b.c.d", Scalar::Bool(true))], body), "pass");
        let missing = |path: &str| format!("no field {path} in the answer");
        for path in ["daemon.metrics.state", "list.2", "list.-1", "list.x", "a.b.c", "", "."] {
            assert_eq!(judged(&[(path, text("x"))], body), missing(path));
        }
        assert_eq!(judged(&[("1", Scalar::Integer(5))], "[4, 5]"), "pass");
    }

    #[test]
    fn what_is_wrong_is_told_with_what_was_wanted() {
        let status = |body: &str| judged(&[("status", text("healthy"))], body);
        assert_eq!(
            status(r#"{"status":"degraded"}"#),
            "status is \"degraded\", wanted \"healthy\""
        );
        assert_eq!(status(r#"{"status":null}"#), "status is null, wanted \"healthy\"");
        assert_eq!(status(r#"{"status":[1]}"#), "status is a list, wanted \"healthy\"");
        assert_eq!(status(r#"{"status":{}}"#), "status is an object, wanted \"healthy\"");
        assert_eq!(status(r#"{"status":1e400}"#).split(':').next(), Some("not JSON"));
        assert_eq!(status("[]"), "no field status in the answer");
        assert_eq!(status("3"), "no field status in the answer");
        assert_eq!(status(""), "not JSON: the body is empty");
        assert_eq!(status("<html>\n"), "not JSON: expected value at line 1 column 1: <html>");
        assert!(status(&"[".repeat(10_000)).starts_with("not JSON: recursion limit"));
        let long = status(&format!("{{\"status\": \"{}\"}}", "x".repeat(60_000)));
        assert!(long.chars().count() < 200 && long.ends_with("…\", wanted \"healthy\""), "{long}");
    }

    #[test]
    fn types_are_not_mixed_and_numbers_are_compared_by_value() {
        let is = |value: &str, wanted| judged(&[("v", wanted)], &format!("{{\"v\": {value}}}"));
        assert_eq!(is("true", text("true")), "v is true, wanted \"true\"");
        assert_eq!(is("\"1\"", Scalar::Integer(1)), "v is \"1\", wanted 1");
        assert_eq!(is("1.0", Scalar::Integer(1)), "pass");
        assert_eq!(is("1", Scalar::Float(1.0)), "pass");
        assert_eq!(is("1.5", Scalar::Float(1.5)), "pass");
        assert_eq!(is("1.5", Scalar::Integer(1)), "v is 1.5, wanted 1");
        assert_eq!(is("9223372036854775807", Scalar::Integer(i64::MAX)), "pass");
        assert_ne!(is("9223372036854775808", Scalar::Integer(i64::MAX)), "pass");
        assert_eq!(is("false", Scalar::Bool(true)), "v is false, wanted true");
    }

    #[test]
    fn many_dots_end_soon() {
        let path = ".".repeat(5000);
        assert!(judged(&[(&path, text("x"))], "{\"\": 1}").starts_with("no field ."));
    }

    #[test]
    fn ranges_read_as_they_are_written() {
        assert_eq!(ranges(&[200..=399, 204..=204]), "200-399, 204");
    }
}
