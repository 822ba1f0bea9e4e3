//! Looks at real files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use keepup::core::event::{Event, Sight, Ticket};
use keepup::plan::Name;
use keepup::probe::heartbeat::Looker;
use nix::sys::stat::Mode;
use tokio::sync::mpsc;

use crate::world::run;

/// A folder of one test, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("keepup-probe-{name}-{}-{nth}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Watch {
    looker: Looker,
    answers: mpsc::Receiver<Event>,
    name: Name,
    file: PathBuf,
    tickets: u64,
}

impl Watch {
    fn new(file: &Path) -> Watch {
        let (sender, answers) = mpsc::channel(4);
        let (looker, file) = (Looker::new(sender), file.to_owned());
        Watch { looker, answers, name: Name::from("api"), file, tickets: 0 }
    }

    /// A run begins. The look makes sure that the file has been seen, however slow the machine is.
    async fn baseline(&mut self) -> Sight {
        self.looker.baseline(&self.name, &self.file);
        let sight = self.look().await;
        assert_ne!(sight, Sight::Beat, "what was there before the run is no beat of it");
        sight
    }

    async fn look(&mut self) -> Sight {
        self.tickets += 1;
        self.looker.look(&self.name, Ticket(self.tickets), &self.file);
        match self.answers.recv().await {
            Some(Event::Looked { name, ticket, sight }) => {
                assert_eq!((name, ticket), (self.name.clone(), Ticket(self.tickets)));
                sight
            }
            other => panic!("{other:?}"),
        }
    }

    /// Does something to the file until its times differ: the kernel's clock for files ticks only
    /// every few milliseconds.
    async fn beat(&mut self, act: impl Fn(&Path)) -> Sight {
        for _ in 0..1000 {
            act(&self.file);
            let sight = self.look().await;
            if sight != Sight::Still {
                return sight;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        Sight::Still
    }

    fn nothing(&self, why: &str) -> Sight {
        Sight::Nothing(format!("{}{why}", self.file.display()))
    }
}

fn touch(file: &Path) {
    File::options()
        .append(true)
        .open(file)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
}

#[test]
fn a_change_is_a_beat_and_nothing_else_is() {
    let folder = Folder::new("beats");
    run(async {
        let mut watch = Watch::new(&folder.path("heartbeat"));
        fs::write(&watch.file, "1").unwrap();
        watch.baseline().await;
        assert_eq!(watch.look().await, Sight::Still, "a stale file of an earlier run");
        assert_eq!(watch.beat(touch).await, Sight::Beat);
        assert_eq!(watch.look().await, Sight::Still);
        assert_eq!(watch.beat(|it| fs::write(it, "2").unwrap()).await, Sight::Beat);
        fs::read(&watch.file).unwrap();
        assert_eq!(watch.look().await, Sight::Still, "reading is no beat");
        fs::write(watch.file.with_extension("new"), "3").unwrap();
        fs::rename(watch.file.with_extension("new"), &watch.file).unwrap();
        assert_eq!(watch.look().await, Sight::Beat, "renamed over");
        fs::write(&watch.file, "longer").unwrap();
        assert_eq!(watch.look().await, Sight::Beat, "a change of size alone");
        assert_eq!(watch.looker.threads(), 1);
    });
}

#[test]
fn a_time_in_the_past_or_future_is_a_beat_like_any_other() {
    let folder = Folder::new("clock");
    run(async {
        let mut watch = Watch::new(&folder.path("heartbeat"));
        fs::write(&watch.file, "1").unwrap();
        watch.baseline().await;
        for seconds in [4_000_000_000, 1, 0, 1_000_000_000] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().append(true).open(&watch.file).unwrap().set_modified(time).unwrap();
            assert_eq!(watch.look().await, Sight::Beat, "{seconds}");
        }
    });
}

#[test]
fn a_file_that_appears_is_a_beat_and_one_that_is_gone_is_told() {
    let folder = Folder::new("gone");
    run(async {
        let mut watch = Watch::new(&folder.path("heartbeat"));
        watch.baseline().await;
        let missing = watch.nothing(" does not exist");
        assert_eq!(watch.look().await, missing);
        fs::write(&watch.file, "1").unwrap();
        assert_eq!(watch.look().await, Sight::Beat);
        fs::remove_file(&watch.file).unwrap();
        assert_eq!(watch.look().await, missing);
        assert_eq!(watch.beat(|it| fs::write(it, "1").unwrap()).await, Sight::Beat);
        let aside = watch.file.with_extension("aside");
        fs::rename(&watch.file, &aside).unwrap();
        watch.baseline().await;
        fs::rename(&aside, &watch.file).unwrap();
        assert_eq!(watch.look().await, Sight::Beat, "missing at the baseline");
    });
}

#[test]
fn every_run_begins_anew() {
    let folder = Folder::new("runs");
    run(async {
        let mut watch = Watch::new(&folder.path("heartbeat"));
        fs::write(&watch.file, "1").unwrap();
        assert_eq!(watch.look().await, Sight::Still, "without a baseline the first look is it");
        fs::write(&watch.file, "the last of the old run").unwrap();
        watch.baseline().await;
        assert_eq!(watch.look().await, Sight::Still);
        watch.file = folder.path("other");
        assert_eq!(watch.look().await, watch.nothing(" does not exist"));
        let name = watch.name.clone();
        watch.looker.forget(&name);
        fs::write(&watch.file, "1").unwrap();
        assert_eq!(watch.look().await, Sight::Still);
    });
}

#[test]
fn what_is_no_file_is_told_and_never_opened() {
    let folder = Folder::new("kinds");
    run(async {
        let mut watch = Watch::new(&folder.path("heartbeat"));
        watch.baseline().await;
        fs::create_dir(&watch.file).unwrap();
        assert_eq!(watch.look().await, watch.nothing(" is a directory"));
        fs::remove_dir(&watch.file).unwrap();
        nix::unistd::mkfifo(&watch.file, Mode::S_IRWXU).unwrap();
        assert_eq!(watch.look().await, watch.nothing(" is not a regular file"));
        fs::remove_file(&watch.file).unwrap();
        std::os::unix::fs::symlink("nowhere", &watch.file).unwrap();
        assert_eq!(watch.look().await, watch.nothing(" does not exist"));
        fs::remove_file(&watch.file).unwrap();
        watch.file = folder.path("file/heartbeat");
        fs::write(folder.path("file"), "").unwrap();
        assert_eq!(watch.look().await, watch.nothing(": not a directory"));
    });
}

#[test]
fn a_file_that_may_not_be_seen_says_so() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = Folder::new("rights");
    run(async {
        let inner = folder.path("inner");
        fs::create_dir(&inner).unwrap();
        let mut watch = Watch::new(&inner.join("heartbeat"));
        fs::set_permissions(&inner, Permissions::from_mode(0o0)).unwrap();
        let sight = watch.look().await;
        fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(sight, watch.nothing(": permission denied"));
    });
}

#[test]
fn no_thread_exists_without_a_file() {
    let (sender, _answers) = mpsc::channel(1);
    assert_eq!(Looker::new(sender).threads(), 0);
}
