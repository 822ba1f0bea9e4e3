//! Incidents over the control socket: `GET /v1/incidents`, and `/v1/incidents/ID`.
//!
//! Files are read on threads that may block, as those of logs are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::route::{Answer, Query, Refusal, json, response};
use super::server::Control;
use crate::core::event::Short;
use crate::net::server::Body;
use crate::report::incident;

/// How long the disk may take to answer.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// All incidents, newest first.
pub(super) async fn all(control: &Control) -> Answer {
    let listed = off_the_loop(control, |folder| incident::list(&folder)).await?;
    Ok(json(StatusCode::OK, &listed))
}

/// One incident: as JSON, or with `?form=md` as Markdown.
pub(super) async fn one(control: &Control, id: &str, query: Query<'_>) -> Answer {
    let (form, content) = match query.get("form") {
        Some("md") => ("md", "text/markdown; charset=utf-8"),
        Some(_) | None => ("json", "application/json"),
    };
    let wanted = id.to_owned();
    let text = off_the_loop(control, move |folder| incident::read(&folder, &wanted, form)).await?;
    let text = text.ok_or_else(|| {
        let hint = "`keepup incidents` lists them".to_owned();
        let error = format!("there is no incident `{}`", id.escape_debug());
        Refusal::new(StatusCode::NOT_FOUND, error, Some(hint))
    })?;
    Ok(response(StatusCode::OK, content, Body::from(text)))
}

async fn off_the_loop<T: Default + Send + 'static>(
    control: &Control,
    read: impl FnOnce(PathBuf) -> std::io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let refuse = |why: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why, None);
    let Some(folder) = control.sources.incidents.clone() else { return Ok(T::default()) };
    let Ok(_slot) = Arc::clone(&control.readers).try_acquire_owned() else {
        let error = "too many clients read files already";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, None));
    };
    match timeout(WAIT_MAX, spawn_blocking(move || read(folder))).await {
        Ok(Ok(Ok(read))) => Ok(read),
        Ok(Ok(Err(error))) => Err(refuse(format!("cannot read incidents: {error}"))),
        Ok(Err(error)) => Err(refuse(error.to_string())),
        Err(_) => Err(refuse(format!("the disk has not answered for {}", Short(WAIT_MAX)))),
    }
}
