//! Disks that are full, read-only, or do not answer.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keepup::plan::{self, LogFormat, Overflow};

use crate::world::{Folder, LIMIT, World, lines, name, plan, trickle, wait_until, write_aside};

/// A small file system in memory. Needs root.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(crate) fn new(folder: &Folder, size: &str) -> Tmpfs {
        let path = folder.path("disk");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "this test must be able to mount a tmpfs");
        Tmpfs(path)
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(done.success(), "mount -o {options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A real file system in a file, which can be made to answer no more. Needs root.
struct Loop(PathBuf);

impl Loop {
    fn new(folder: &Folder) -> Loop {
        Loop::with(folder, "mkfs.ext4", 64 << 20)
    }

    fn with(folder: &Folder, mkfs: &str, size: u64) -> Loop {
        let (image, path) = (folder.path("image"), folder.path("disk"));
        fs::File::create(&image).unwrap().set_len(size).unwrap();
        fs::create_dir(&path).unwrap();
        run(Command::new(mkfs).arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
        Loop(path)
    }

    fn freeze(&self) -> Frozen<'_> {
        // Should this test be killed, its disk thaws all the same.
        let mut guard = Command::new("sh");
        guard.args(["-c", "sleep 60; exec fsfreeze -u \"$0\""]).arg(&self.0);
        let guard = guard.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let frozen = Frozen(self, guard);
        run(Command::new("fsfreeze").arg("-f").arg(&self.0));
        frozen
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file system of which one folder may hold no more than its quota. Needs root and btrfs, whose
/// quotas hold for root, too.
struct Quota(Loop);

impl Quota {
    fn new(folder: &Folder) -> Option<Quota> {
        if Command::new("mkfs.btrfs").arg("--version").output().is_err() {
            return cannot_set_quotas();
        }
        let disk = Loop::with(folder, "mkfs.btrfs", 256 << 20);
        run(Command::new("btrfs").args(["quota", "enable"]).arg(&disk.0));
        run(Command::new("btrfs").args(["subvolume", "create"]).arg(disk.0.join("logs")));
        Some(Quota(disk))
    }

    fn limit(&self, bytes: &str) {
        run(Command::new("btrfs").args(["qgroup", "limit", bytes]).arg(self.0.0.join("logs")));
    }
}

fn run(command: &mut Command) {
    let done = command.output();
    assert!(done.is_ok_and(|it| it.status.success()), "this test needs {command:?} to work");
}

#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn cannot_set_quotas<T>() -> Option<T> {
    eprintln!("not run: this test sets a quota, and that needs btrfs-progs");
    None
}

/// Writes to the disk hang as long as this lives.
struct Frozen<'a>(&'a Loop, Child);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0.0).status();
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

/// An ordinary user is told which tests were not run; who runs everything runs as root.
#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
pub(crate) fn cannot_mount() -> bool {
    let cannot = !nix::unistd::geteuid().is_root();
    if cannot {
        eprintln!("not run: this test mounts a disk, and that needs root");
    }
    cannot
}

#[test]
fn while_a_disk_hangs_its_services_and_all_others_go_on() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Loop::new(&folder);
    let world = World::new();
    let mut hanging = plan(disk.0.join("api.log"));
    hanging.buffer = 400_000;
    let mut out = world.add("api", &hanging);
    let idle = world.add("idle", &plan(disk.0.join("idle.log")));
    let mut well = world.add("well", &plan(folder.path("well.log")));
    out.write_all(&lines(0..10)).unwrap();
    world.drain("api");
    world.drain("idle");
    let frozen = disk.freeze();
    let all = lines(10..50_000);
    write_aside(out.try_clone().unwrap(), all).recv_timeout(LIMIT).expect("the service goes on");
    world.drain("api");
    let lost = world.lost("api");
    assert!(lost > 30_000, "{lost}");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.contains("the disk has not answered for 2s"), "{problem}");
    // Others on the same disk, one that is new there, and one on another disk.
    (&idle).write_all(b"kept\n").unwrap();
    world.drain("idle");
    let mut new = world.add("new", &plan(disk.0.join("new.log")));
    new.write_all(b"kept, too\n").unwrap();
    world.drain("new");
    well.write_all(b"written\n").unwrap();
    world.drain("well");
    assert_eq!(folder.read("well.log"), "written\n");
    drop(frozen);
    wait_until("writing again", || world.logs.stats(&name("api")).problem.is_none());
    wait_until("idle, too", || folder.read("disk/idle.log") == "kept\n");
    wait_until("new, too", || folder.read("disk/new.log") == "kept, too\n");
    (&out).write_all(&lines(50_000..50_010)).unwrap();
    world.drain("api");
    let file = folder.read("disk/api.log");
    let lost = world.lost("api");
    let mark = format!("keepup: {lost} lines lost (the disk has not answered for 2s)\n");
    let (before, after) = file.split_once(&mark).expect("the mark");
    let kept = u32::try_from(50_000 - lost).unwrap();
    assert!(before.as_bytes() == lines(0..kept), "whole lines, in order, up to the gap");
    assert_eq!(after.as_bytes(), lines(50_000..50_010), "and those behind it");
    assert_eq!(world.lost("idle") + world.lost("new"), 0);
    world.finish();
}

#[test]
fn a_service_whose_lines_gathered_goes_on_while_its_disk_hangs() {
    if cannot_mount() {
        return;
    }
    for format in [LogFormat::Raw, LogFormat::Text] {
        let folder = Folder::new();
        let disk = Loop::new(&folder);
        let world = World::new();
        let plan = plan::Logs { format, ..plan(disk.0.join("api.log")) };
        let out = world.add("api", &plan);
        let (stop, trickle) = trickle(out.try_clone().unwrap());
        wait_until("some lines", || folder.read("disk/api.log").lines().count() > 50);
        let frozen = disk.freeze();
        wait_until("it is told", || !world.texts().is_empty());
        stop.send(()).unwrap();
        let count = trickle.join().unwrap();
        let more = lines(count..count + 5_000);
        write_aside(out, more).recv_timeout(LIMIT).expect("the service goes on");
        drop(frozen);
        wait_until("writing again", || world.logs.stats(&name("api")).problem.is_none());
        world.drain("api");
        let start = if format == LogFormat::Raw { 0 } else { 35 };
        let text = folder.read("disk/api.log");
        let shown: Vec<&str> = text.lines().map(|it| &it[start..]).collect();
        assert!((shown.join("\n") + "\n").as_bytes() == lines(0..count + 5_000));
        world.finish();
    }
}

#[test]
fn a_disk_that_hangs_from_the_start_and_to_the_end_holds_nobody_up() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Loop::new(&folder);
    let frozen = disk.freeze();
    let world = World::new();
    let out = world.add("api", &plan(disk.0.join("sub/api.log")));
    write_aside(out, lines(0..5_000)).recv_timeout(LIMIT).expect("the service goes on");
    world.drain("api");
    let tail = world.logs.tail(&name("api"), 1).unwrap();
    let start = Instant::now();
    world.logs.finish(Duration::from_millis(200));
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    drop(frozen);
    assert!(tail.read()[0].starts_with(b"line 0004999"));
    wait_until("what was kept", || folder.read("disk/sub/api.log").as_bytes() == lines(0..5_000));
}

#[test]
fn on_a_full_disk_the_service_goes_on_and_the_gap_is_marked_where_it_is() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Tmpfs::new(&folder, "256k");
    let world = World::new();
    let mut plan = plan(disk.0.join("api.log"));
    plan.buffer = 100_000;
    let out = world.add("api", &plan);
    let all = lines(0..50_000);
    let took = write_aside(out.try_clone().unwrap(), all).recv_timeout(LIMIT).unwrap();
    assert!(took < Duration::from_secs(20), "the service was held up for {took:?}");
    world.drain("api");
    let lost = world.lost("api");
    assert!(lost > 40_000, "{lost}");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    let path = plan.file.display();
    assert_eq!(
        problem,
        format!(
            "cannot write `{path}`: no space left on device; {lost} lines lost so far, retrying"
        )
    );
    disk.remount("size=10m");
    wait_until("writing again", || world.logs.stats(&name("api")).problem.is_none());
    (&out).write_all(&lines(50_000..50_010)).unwrap();
    world.drain("api");
    let file = folder.read("disk/api.log");
    let mark = format!("keepup: {lost} lines lost (no space left on device)\n");
    let (before, after) = file.split_once(&mark).expect("the mark");
    assert!(before.len() > 256_000 + 90_000, "disk and buffer were used: {}", before.len());
    let kept = u32::try_from(50_000 - lost).unwrap();
    assert!(before.as_bytes() == lines(0..kept), "whole lines, in order, up to the gap");
    assert_eq!(after.as_bytes(), lines(50_000..50_010), "and those behind it");
    let texts = world.texts();
    assert_eq!(texts.len(), 3, "began, lost, over: {texts:#?}");
    assert!(texts[0].ends_with("no space left on device; nothing is lost so far, retrying"));
    assert!(texts[2].starts_with(&format!("writing `{path}` again after ")), "{}", texts[2]);
    assert!(texts[2].ends_with(&format!(", {lost} lines lost")), "{}", texts[2]);
    world.finish();
}

#[test]
fn with_its_quota_used_up_the_service_goes_on_and_the_gap_is_marked_where_it_is() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let Some(quota) = Quota::new(&folder) else { return };
    quota.limit("1M");
    let world = World::new();
    let plan = plan::Logs { buffer: 100_000, ..plan(quota.0.0.join("logs/api.log")) };
    let out = world.add("api", &plan);
    let all = lines(0..50_000);
    write_aside(out.try_clone().unwrap(), all).recv_timeout(LIMIT).expect("the service goes on");
    world.drain("api");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.contains(": quota exceeded; "), "{problem}");
    assert!(world.lost("api") > 20_000, "{}", world.lost("api"));
    quota.limit("none");
    wait_until("writing again", || world.logs.stats(&name("api")).problem.is_none());
    (&out).write_all(&lines(50_000..50_010)).unwrap();
    world.drain("api");
    let (file, lost) = (folder.read("disk/logs/api.log"), world.lost("api"));
    let mark = format!("keepup: {lost} lines lost (quota exceeded)\n");
    let (before, after) = file.split_once(&mark).expect("the mark");
    let kept = u32::try_from(50_000 - lost).unwrap();
    assert!(before.as_bytes() == lines(0..kept), "whole lines, in order, up to the gap");
    assert_eq!(after.as_bytes(), lines(50_000..50_010), "and those behind it");
    world.finish();
}

#[test]
fn a_short_shortage_loses_nothing() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Tmpfs::new(&folder, "128k");
    let world = World::new();
    let out = world.add("api", &plan(disk.0.join("api.log")));
    let all = lines(0..10_000);
    write_aside(out, all.clone()).recv_timeout(LIMIT).unwrap();
    world.drain("api");
    assert!(world.logs.stats(&name("api")).problem.is_some());
    disk.remount("size=10m");
    wait_until("all of it", || folder.read("disk/api.log").as_bytes() == all);
    assert_eq!(world.lost("api"), 0);
    world.finish();
}

#[test]
fn what_a_full_disk_does_not_take_at_the_end_is_counted() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Tmpfs::new(&folder, "64k");
    let world = World::new();
    let mut plan = plan(disk.0.join("api.log"));
    plan.buffer = 100_000;
    let out = world.add("api", &plan);
    let all = [lines(0..5_000), b"no end".to_vec()].concat();
    write_aside(out, all).recv_timeout(LIMIT).unwrap();
    world.drain("api");
    assert!(world.lost("api") > 2000, "some are lost already");
    let told = std::sync::Arc::clone(&world.told);
    world.finish();
    let whole = folder.read("disk/api.log").bytes().filter(|&it| it == b'\n').count() as u64;
    let told = told.lock().unwrap();
    let last = told.last().unwrap();
    assert_eq!(last.lines_lost, 5001 - whole);
    assert!(last.text.ends_with(&format!("; {} lines lost in the end", 5001 - whole)), "{last:?}");
}

#[test]
fn a_disk_that_holds_no_more_than_the_rotated_files_is_enough() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Loop::new(&folder);
    let world = World::new();
    let mut plan = plan(disk.0.join("api.log"));
    (plan.max_size, plan.keep) = (8_000_000, 5);
    let out = world.add("api", &plan);
    let all = lines(0..2_000_000);
    write_aside(out, all.clone()).recv_timeout(LIMIT).unwrap();
    world.drain("api");
    assert_eq!(world.lost("api"), 0, "{:?}", world.texts());
    let kept: Vec<u8> =
        ["api.log.5", "api.log.4", "api.log.3", "api.log.2", "api.log.1", "api.log"]
            .iter()
            .flat_map(|it| fs::read(disk.0.join(it)).unwrap())
            .collect();
    assert!(kept.len() > 40_000_000 && all.ends_with(&kept));
    world.finish();
}

#[test]
fn a_read_only_disk_is_waited_for() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    let disk = Tmpfs::new(&folder, "1m");
    disk.remount("ro");
    let world = World::new();
    let mut out = world.add("api", &plan(disk.0.join("new/api.log")));
    out.write_all(b"line\n").unwrap();
    world.drain("api");
    let (problem, _) = world.logs.stats(&name("api")).problem.unwrap();
    assert!(problem.contains("read-only file system; nothing is lost so far"), "{problem}");
    disk.remount("rw");
    wait_until("the line", || folder.read("disk/new/api.log") == "line\n");
    world.finish();
}

#[test]
fn a_service_that_must_lose_nothing_is_held_until_its_log_can_be_written() {
    if cannot_mount() {
        return;
    }
    for format in [LogFormat::Raw, LogFormat::Text] {
        let folder = Folder::new();
        fs::write(folder.path("in"), "in the way").unwrap();
        let world = World::new();
        let (file, overflow) = (folder.path("in/api.log"), Overflow::Block);
        let plan = plan::Logs { overflow, format, buffer: 1000, ..plan(file) };
        let out = world.add("api", &plan);
        let written = lines(0..40_000);
        let done = write_aside(out, written.clone());
        wait_until("it is told", || !world.texts().is_empty());
        let early = done.recv_timeout(Duration::from_millis(300));
        assert!(early.is_err(), "the writer was not held");
        fs::remove_file(folder.path("in")).unwrap();
        done.recv_timeout(LIMIT).expect("the writer goes on");
        world.drain("api");
        assert_eq!(world.lost("api"), 0);
        let text = folder.read("in/api.log");
        let start = if format == LogFormat::Raw { 0 } else { 35 };
        let shown: Vec<&str> = text.lines().map(|it| &it[start..]).collect();
        assert!(shown.join("\n") + "\n" == String::from_utf8(written).unwrap());
        world.finish();
    }
}

#[test]
fn a_service_that_must_lose_nothing_is_held_while_its_disk_hangs() {
    if cannot_mount() {
        return;
    }
    for format in [LogFormat::Raw, LogFormat::Text] {
        let folder = Folder::new();
        let disk = Loop::new(&folder);
        let world = World::new();
        let (file, overflow) = (disk.0.join("api.log"), Overflow::Block);
        let out = world.add("api", &plan::Logs { overflow, format, buffer: 1000, ..plan(file) });
        (&out).write_all(&lines(0..10)).unwrap();
        world.drain("api");
        let frozen = disk.freeze();
        let done = write_aside(out, lines(10..50_000));
        wait_until("it is told", || !world.texts().is_empty());
        let early = done.recv_timeout(Duration::from_millis(300));
        assert!(early.is_err(), "the writer was not held");
        drop(frozen);
        done.recv_timeout(LIMIT).expect("the writer goes on");
        world.drain("api");
        assert_eq!(world.lost("api"), 0);
        wait_until("all is well", || world.logs.stats(&name("api")).problem.is_none());
        let start = if format == LogFormat::Raw { 0 } else { 35 };
        let text = folder.read("disk/api.log");
        let shown: Vec<&str> = text.lines().map(|it| &it[start..]).collect();
        assert!((shown.join("\n") + "\n").as_bytes() == lines(0..50_000));
        world.finish();
    }
}

#[test]
fn what_a_held_service_wrote_is_counted_when_keepup_ends_before_it_can_be_written() {
    if cannot_mount() {
        return;
    }
    let folder = Folder::new();
    fs::write(folder.path("in"), "in the way").unwrap();
    let world = World::new();
    let (file, overflow) = (folder.path("in/api.log"), Overflow::Block);
    let mut out = world.add("api", &plan::Logs { overflow, ..plan(file) });
    out.write_all(&lines(0..100)).unwrap();
    wait_until("it is told", || !world.texts().is_empty());
    assert_eq!(world.lost("api"), 0);
    world.logs.finish(LIMIT);
    assert_eq!(world.lost("api"), 100);
}
