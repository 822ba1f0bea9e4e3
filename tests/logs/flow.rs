//! From the pipe into the file.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use keepup::logs::{Console, Style};

use crate::world::{Folder, LIMIT, World, lines, name, plan, shell, wait_until, write_aside};

#[test]
fn what_a_dying_process_wrote_is_in_the_file_after_a_drain() {
    let folder = Folder::new();
    let world = World::new();
    let out = world.add("api", &plan(folder.path("api.log")));
    for run in 0..50 {
        let mut child = shell(&format!("printf 'run {run}\\nno end'"), &out);
        child.wait().unwrap();
        world.drain("api");
        assert!(folder.read("api.log").ends_with(&format!("run {run}\nno end")), "{run}");
    }
    world.finish();
}

#[test]
fn bytes_pass_unchanged() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    out.write_all(&all).unwrap();
    world.drain("api");
    assert_eq!(std::fs::read(folder.path("api.log")).unwrap(), all);
    assert_eq!(world.logs.stats(&name("api")).bytes, 100_000);
    world.finish();
}

#[test]
fn a_drain_does_not_wait_for_a_grandchild_that_holds_the_pipe() {
    let folder = Folder::new();
    let world = World::new();
    let out = world.add("api", &plan(folder.path("api.log")));
    let mut child = shell("sleep 60 & echo $!", &out);
    child.wait().unwrap();
    world.drain("api");
    let grandchild = folder.read("api.log");
    assert!(shell(&format!("kill {grandchild}"), &out).wait().unwrap().success(), "it still lives");
    world.finish();
}

#[test]
fn a_drain_does_not_wait_for_a_grandchild_that_floods_the_pipe() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    (plan.max_size, plan.keep) = (1_000_000, 1);
    let out = world.add("api", &plan);
    let mut flood = shell("exec yes", &out);
    wait_until("the flood", || world.logs.stats(&name("api")).bytes > 1_000_000);
    world.drain("api");
    flood.kill().unwrap();
    flood.wait().unwrap();
    world.finish();
}

#[test]
fn every_line_stands_once_and_in_order_across_many_rotations() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    (plan.max_size, plan.keep) = (200_000, 1000);
    let mut out = world.add("api", &plan);
    let all = lines(0..200_000);
    out.write_all(&all).unwrap();
    world.drain("api");
    let mut found = Vec::new();
    let count = std::fs::read_dir(&folder.0).unwrap().count();
    for number in (1..count).rev() {
        let file = std::fs::read(folder.path(&format!("api.log.{number}"))).unwrap();
        assert!(file.ends_with(b"\n"), "rotated at a line's end");
        assert!((200_000..200_110).contains(&file.len()), "{number}: {}", file.len());
        found.extend(file);
    }
    found.extend(std::fs::read(folder.path("api.log")).unwrap());
    assert_eq!(count, all.len().div_ceil(200_060), "{count} files");
    assert!(found == all, "every byte once and in order");
    world.finish();
}

#[test]
fn a_line_longer_than_64_kib_is_split_over_bounded_files() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    (plan.max_size, plan.keep) = (100_000, 100);
    let mut out = world.add("api", &plan);
    let long = vec![b'x'; 1_000_000];
    out.write_all(&long).unwrap();
    world.drain("api");
    let sizes: Vec<u64> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|it| it.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.iter().sum::<u64>(), 1_000_000);
    assert!(sizes.iter().all(|&it| it <= 100_000 + 65_536), "{sizes:?}");
    world.finish();
}

#[test]
fn a_line_of_our_own_stands_between_lines() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    world.logs.line(&name("api"), "starting");
    world.drain("api");
    out.write_all(b"half a li").unwrap();
    wait_until("the half line", || folder.read("api.log").ends_with("half a li"));
    world.logs.line(&name("api"), "told\nto stop");
    out.write_all(b"ne\nand more").unwrap();
    wait_until("the rest", || folder.read("api.log").ends_with("and more"));
    world.logs.line(&name("api"), "it died");
    world.drain("api");
    assert_eq!(
        folder.read("api.log"),
        "keepup: starting\nhalf a line\nkeepup: told to stop\nand more\nkeepup: it died\n"
    );
    world.finish();
}

#[test]
fn the_pipe_belongs_to_the_services_user_and_can_be_opened_again() {
    let folder = Folder::new();
    let world = World::new();
    world.logs.add(&name("api"), &plan(folder.path("api.log")), Some((65534, 65534))).unwrap();
    let out = world.writer("api");
    let meta = out.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (65534, 65534));
    assert!(shell("echo again > /dev/stdout", &out).wait().unwrap().success());
    world.drain("api");
    assert_eq!(folder.read("api.log"), "again\n");
    world.finish();
}

#[test]
fn a_writer_outlives_its_reader() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    world.finish();
    out.write_all(b"nobody reads this, and nobody dies of it\n").unwrap();
}

#[test]
fn finish_writes_what_is_there() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    let all = lines(0..1000);
    out.write_all(&all).unwrap();
    world.logs.line(&name("api"), "the end");
    world.finish();
    let file = folder.read("api.log");
    assert!(file.as_bytes().starts_with(&all));
    assert!(file.ends_with("\nkeepup: the end\n"));
}

#[test]
fn a_removed_services_last_lines_are_written() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    world.logs.remove(&name("api"));
    out.write_all(b"last\n").unwrap();
    drop(out);
    wait_until("the last line", || folder.read("api.log") == "last\n");
    // The file is free again as soon as the old pipe has ended.
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"first\n").unwrap();
    wait_until("the first line", || folder.read("api.log") == "last\nfirst\n");
    world.finish();
}

#[test]
fn the_tail_is_the_last_lines_also_across_a_rotation() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    plan.max_size = 100_000;
    let mut out = world.add("api", &plan);
    let all = lines(0..5000);
    out.write_all(&all).unwrap();
    out.write_all(b"no end").unwrap();
    world.drain("api");
    for count in [0, 1, 2, 50, 2000] {
        let tail = world.logs.tail(&name("api"), count).unwrap().read();
        let all = [&all[..], b"no end"].concat();
        let wanted: Vec<&[u8]> = all.split(|&it| it == b'\n').collect();
        assert!(tail == wanted[wanted.len() - count..], "{count}");
    }
    world.finish();
}

fn console() -> (Console, OwnedFd) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (Console::to(write, Style::Plain), read)
}

#[test]
fn the_console_has_whole_lines_with_aligned_names() {
    let folder = Folder::new();
    let (console, read) = console();
    let world = World::with(console);
    let mut plan_a = plan(folder.path("a.log"));
    plan_a.console = true;
    let mut plan_b = plan(folder.path("longer.log"));
    plan_b.console = true;
    let (mut a, mut b) = (world.add("a", &plan_a), world.add("longer", &plan_b));
    a.write_all(b"one\ntw").unwrap();
    wait_until("a.log", || folder.read("a.log") == "one\ntw");
    b.write_all(b"from b\n").unwrap();
    world.drain("longer");
    a.write_all(b"o\nthree").unwrap();
    world.drain("a");
    world.finish();
    let text = std::io::read_to_string(std::fs::File::from(read)).unwrap();
    assert_eq!(text, "a      | one\nlonger | from b\na      | two\na      | three\n");
}

#[test]
fn the_console_speaks_as_its_reader_likes() {
    for (style, wanted) in
        [(Style::Journal, "<6>api | one\n"), (Style::Colour, "\x1b[36mapi |\x1b[0m one\n")]
    {
        let folder = Folder::new();
        let (read, write) = nix::unistd::pipe().unwrap();
        let world = World::with(Console::to(write, style));
        let mut plan = plan(folder.path("api.log"));
        plan.console = true;
        world.add("api", &plan).write_all(b"one\n").unwrap();
        world.drain("api");
        world.finish();
        assert_eq!(std::io::read_to_string(std::fs::File::from(read)).unwrap(), wanted);
    }
}

#[test]
fn a_console_that_nobody_reads_holds_nobody_up() {
    let folder = Folder::new();
    let (console, read) = console();
    let world = World::with(console);
    let mut plan = plan(folder.path("api.log"));
    plan.console = true;
    let out = world.add("api", &plan);
    let all = lines(0..100_000);
    write_aside(out, all.clone()).recv_timeout(LIMIT).expect("the service goes on");
    world.drain("api");
    assert!(folder.read("api.log").as_bytes() == all, "the file has it all");
    let reader =
        std::thread::spawn(move || std::io::read_to_string(std::fs::File::from(read)).unwrap());
    world.finish();
    let text = reader.join().unwrap();
    let mut printed = 0;
    let mut dropped = 0;
    for line in text.lines() {
        match line.strip_prefix("keepup: ").and_then(|it| it.split_once(" console lines dropped")) {
            Some((count, _)) => dropped += count.parse::<u32>().unwrap(),
            None => printed += u32::from(line.starts_with("api | line ")),
        }
    }
    assert_eq!(printed + dropped, 100_000);
    assert!(printed > 3000, "{printed}");
}

#[test]
fn a_flood_does_not_keep_others_waiting() {
    let folder = Folder::new();
    let world = World::new();
    let mut flooding = plan(folder.path("flood.log"));
    (flooding.max_size, flooding.keep) = (1_000_000, 1);
    let flood = world.add("flood", &flooding);
    let mut out = world.add("api", &plan(folder.path("api.log")));
    let mut child = shell("exec yes", &flood);
    let start = Instant::now();
    for _ in 0..20 {
        out.write_all(b"line\n").unwrap();
        world.drain("api");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    child.kill().unwrap();
    child.wait().unwrap();
    world.finish();
}
