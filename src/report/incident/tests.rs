use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;
use crate::control::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(20);

fn at(second: u32) -> Stamp {
    format!("2026-01-02T03:04:{second:02}.5Z").parse().unwrap()
}

fn failure(reason: &str, second: u32) -> Failure {
    Failure {
        at: at(second),
        run: 1,
        reason: reason.to_owned(),
        what: format!("{reason}, in words"),
        exit: None,
        uptime_seconds: 1.5,
    }
}

pub(super) fn incident(reason: &str) -> Incident {
    let mut incident = Incident::new("api", &failure(reason, 5), at(5));
    incident.failed(failure(reason, 5));
    incident
}

fn shelf(dir: &Path, keep: usize) -> (Shelf, std::sync::mpsc::Receiver<Told>) {
    let (tell, told): (Sender<Told>, _) = channel();
    let shelf = Shelf::open(dir, keep, move |it| _ = tell.send(it)).unwrap();
    (shelf, told)
}

#[test]
fn an_incident_is_named_by_time_service_and_reason() {
    assert_eq!(incident("unhealthy").id, "2026-01-02T03-04-05Z-api-unhealthy");
}

#[test]
fn it_is_written_at_once_and_completed() {
    let dir = Scratch::new();
    let (files, told) = shelf(dir.path(), 100);
    let id = files.begin(incident("exited"), Vec::new()).unwrap();
    files.change(&id, |it| it.did("started it again".to_owned()));
    files.close(LIMIT);
    let open = list(dir.path()).unwrap();
    assert_eq!((open.len(), open[0].outcome, open[0].ended_at), (1, Outcome::Open, None));

    // Another keepup finds it.
    let (files, _) = shelf(dir.path(), 100);
    files.close(LIMIT);
    let left = list(dir.path()).unwrap();
    assert_eq!(left[0].outcome, Outcome::Unknown);

    let (files, _) = shelf(dir.path(), 100);
    let mut second = incident("unhealthy");
    second.end(Outcome::Recovered, at(19));
    let id = files.begin(second, Vec::new()).unwrap();
    files.close(LIMIT);
    let text = read(dir.path(), &id, "md").unwrap().unwrap();
    assert!(text.starts_with("# api: unhealthy; recovered after 14s\n\n## Summary\n"), "{text}");
    for section in ["Summary", "Probable cause", "Follow-up", "Chronology", "Actions", "Evidence"] {
        assert_eq!(text.matches(&format!("\n## {section}\n")).count(), 1, "{section}: {text}");
    }
    let json = read(dir.path(), &id, "json").unwrap().unwrap();
    let read_back: Incident = serde_json::from_str(&json).unwrap();
    assert_eq!(read_back.lasted(), Some(Duration::from_secs(14)));
    assert!(told.try_recv().is_err());
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let dir = Scratch::new();
    for second in 10..15 {
        let (files, _) = shelf(dir.path(), 3);
        let mut one = Incident::new("api", &failure("exited", second), at(second));
        one.end(Outcome::Recovered, at(20));
        files.begin(one, Vec::new()).unwrap();
        files.close(LIMIT);
    }
    let ids: Vec<String> = list(dir.path()).unwrap().into_iter().map(|it| it.id).collect();
    let wanted = ["14", "13", "12"].map(|it| format!("2026-01-02T03-04-{it}Z-api-exited"));
    assert_eq!(ids, wanted);
    assert_eq!(fs::read_dir(dir.path().join("incidents")).unwrap().count(), 6);
}

#[test]
fn two_at_once_have_names_of_their_own() {
    let dir = Scratch::new();
    let (files, _) = shelf(dir.path(), 100);
    let first = files.begin(incident("exited"), Vec::new()).unwrap();
    let second = files.begin(incident("exited"), Vec::new()).unwrap();
    files.close(LIMIT);
    assert_eq!(second, format!("{first}-2"));
    assert_eq!(list(dir.path()).unwrap().len(), 2);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_once() {
    let dir = Scratch::new();
    fs::write(dir.path().join("incidents"), "in the way").unwrap();
    let (files, told) = shelf(dir.path(), 100);
    files.begin(incident("exited"), Vec::new()).unwrap();
    files.begin(incident("exited"), Vec::new()).unwrap();
    files.close(LIMIT);
    let texts: Vec<Told> = told.iter().collect();
    let [Told::Trouble(text)] = texts.as_slice() else { panic!("{texts:?}") };
    assert!(text.starts_with("cannot write an incident to `"), "{text}");
}

#[test]
fn nothing_outside_of_its_folder_is_read() {
    let dir = Scratch::new();
    fs::write(dir.path().join("secret.json"), "{}").unwrap();
    for id in ["../secret", "", ".", "..", "a/b", "x\0"] {
        assert_eq!(read(dir.path(), id, "json").unwrap(), None, "{id}");
    }
    assert!(list(dir.path()).unwrap().is_empty());
}

#[test]
fn a_long_outage_keeps_its_beginning_and_its_end() {
    let mut it = incident("exited");
    for nth in 0..10_000 {
        it.happened(Moment { at: at(5), what: format!("moment {nth}") });
        it.failed(failure("exited", 6));
        it.did("started it again".to_owned());
    }
    assert_eq!(it.failures_count, 10_001);
    assert_eq!(it.failures.len(), FIRST_MAX + LAST_MAX);
    assert_eq!(it.chronology[0].what, "moment 0");
    assert_eq!(it.chronology.last().unwrap().what, "moment 9999");
    assert_eq!(it.moments_left_out, 9_900);
    assert_eq!(it.actions, [Action { what: "started it again".to_owned(), count: 10_000 }]);
}
