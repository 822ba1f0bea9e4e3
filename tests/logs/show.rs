//! What people are shown of logs, whatever becomes of the files meanwhile.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use keepup::logs::{Ask, Dress, Show, Source};
use keepup::plan::{self, Compress};
use regex::bytes::Regex;

use crate::world::{Folder, LIMIT, World, lines, plan};

fn source(folder: &Folder, name: &str) -> Source {
    let path = folder.path(&format!("{name}.log"));
    Source { name: name.to_owned(), path, unwritten: Vec::new() }
}

fn all(folder: &Folder, ask: &Ask) -> String {
    let mut show = Show::open(vec![source(folder, "api")], ask).unwrap();
    let mut out = Vec::new();
    loop {
        let more = show.more().unwrap();
        if more.is_empty() {
            out.extend_from_slice(&show.rest());
            return String::from_utf8(out).unwrap();
        }
        out.extend_from_slice(&more);
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn three_files() -> Folder {
    let folder = Folder::new();
    fs::write(folder.path("api.log.2.gz"), gzip("one\ntwo\n")).unwrap();
    fs::write(folder.path("api.log.1"), "three\nfour\n").unwrap();
    fs::write(folder.path("api.log"), "five\nsix").unwrap();
    folder
}

#[test]
fn the_last_lines_reach_back_into_rotated_and_compressed_files() {
    let folder = three_files();
    let last = |lines| all(&folder, &Ask { lines: Some(lines), ..Ask::default() });
    assert_eq!(last(0), "");
    assert_eq!(last(1), "six\n");
    assert_eq!(last(2), "five\nsix\n");
    assert_eq!(last(3), "four\nfive\nsix\n");
    assert_eq!(last(5), "two\nthree\nfour\nfive\nsix\n");
    assert_eq!(last(9), "one\ntwo\nthree\nfour\nfive\nsix\n");
    assert_eq!(all(&folder, &Ask::default()), last(9));
}

#[test]
fn a_log_that_is_not_there_yet_is_empty_and_can_be_waited_for() {
    let folder = Folder::new();
    let path = folder.path("logs/api.log");
    let source = Source { name: "api".to_owned(), path: path.clone(), unwritten: Vec::new() };
    let mut show = Show::open(vec![source], &Ask::default()).unwrap();
    assert!(show.more().unwrap().is_empty());
    fs::create_dir(folder.path("logs")).unwrap();
    fs::write(path, "one\n").unwrap();
    assert_eq!(show.more().unwrap(), b"one\n");
}

#[test]
fn the_last_lines_are_counted_among_those_that_are_wanted() {
    let folder = three_files();
    let grep = Some(Regex::new("o").unwrap());
    let wanted = Ask { grep, ..Ask::default() };
    assert_eq!(all(&folder, &wanted), "one\ntwo\nfour\n");
    assert_eq!(all(&folder, &Ask { lines: Some(2), ..wanted }), "two\nfour\n");
}

#[test]
fn times_decide_where_lines_have_them() {
    let folder = Folder::new();
    let now = format!("{:.6}", jiff::Timestamp::now());
    let old = "2020-01-01T00:00:00.000000Z";
    let text = format!(
        "no time\n{old} stdout old\n{{\"time\":\"{now}\",\"message\":\"a\"}}\n{now} stderr new\nno time\n"
    );
    fs::write(folder.path("api.log"), text).unwrap();
    let since = Some(Duration::from_secs(600));
    let shown = all(&folder, &Ask { since, ..Ask::default() });
    let new = format!("{{\"time\":\"{now}\",\"message\":\"a\"}}\n{now} stderr new\nno time\n");
    assert_eq!(shown, new);
    let json = all(&folder, &Ask { dress: Dress::Json, lines: Some(2), ..Ask::default() });
    let objects: Vec<serde_json::Value> =
        json.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(objects[0]["stream"], "stderr");
    assert_eq!(objects[0]["message"], "new");
    assert_eq!(objects[1]["message"], "no time");
    assert!(objects[1]["time"].is_null());
}

#[test]
fn several_logs_are_told_apart() {
    let folder = three_files();
    fs::write(folder.path("worker.log"), "works\n").unwrap();
    let ask = Ask { dress: Dress::Named, lines: Some(1), ..Ask::default() };
    let both = vec![source(&folder, "api"), source(&folder, "worker")];
    let mut show = Show::open(both, &ask).unwrap();
    let mut out = show.more().unwrap();
    out.extend(show.more().unwrap());
    out.extend(show.rest());
    assert_eq!(String::from_utf8(out).unwrap(), "worker | works\napi    | six\n");
}

/// Follows while a service writes; what is shown must be what was written.
fn follow(plan: &plan::Logs, folder: &Folder) {
    let world = World::new();
    let mut out = world.add("api", plan);
    out.write_all(b"first\n").unwrap();
    world.drain("api");
    let mut show = Show::open(vec![source(folder, "api")], &Ask::default()).unwrap();
    let (until, mut seen, mut written) = (Instant::now() + LIMIT, Vec::new(), b"first\n".to_vec());
    for round in 0..300 {
        let piece = lines(round * 40..round * 40 + 40);
        out.write_all(&piece).unwrap();
        written.extend_from_slice(&piece);
        world.drain("api");
        if round % 7 == 0 {
            seen.extend(show.more().unwrap());
        }
    }
    while seen.len() < written.len() && Instant::now() < until {
        seen.extend(show.more().unwrap());
    }
    assert!(seen == written, "{} of {} bytes", seen.len(), written.len());
    assert!(show.more().unwrap().is_empty());
    assert!(folder.path("api.log.20").exists() || folder.path("api.log.20.gz").exists());
    world.finish();
}

#[test]
fn following_goes_on_through_rotations() {
    let folder = Folder::new();
    follow(&plan::Logs { max_size: 20_000, keep: 100, ..plan(folder.path("api.log")) }, &folder);
}

#[test]
fn following_goes_on_through_compression() {
    let folder = Folder::new();
    let (max_size, keep, compress) = (20_000, 100, Compress::Gzip);
    follow(&plan::Logs { max_size, keep, compress, ..plan(folder.path("api.log")) }, &folder);
}

#[test]
fn a_file_that_somebody_removes_is_followed_to_its_successor_without_the_older_ones() {
    let folder = three_files();
    fs::write(folder.path("api.log"), "five\nsix\n").unwrap();
    let rotated = fs::File::options().write(true).open(folder.path("api.log.1")).unwrap();
    rotated.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let mut show =
        Show::open(vec![source(&folder, "api")], &Ask { lines: Some(0), ..Ask::default() })
            .unwrap();
    assert!(show.more().unwrap().is_empty());
    fs::remove_file(folder.path("api.log")).unwrap();
    fs::write(folder.path("api.log"), "seven\n").unwrap();
    let shown = show.more().unwrap();
    assert_eq!(String::from_utf8(shown).unwrap(), "seven\n");
}
