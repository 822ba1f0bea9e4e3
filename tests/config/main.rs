//! Files and what keepup says about them: `valid/*.toml` gives a plan (with the warnings in
//! `NAME.warn`, if any), `invalid/*.toml` the message in `NAME.err`, to the letter.
//!
//! `UPDATE=1 cargo test --test config` writes the messages anew; read each one before you keep it.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

mod accepted;
mod check;
mod junk;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use keepup::config::{self, Files, Problem, Surroundings};

/// What the fixtures' `${…}` refer to.
fn surroundings() -> Surroundings {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let env = [
        ("API_KEY", "k-123"),
        ("API_PORT", "8000"),
        ("BAD_TIMEOUT", "soon"),
        ("HOME", "/root"),
        ("NUL", "a\0b"),
    ];
    Surroundings { env: env.map(own).into(), root: true, ..Surroundings::default() }
}

/// Files outside of the fixtures' folder; the fixtures see no others of the disk.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let secret = (PathBuf::from("/run/secrets/token"), "t-456\n".to_owned());
    let mut files = BTreeMap::from([secret]);
    for inside in ["", "services", "broken"] {
        let folder = folder.join(inside);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|it| it == "toml" || it == "pem") {
                // The fixtures live in /etc/keepup, wherever they are.
                let name = path.file_name().unwrap();
                let path_inside = Path::new("/etc/keepup").join(inside).join(name);
                files.insert(path_inside, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind)
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn read(fixture: &Path) -> Result<config::Checked, config::Problems> {
    let text = fs::read_to_string(fixture).unwrap();
    let path = Path::new("/etc/keepup").join(fixture.file_name().unwrap());
    let files = files(fixture.parent().unwrap());
    config::read(&text, &path, &surroundings(), Files::Given(&files))
}

/// The text without the folder that every place of it begins with.
fn shortened(text: &str) -> String {
    format!("{}\n", text.replace("/etc/keepup/", ""))
}

/// Compares with the file, or writes it.
fn compare(file: &Path, said: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some() {
        if said.is_empty() {
            drop(fs::remove_file(file));
        } else {
            fs::write(file, said).unwrap();
        }
        return;
    }
    let wanted = fs::read_to_string(file).unwrap_or_default();
    if wanted != said {
        wrong.push(format!("{}\n--- wanted\n{wanted}--- said\n{said}", file.display()));
    }
}

#[test]
fn invalid_files_give_their_messages() {
    let mut wrong = Vec::new();
    for fixture in fixtures("invalid") {
        match read(&fixture) {
            Ok(_) => wrong.push(format!("{} is accepted", fixture.display())),
            Err(problems) => {
                let said = shortened(&problems.to_string());
                compare(&fixture.with_extension("err"), &said, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_files_are_accepted() {
    let mut wrong = Vec::new();
    for fixture in fixtures("valid") {
        match read(&fixture) {
            Ok(checked) => {
                let warnings: Vec<String> =
                    checked.warnings.iter().map(Problem::to_string).collect();
                let said = if warnings.is_empty() {
                    String::new()
                } else {
                    shortened(&warnings.join("\n\n"))
                };
                compare(&fixture.with_extension("warn"), &said, &mut wrong);
            }
            Err(problems) => wrong.push(format!("{}\n{problems}", fixture.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_is_left_without_its_file() {
    for kind in ["valid", "invalid"] {
        for entry in fs::read_dir(folder(kind)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "err" || it == "warn") {
                assert!(path.with_extension("toml").exists(), "{}", path.display());
            }
        }
    }
}
