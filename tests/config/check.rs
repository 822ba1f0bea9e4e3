//! What `keepup check` and `keepup init` print.

use std::path::{Path, PathBuf};

use keepup::cli::{check, init};

use crate::{compare, folder, surroundings};

/// The exit code, and what was printed; the fixtures' folder is left out.
fn checked(path: &Path) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check::run(path, &surroundings(), &mut out, &mut err);
    let parent = path.parent().unwrap().display().to_string();
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace(&format!("{parent}/"), "").replace(&format!(" {parent}\n"), " FOLDER\n")
    };
    (code, text(out), text(err))
}

#[test]
fn a_plan_is_shown_with_its_schedule() {
    let (code, out, err) = checked(&folder("valid").join("schedule.toml"));
    assert_eq!((code, err.as_str()), (0, ""));
    let mut wrong = Vec::new();
    compare(&folder("valid").join("schedule.out"), &out, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn problems_go_to_stderr_with_code_3() {
    let (code, out, err) = checked(&folder("invalid").join("unknown_key.toml"));
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("unknown_key.toml:3:1: unknown key"), "{err}");
    assert!(err.ends_with("\nunknown_key.toml: 3 problems\n"), "{err}");
    let (code, out, err) = checked(Path::new("/no/such.toml"));
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("cannot read"), "{err}");
}

#[test]
fn a_warning_does_not_change_the_code() {
    let (code, out, err) = checked(&folder("valid").join("warn_autostart.toml"));
    assert_eq!(code, 0);
    assert!(out.contains("2 services"), "{out}");
    assert!(err.contains(": warning: waits for `db`"), "{err}");
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_overwrites() {
    let name = format!("keepup-init-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder.0).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(init::run(&folder.0, &mut out, &mut err), 0);
    let path = folder.0.join("supervisor.toml");
    let (code, _, said) = checked(&path);
    assert_eq!((code, said.as_str()), (0, ""));
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(init::run(&folder.0, &mut out, &mut err), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert!(String::from_utf8(err).unwrap().contains("it exists already"));
}
