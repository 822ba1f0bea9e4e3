//! The files: moved, removed, linked, locked.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use keepup::logs::own;

use crate::world::{Folder, World, lines, name, plan, wait_until};

#[test]
fn mode_and_owner_are_those_of_the_old_file() {
    let folder = Folder::new();
    let path = folder.path("api.log");
    std::fs::write(&path, "old\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
    chown(&path, Some(12), Some(34)).unwrap();
    let world = World::new();
    let mut plan = plan(path.clone());
    plan.max_size = 1000;
    let mut out = world.add("api", &plan);
    out.write_all(&lines(0..100)).unwrap();
    world.drain("api");
    let meta = std::fs::metadata(&path).unwrap();
    assert!(folder.path("api.log.2").exists());
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o604, 12, 34));
    world.finish();
}

#[test]
fn a_new_file_and_folder_are_not_for_everybody() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("new/deep/api.log")));
    out.write_all(b"x\n").unwrap();
    world.drain("api");
    let mode = |it: &str| std::fs::metadata(folder.path(it)).unwrap().mode() & 0o777;
    assert_eq!((mode("new"), mode("new/deep"), mode("new/deep/api.log")), (0o750, 0o750, 0o640));
    world.finish();
}

#[test]
fn a_link_is_not_followed() {
    let folder = Folder::new();
    std::fs::write(folder.path("shadow"), "secret\n").unwrap();
    symlink(folder.path("shadow"), folder.path("api.log")).unwrap();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"evil\n").unwrap();
    world.drain("api");
    assert_eq!(folder.read("shadow"), "secret\n");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(
        problem.contains("api.log`: it is a symbolic link, which is not followed"),
        "{problem}"
    );
    // What was written meanwhile is kept.
    std::fs::remove_file(folder.path("api.log")).unwrap();
    wait_until("the line", || folder.read("api.log") == "evil\n");
    wait_until("no problem", || world.logs.stats(&name("api")).problem.is_none());
    assert_eq!(folder.read("shadow"), "secret\n");
    world.finish();
}

#[test]
fn a_fifo_is_refused_and_holds_nobody_up() {
    let folder = Folder::new();
    nix::unistd::mkfifo(&folder.path("api.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"x\n").unwrap();
    world.drain("api");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.contains("it is not a regular file"), "{problem}");
    world.finish();
}

#[test]
fn two_keepups_never_write_one_file() {
    let folder = Folder::new();
    let (first, second) = (World::new(), World::new());
    let mut plan = plan(folder.path("api.log"));
    plan.max_size = 10_000;
    let mut a = first.add("api", &plan);
    first.drain("api");
    a.write_all(b"first\n").unwrap();
    first.drain("api");
    let mut b = second.add("api", &plan);
    b.write_all(b"second\n").unwrap();
    second.drain("api");
    let (problem, _) = second.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.contains("api.log`: another keepup writes it"), "{problem}");
    a.write_all(&lines(0..1000)).unwrap();
    first.drain("api");
    assert!(folder.path("api.log.2").exists(), "it rotates as ever");
    assert!(!folder.read("api.log").contains("second"));
    first.finish();
    wait_until("its turn", || folder.read("api.log").ends_with("second\n"));
    second.finish();
}

#[test]
fn a_file_moved_away_is_noticed() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"before\n").unwrap();
    world.drain("api");
    std::fs::rename(folder.path("api.log"), folder.path("moved")).unwrap();
    let mut count = 0;
    wait_until("a new file", || {
        count += 1;
        writeln!(out, "{count}").unwrap();
        folder.path("api.log").exists()
    });
    world.drain("api");
    let numbers: Vec<String> = (1..=count).map(|it| it.to_string()).collect();
    let found = folder.read("moved") + &folder.read("api.log");
    assert_eq!(found, format!("before\n{}\n", numbers.join("\n")));
    assert_eq!(world.lost("api"), 0);
    world.finish();
}

#[test]
fn reopen_takes_the_new_file_at_once() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"before, no end").unwrap();
    world.drain("api");
    std::fs::rename(folder.path("api.log"), folder.path("moved")).unwrap();
    world.logs.reopen();
    wait_until("a new file", || folder.path("api.log").exists());
    out.write_all(b"after\n").unwrap();
    world.drain("api");
    assert_eq!(folder.read("api.log"), "after\n");
    assert_eq!(folder.read("moved"), "before, no end");
    world.finish();
}

#[test]
fn a_deleted_folder_comes_back() {
    let folder = Folder::new();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("sub/api.log")));
    world.drain("api");
    wait_until("the file", || folder.path("sub/api.log").exists());
    std::fs::remove_dir_all(folder.path("sub")).unwrap();
    wait_until("the file again", || {
        out.write_all(b"line\n").unwrap();
        folder.read("sub/api.log").ends_with("line\n")
    });
    world.finish();
}

#[test]
fn a_file_emptied_by_others_is_counted_anew() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    plan.max_size = 20_000;
    let mut out = world.add("api", &plan);
    out.write_all(&vec![b'\n'; 15_000]).unwrap();
    world.drain("api");
    let file = std::fs::OpenOptions::new().write(true).open(folder.path("api.log")).unwrap();
    file.set_len(0).unwrap();
    let start = std::time::Instant::now();
    wait_until("a second", || start.elapsed().as_millis() > 1050);
    out.write_all(&vec![b'\n'; 15_000]).unwrap();
    world.drain("api");
    assert_eq!(folder.read("api.log").len(), 15_000);
    assert!(!folder.path("api.log.1").exists());
    world.finish();
}

#[test]
fn a_rotation_that_a_crash_cut_short_is_finished() {
    let folder = Folder::new();
    for (file, text) in [("api.log", "current\n"), ("api.log.2", "b\n"), ("api.log.3", "c\n")] {
        std::fs::write(folder.path(file), text).unwrap();
    }
    std::fs::write(folder.path("api.log.9"), "beyond\n").unwrap();
    std::fs::write(folder.path("api.log.x"), "not ours\n").unwrap();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    (plan.max_size, plan.keep) = (8, 3);
    let mut out = world.add("api", &plan);
    out.write_all(b"next\n").unwrap();
    world.drain("api");
    let all = ["api.log", "api.log.1", "api.log.2", "api.log.3", "api.log.9", "api.log.x"];
    let found: Vec<String> = all.iter().map(|it| folder.read(it)).collect();
    assert_eq!(found, ["next\n", "current\n", "b\n", "c\n", "", "not ours\n"]);
    world.finish();
}

#[test]
fn a_line_that_an_earlier_keepup_left_open_is_ended() {
    let folder = Folder::new();
    std::fs::write(folder.path("api.log"), "killed in the mid").unwrap();
    let world = World::new();
    let mut out = world.add("api", &plan(folder.path("api.log")));
    out.write_all(b"next\n").unwrap();
    world.drain("api");
    assert_eq!(folder.read("api.log"), "killed in the mid\nnext\n");
    world.finish();
}

#[test]
fn keep_zero_keeps_the_current_file_alone() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    (plan.max_size, plan.keep) = (1000, 0);
    let mut out = world.add("api", &plan);
    out.write_all(&lines(0..1000)).unwrap();
    world.drain("api");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    assert!(folder.read("api.log").len() <= 1100);
    assert!(folder.read("api.log").contains("line 0000999"));
    world.finish();
}

#[test]
fn other_bounds_count_from_now_on_and_another_file_from_the_next_run() {
    let folder = Folder::new();
    let world = World::new();
    let mut plan = plan(folder.path("api.log"));
    let mut out = world.add("api", &plan);
    plan.max_size = 1000;
    let _same = world.add("api", &plan);
    wait_until("a rotation", || {
        out.write_all(&lines(0..10)).unwrap();
        folder.path("api.log.1").exists()
    });
    plan.file = folder.path("other.log");
    let mut next = world.add("api", &plan);
    out.write_all(b"old run\n").unwrap();
    next.write_all(b"new run\n").unwrap();
    world.drain("api");
    assert_eq!(folder.read("other.log"), "new run\n");
    wait_until("the old run's line", || folder.read("api.log").ends_with("old run\n"));
    world.finish();
}

#[test]
fn our_own_log_rotates_and_outlives_a_problem() {
    let folder = Folder::new();
    let mut log = own::writer(folder.path("keepup.log"), 1000, 2);
    for number in 0..100 {
        writeln!(log, "line {number:040}").unwrap();
    }
    assert!(folder.path("keepup.log.2").exists() && !folder.path("keepup.log.3").exists());
    drop(log);
    std::fs::create_dir(folder.path("dir")).unwrap();
    let mut log = own::writer(folder.path("dir"), 1000, 2);
    log.write_all(b"kept\n").unwrap();
    assert!(log.problem().unwrap().ends_with("dir`: is a directory"), "{:?}", log.problem());
    std::fs::remove_dir(folder.path("dir")).unwrap();
    drop(log);
    assert_eq!(folder.read("dir"), "kept\n", "the last try is at the end");
}

#[test]
fn our_own_log_is_written_by_a_thread() {
    let folder = Folder::new();
    let (mut log, guard) = own::layer_writer(&folder.path("keepup.log"), 1000, 2).unwrap();
    log.write_all(b"line\n").unwrap();
    drop(guard);
    assert_eq!(folder.read("keepup.log"), "line\n");
    std::fs::create_dir(folder.path("dir")).unwrap();
    let error = own::layer_writer(&folder.path("dir"), 1000, 2).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot write `") && error.ends_with("dir`: is a directory"),
        "{error}"
    );
}
