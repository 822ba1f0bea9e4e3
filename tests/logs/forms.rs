//! Formats text and json, through real pipes.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use keepup::plan::{self, LogFormat};
use serde_json::Value;

use crate::world::{Folder, World, lines, name, plan, wait_until};

fn in_format(folder: &Folder, format: LogFormat) -> plan::Logs {
    plan::Logs { format, ..plan(folder.path("api.log")) }
}

fn begin(world: &World, run: u64) -> [File; 2] {
    world.logs.begin_run(&name("api"), run).unwrap().map(File::from)
}

fn objects(folder: &Folder) -> Vec<Value> {
    folder.read("api.log").lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn streams_and_runs_are_told_apart_and_last_words_kept() {
    let folder = Folder::new();
    let world = World::new();
    drop(world.add("api", &in_format(&folder, LogFormat::Json)));
    let [mut out, mut err] = begin(&world, 1);
    out.write_all(b"one\n").unwrap();
    world.drain("api");
    err.write_all(b"two\nlast \xff words").unwrap();
    world.drain("api");
    let [mut out, _err] = begin(&world, 2);
    out.write_all(b"three\n").unwrap();
    world.logs.line(&name("api"), "ours");
    world.drain("api");
    let told: Vec<String> = objects(&folder)
        .iter()
        .map(|it| format!("{} {} {}", it["run"], it["stream"], it["message"]).replace('"', ""))
        .collect();
    let last = "1 stderr last \u{fffd} words";
    assert_eq!(told, ["1 stdout one", "1 stderr two", last, "2 stdout three", "2 keepup ours"]);
    world.finish();
}

#[test]
fn a_flood_on_both_streams_is_kept_whole_and_in_the_order_of_each() {
    let folder = Folder::new();
    let world = World::new();
    let plan = plan::Logs { max_size: 300_000, keep: 100, ..in_format(&folder, LogFormat::Text) };
    drop(world.add("api", &plan));
    let [out, err] = begin(&world, 1);
    let writers = [out, err]
        .map(|mut end| std::thread::spawn(move || end.write_all(&lines(0..20_000)).unwrap()));
    for writer in writers {
        writer.join().unwrap();
    }
    world.drain("api");
    let rotated = (1..=100).rev().map(|it| folder.read(&format!("api.log.{it}")));
    let text = rotated.collect::<String>() + &folder.read("api.log");
    for stream in [" stdout ", " stderr "] {
        let own = text.lines().filter(|it| &it[27..35] == stream);
        let own: Vec<&str> = own.map(|it| &it[35..]).collect();
        let expected = String::from_utf8(lines(0..20_000)).unwrap();
        let wrong = own.iter().zip(expected.lines()).find(|it| *it.0 != it.1);
        assert!(own.len() == 20_000 && wrong.is_none(), "{stream} {} {wrong:?}", own.len());
    }
    world.finish();
}

#[test]
fn what_began_is_written_when_keepup_ends() {
    let folder = Folder::new();
    let world = World::new();
    drop(world.add("api", &in_format(&folder, LogFormat::Json)));
    let [mut out, _err] = begin(&world, 1);
    out.write_all(b"no end").unwrap();
    world.finish();
    assert_eq!(objects(&folder)[0]["message"], "no end");
}

#[test]
fn a_gap_is_marked_in_the_form_of_the_log() {
    let folder = Folder::new();
    let file = folder.path("in/api.log");
    std::fs::write(folder.path("in"), "in the way").unwrap();
    let world = World::new();
    let plan = plan::Logs { file, buffer: 2000, ..in_format(&folder, LogFormat::Json) };
    drop(world.add("api", &plan));
    let [mut out, _err] = begin(&world, 1);
    out.write_all(&lines(0..1000)).unwrap();
    wait_until("lines are lost", || world.lost("api") > 900);
    std::fs::remove_file(folder.path("in")).unwrap();
    let read = || folder.read("in/api.log");
    wait_until("the gap is marked", || read().contains("\"keepup\""));
    let objects: Vec<Value> = read().lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let mark = objects.iter().find(|it| it["stream"] == "keepup").unwrap();
    let kept = objects.len() as u64 - 1;
    let told = mark["message"].as_str().unwrap();
    assert!(told.starts_with(&format!("{} lines lost (", 1000 - kept)), "{told}");
    world.finish();
}

#[test]
fn a_line_on_the_other_stream_stands_behind_those_that_gathered_before_it() {
    let folder = Folder::new();
    let world = World::new();
    drop(world.add("api", &in_format(&folder, LogFormat::Text)));
    let [mut out, mut err] = begin(&world, 1);
    let mut written = Vec::new();
    for _ in 0..5 {
        // Often enough to gather. What comes next is no sooner than the look after it.
        for _ in 0..40 {
            let line = format!("stdout {}\n", written.len());
            out.write_all(line.as_bytes()).unwrap();
            written.push(line);
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let line = format!("stderr {}\n", written.len());
        err.write_all(line.as_bytes()).unwrap();
        wait_until("it is in the file", || folder.read("api.log").contains(&line));
        written.push(line);
    }
    world.drain("api");
    let text = folder.read("api.log");
    let found: Vec<&str> = text.split_inclusive('\n').map(|it| &it[35..]).collect();
    assert!(text.lines().all(|it| it[28..34] == it[35..41]), "{text}");
    assert_eq!(found, written);
    world.finish();
}
