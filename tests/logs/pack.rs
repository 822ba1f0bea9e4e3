//! Age, total size and compression; and every state in which a kill can leave a compression.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use keepup::plan::{self, Compress};

use crate::world::{Folder, World, lines, name, plan, wait_until};

fn packed(folder: &Folder) -> plan::Logs {
    plan::Logs { compress: Compress::Gzip, ..plan(folder.path("api.log")) }
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(&folder.0).unwrap();
    let mut names: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn unpacked(folder: &Folder, name: &str) -> String {
    let mut text = String::new();
    let file = fs::File::open(folder.path(name)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[test]
fn rotated_files_are_compressed_and_lose_nothing() {
    let folder = Folder::new();
    let world = World::new();
    let plan = plan::Logs { max_size: 100_000, keep: 50, ..packed(&folder) };
    let mut out = world.add("api", &plan);
    let written = lines(0..20_000);
    out.write_all(&written).unwrap();
    world.drain("api");
    let uncompressed =
        |it: &String| it.trim_end_matches(|it: char| it.is_ascii_digit()) == "api.log.";
    wait_until("all are compressed", || !names(&folder).iter().any(uncompressed));
    let count = names(&folder).len() - 1;
    assert!(count > 8, "{:?}", names(&folder));
    let mut text = String::new();
    for number in (1..=count).rev() {
        text += &unpacked(&folder, &format!("api.log.{number}.gz"));
    }
    text += &folder.read("api.log");
    assert!(text.into_bytes() == written);
    world.finish();
}

/// Starts logs in a folder that was left like this, and waits until all is compressed.
fn resumed(files: &[(&str, Vec<u8>)]) -> (String, Vec<String>) {
    let folder = Folder::new();
    for (name, bytes) in files {
        fs::write(folder.path(name), bytes).unwrap();
    }
    let world = World::new();
    let out = world.add("api", &packed(&folder));
    let done = ["api.log", "api.log.1.gz", "api.log.2.gz"];
    wait_until("the compression is finished", || names(&folder) == done);
    let text = unpacked(&folder, "api.log.2.gz") + &unpacked(&folder, "api.log.1.gz");
    drop(out);
    world.finish();
    (text, names(&folder))
}

#[test]
fn a_compression_is_resumed_from_every_step_at_which_it_can_be_killed() {
    let (one, two) = (b"one\n".to_vec(), b"two\n".to_vec());
    let whole = gzip("one\n");
    let half = whole[..whole.len() / 2].to_vec();
    let states: Vec<Vec<(&str, Vec<u8>)>> = vec![
        // Before it began.
        vec![("api.log.2", one.clone()), ("api.log.1", two.clone())],
        // With an empty part, half of one, and a whole one.
        vec![("api.log.2", one.clone()), ("api.log.1", two.clone()), ("api.log.gz.part", vec![])],
        vec![("api.log.2", one.clone()), ("api.log.1", two.clone()), ("api.log.gz.part", half)],
        vec![
            ("api.log.2", one.clone()),
            ("api.log.1", two.clone()),
            ("api.log.gz.part", whole.clone()),
        ],
        // With the compressed file in its place, and the other not removed yet.
        vec![("api.log.2", one), ("api.log.2.gz", whole.clone()), ("api.log.1", two.clone())],
        // After that.
        vec![("api.log.2.gz", whole), ("api.log.1", two)],
    ];
    for files in states {
        let state: Vec<&str> = files.iter().map(|it| it.0).collect();
        let (text, _) = resumed(&files);
        assert_eq!(text, "one\ntwo\n", "{state:?}");
    }
}

#[test]
fn a_compression_that_fails_is_told_and_tried_again() {
    let folder = Folder::new();
    fs::write(folder.path("api.log.1"), "one\n").unwrap();
    fs::create_dir_all(folder.path("api.log.gz.part/in the way")).unwrap();
    let world = World::new();
    let out = world.add("api", &packed(&folder));
    wait_until("it is told", || !world.texts().is_empty());
    let told = format!("cannot compress rotated files of `{}`", folder.path("api.log").display());
    assert!(world.texts()[0].starts_with(&told), "{:?}", world.texts());
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.ends_with("; they stay as they are, retrying"), "{problem}");
    assert_eq!(folder.read("api.log.1"), "one\n");
    fs::remove_dir_all(folder.path("api.log.gz.part")).unwrap();
    wait_until("it is compressed", || names(&folder) == ["api.log", "api.log.1.gz"]);
    wait_until("that is told", || world.logs.stats(&name("api")).problem.is_none());
    assert!(world.texts()[1].starts_with("compressing rotated files of"), "{:?}", world.texts());
    drop(out);
    world.finish();
}

#[test]
fn a_rotation_settles_what_stands_there_in_both_forms() {
    let folder = Folder::new();
    fs::write(folder.path("api.log.1"), "one\n").unwrap();
    fs::write(folder.path("api.log.1.gz"), gzip("one\n")).unwrap();
    fs::write(folder.path("api.log"), "two\n").unwrap();
    let world = World::new();
    let out = world.add("api", &plan::Logs { max_size: 1, ..plan(folder.path("api.log")) });
    world.drain("api");
    wait_until("it is rotated at the start", || folder.path("api.log.2.gz").exists());
    assert_eq!(names(&folder), ["api.log", "api.log.1", "api.log.2.gz"]);
    drop(out);
    world.finish();
}

#[test]
fn all_files_together_stay_below_the_total() {
    let folder = Folder::new();
    let world = World::new();
    let (max_size, max_total) = (10_000, Some(45_000));
    let plan = plan::Logs { max_size, max_total, keep: 50, ..plan(folder.path("api.log")) };
    let mut out = world.add("api", &plan);
    out.write_all(&lines(0..5_000)).unwrap();
    world.drain("api");
    let sizes: u64 =
        names(&folder).iter().map(|it| fs::metadata(folder.path(it)).unwrap().len()).sum();
    assert!((30_000..=45_000).contains(&sizes), "{sizes}");
    assert!(folder.read("api.log").contains("line 0004999"));
    world.finish();
}

#[test]
fn an_old_file_is_rotated_at_a_lines_end() {
    let folder = Folder::new();
    let world = World::new();
    let max_age = Some(Duration::from_millis(50));
    let mut out = world.add("api", &plan::Logs { max_age, ..plan(folder.path("api.log")) });
    let mut count = 0_u32;
    wait_until("it is rotated twice", || {
        count += 1;
        writeln!(out, "line {count}").unwrap();
        world.drain("api");
        folder.path("api.log.2").exists()
    });
    let text: String =
        ["api.log.2", "api.log.1", "api.log"].iter().map(|it| folder.read(it)).collect();
    let expected: Vec<String> = (1..=count).map(|it| format!("line {it}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    world.finish();
}
