//! What one keepup leaves to the next.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::channel;
use std::time::Duration;

use keepup::os::state::{Saved, SavedProcess, SavedRun, SavedService, Writer, load};
use keepup::os::{clock, leftover};

use crate::common::{alone, folder, state, until};

const LIMIT: Duration = Duration::from_secs(10);

fn saved() -> Saved {
    let mut saved = Saved::new();
    let service = SavedService { want_down: true, failures: 3, restarts: vec![1.5, 2.25] };
    saved.services.insert("api".into(), service);
    saved.runs = vec![SavedRun { service: "api".into(), pid: 7, start_time: 8, pgid: 7 }];
    saved
}

#[test]
fn a_state_survives_and_the_newest_wins() {
    let folder = folder();
    assert_eq!(load(&folder), keepup::os::state::Loaded::default());
    let writer = Writer::new(&folder, |text| panic!("{text}")).unwrap();
    for failures in 0..200 {
        let mut state = saved();
        state.services.get_mut("api").unwrap().failures = failures;
        writer.save(state);
    }
    assert!(writer.finish(LIMIT));
    let loaded = load(&folder);
    assert_eq!(loaded.warnings, [""; 0]);
    let loaded = loaded.saved.unwrap();
    assert!(loaded.is_of_this_boot());
    assert_eq!(loaded.services["api"].failures, 199);
    assert_eq!(loaded.runs, saved().runs);
    assert!(!folder.join("state.json.new").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_corrupt_file_is_set_aside_and_their_count_is_bounded() {
    let folder = folder();
    for count in 1..9 {
        let text = if count == 1 { r#"{"version": 99}"# } else { "{\"version\": 1, \"ru" };
        std::fs::write(folder.join("state.json"), text).unwrap();
        let loaded = load(&folder);
        assert_eq!(loaded.saved, None);
        let aside = format!("state.json.corrupt-{}", count.min(5));
        assert!(loaded.warnings[0].contains(&aside), "{:?}", loaded.warnings);
        assert!(!folder.join("state.json").exists());
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 5);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_told_once() {
    let (sender, texts) = channel();
    let tell = move |text| sender.send(text).unwrap();
    let writer = Writer::new("/no/such/folder".as_ref(), tell).unwrap();
    writer.save(saved());
    let text = texts.recv_timeout(LIMIT).unwrap();
    assert!(text.starts_with("cannot write `/no/such/folder/state.json`: No such"), "{text}");
    writer.save(saved());
    assert!(writer.finish(LIMIT));
    assert_eq!(texts.try_iter().count(), 0);
}

/// A process marked like a run of some keepup.
fn left(mark: &str) -> Child {
    let mut command = Command::new("sleep");
    command.arg("999").process_group(0).env("KEEPUP_RUN", mark).spawn().unwrap()
}

fn start_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
}

/// An earlier keepup of this boot that is none: its start time is of nobody.
fn earlier() -> (Saved, String) {
    let mut saved = Saved::new();
    saved.keepup = SavedProcess { pid: 4_000_000, start_time: u64::from(std::process::id()) };
    let mark = format!("{}-4000000-{}/api/1", saved.pid_namespace, std::process::id());
    (saved, mark)
}

fn run_of(pid: i32, start_time: u64) -> SavedRun {
    SavedRun { service: "api".into(), pid, start_time, pgid: pid }
}

alone! {
    async fn a_run_is_ended_with_its_group_and_a_stranger_with_its_number_is_not() {
        let (mut saved, _) = earlier();
        let mut run = Command::new("sh");
        let mut run = run.args(["-c", "sleep 999 & wait"]).process_group(0).spawn().unwrap();
        let mut stranger = Command::new("sleep").arg("999").process_group(0).spawn().unwrap();
        let (pid, other) = (run.id().cast_signed(), stranger.id().cast_signed());
        saved.runs = vec![run_of(pid, start_time(pid)), run_of(other, start_time(other) + 1)];
        let mut elsewhere = saved.clone();
        elsewhere.boot_id = "another".into();
        assert_eq!(leftover::end(&elsewhere, LIMIT), leftover::Outcome::default());
        assert!(state(pid).is_some_and(|it| it != 'Z'));

        let leftover::Outcome { texts, alive } = leftover::end(&saved, LIMIT);
        let wanted = format!("ended process {pid} of service `api`, left by an earlier keepup");
        assert_eq!((texts, alive.len()), (vec![wanted], 0));
        run.wait().unwrap();
        assert_eq!(stranger.try_wait().unwrap(), None);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

alone! {
    async fn what_bears_the_mark_is_ended_though_its_leader_is_gone() {
        let (mut saved, mark) = earlier();
        let mut marked = left(&mark);
        let mut unmarked = left("another/api/1");
        saved.runs = vec![run_of(4_000_001, 1)];
        let began = clock::now();
        // It was started, but its program may not run yet.
        let environ = format!("/proc/{}/environ", marked.id());
        until(|| std::fs::read_to_string(&environ).is_ok_and(|it| it.contains(&mark))).await;
        let leftover::Outcome { texts, alive } = leftover::end(&saved, LIMIT);
        assert!(clock::now() - began < LIMIT);
        let pid = marked.id();
        let wanted = format!("ended process {pid} of service `api`, left by an earlier keepup");
        assert_eq!((texts, alive.len()), (vec![wanted], 0));
        marked.wait().unwrap();
        assert_eq!(unmarked.try_wait().unwrap(), None);
        unmarked.kill().unwrap();
        unmarked.wait().unwrap();
    }
}
