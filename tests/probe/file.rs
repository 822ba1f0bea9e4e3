//! `file`: real files, and what is said of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use keepup::core::event::{Event, Ticket};
use keepup::plan::{FileProbe, Name, ProbeKind, Scalar};
use keepup::probe::Prober;
use nix::sys::stat::Mode;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::world::{LIMIT, SHORT, ask, probe, run, told};

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keepup-file-{}-{nth}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.join("metrics.json");
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bare(path: &Path) -> FileProbe {
    let path = path.to_owned();
    FileProbe { path, json: vec![], json_max: vec![], json_age: vec![], max_age: None }
}

async fn asked(probe: FileProbe) -> String {
    told(ask(ProbeKind::File(Box::new(probe)), LIMIT).await)
}

fn wants_ok(path: &Path) -> FileProbe {
    FileProbe { json: vec![("status".to_owned(), Scalar::Text("ok".to_owned()))], ..bare(path) }
}

#[test]
fn a_file_with_nothing_wanted_must_be_there() {
    run(async {
        let folder = Folder::new();
        let path = folder.0.join("metrics.json");
        let shown = path.display();
        assert_eq!(asked(bare(&path)).await, format!("other: {shown} does not exist"));
        folder.file("");
        assert_eq!(asked(bare(&path)).await, "pass");
        let folder_shown = folder.0.display();
        assert_eq!(asked(bare(&folder.0)).await, format!("other: {folder_shown} is a directory"));
    });
}

#[test]
fn what_the_json_says_is_judged() {
    run(async {
        let folder = Folder::new();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let text = |status: &str, failures: u32, age: u64| {
            let last = now - age;
            format!(r#"{{"status": "{status}", "n": {{"failures": {failures}}}, "last": {last}}}"#)
        };
        let wants = |path: &Path| FileProbe {
            json_max: vec![("n.failures".to_owned(), 4.0)],
            json_age: vec![("last".to_owned(), Duration::from_secs(120))],
            ..wants_ok(path)
        };
        let path = folder.file(&text("ok", 4, 60));
        assert_eq!(asked(wants(&path)).await, "pass");
        folder.file(&text("degraded", 4, 60));
        assert_eq!(asked(wants(&path)).await, "body: status is \"degraded\", wanted \"ok\"");
        folder.file(&text("ok", 5, 60));
        assert_eq!(asked(wants(&path)).await, "body: n.failures is 5, wanted at most 4");
        folder.file(&text("ok", 4, 3600));
        let stale = asked(wants(&path)).await;
        assert!(stale.starts_with("stale: last is 1h"), "{stale}");
        assert!(stale.ends_with(" old, wanted at most 2m"), "{stale}");
        folder.file("{}");
        assert_eq!(asked(wants(&path)).await, "body: no field status in the file");
        folder.file("");
        assert_eq!(asked(wants(&path)).await, "body: not JSON: the file is empty");
        folder.file("{\"status\": \"o");
        let cut = asked(wants(&path)).await;
        assert!(cut.starts_with("body: not JSON: EOF while parsing a string"), "{cut}");
        folder.file(&format!("\"{}\"", "x".repeat(2 << 20)));
        let large = format!("other: {} is larger than 1 MiB", path.display());
        assert_eq!(asked(wants(&path)).await, large);
        fs::write(&path, b"\xff\xfe\0").unwrap();
        assert!(asked(wants(&path)).await.starts_with("body: not JSON: "));
    });
}

#[test]
fn a_file_in_the_middle_of_being_written_is_read_again() {
    run(async {
        let folder = Folder::new();
        let path = folder.file("{\"status\":");
        let whole = path.clone();
        let question = tokio::spawn(asked(wants_ok(&path)));
        sleep(Duration::from_millis(10)).await;
        fs::write(whole, "{\"status\": \"ok\"}").unwrap();
        assert_eq!(question.await.unwrap(), "pass");
    });
}

#[test]
fn a_fifo_and_a_device_hold_up_nobody() {
    run(async {
        let folder = Folder::new();
        let fifo = folder.0.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            let wanted = format!("other: {} is not a regular file", path.display());
            assert_eq!(asked(wants_ok(path)).await, wanted);
            assert_eq!(asked(bare(path)).await, wanted);
        }
    });
}

#[test]
fn a_file_is_stale_when_it_was_not_seen_to_change() {
    run(async {
        let folder = Folder::new();
        let path = folder.file("1");
        // A file of the last century is fresh when it is seen for the first time, and then ages.
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        fs::File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        let kind = FileProbe { max_age: Some(SHORT), ..bare(&path) };
        let question = probe(ProbeKind::File(Box::new(kind)), LIMIT);
        let (sender, mut answers) = mpsc::channel(1);
        let mut prober = Prober::new(sender);
        let name = Name::from("api");
        let mut next = async |prober: &mut Prober| {
            prober.ask(&name, Ticket(1), &question, None);
            let Some(Event::Probed { answer, .. }) = answers.recv().await else { panic!() };
            told(answer)
        };
        assert_eq!(next(&mut prober).await, "pass");
        let until = Instant::now() + LIMIT / 2;
        let stale = loop {
            let told = next(&mut prober).await;
            if told != "pass" {
                break told;
            }
            assert!(Instant::now() < until, "it never ages");
            sleep(SHORT / 10).await;
        };
        let begin = format!("stale: {} has not changed for ", path.display());
        assert!(stale.starts_with(&begin), "{stale}");
        assert!(stale.ends_with("ms, wanted at most 100ms"), "{stale}");
        // The same content, written anew, is a change.
        folder.file("1");
        assert_eq!(next(&mut prober).await, "pass");
    });
}
