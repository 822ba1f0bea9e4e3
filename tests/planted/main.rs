//! A check of the tests: bugs are planted into a copy of the core, one at a time, and `tests/sim` must
//! find each of them. A bug that survives is a story that is missing.
//!
//! `cargo test --test planted -- --ignored --nocapture`: some minutes.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::print_stdout, reason = "who found what is for people")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod bugs;

use bugs::{BUGS, Bug};

/// The core needs `std` alone, so the copy is built without all the rest.
const MANIFEST: &str = r#"[package]
name = "keepup"
version = "0.0.0"
edition = "2024"
autobins = false

[lib]
path = "src/core_alone.rs"

[profile.dev]
debug = false

[workspace]
"#;

const LIB: &str = "pub mod core;\npub mod plan;\n";

/// How the tests went.
#[derive(Debug, PartialEq)]
enum Outcome {
    Green,
    /// It did not compile, or hung.
    Broken(String),
    /// These failed.
    Red(Vec<String>),
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source(file: &str) -> String {
    fs::read_to_string(root().join("src").join(file)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::write(copied, fs::read(path).unwrap()).unwrap();
        }
    }
}

/// A fresh copy of what the tests need.
fn tree() -> PathBuf {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let _ = fs::remove_dir_all(&tree);
    copy(&root().join("src"), &tree.join("src"));
    copy(&root().join("tests/sim"), &tree.join("tests/sim"));
    fs::write(tree.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(tree.join("src/core_alone.rs"), LIB).unwrap();
    tree
}

/// Runs the tests of the copy whose names contain none of `skip`.
fn run(tree: &Path, skip: &[&str]) -> Outcome {
    let mut command = Command::new("timeout");
    command.args(["300", env!("CARGO"), "test", "--offline", "--quiet", "--test", "sim", "--"]);
    command.args(skip.iter().flat_map(|it| ["--skip", it]));
    command.current_dir(tree).env("CARGO_TARGET_DIR", tree.with_file_name("planted-target"));
    command.env("RUST_BACKTRACE", "0").env("SEEDS", "300");
    let output = command.output().unwrap();
    if output.status.success() {
        return Outcome::Green;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let heard =
        |line: &str| Some(line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?.to_owned());
    let mut failed: Vec<String> = text.lines().filter_map(heard).collect();
    failed.sort();
    if failed.is_empty() {
        return Outcome::Broken(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Outcome::Red(failed)
}

fn planted(bug: &Bug) -> String {
    let text = source(bug.file);
    let count = text.matches(bug.old).count();
    assert_eq!(count, 1, "{}: its old text stands {count} times in {}", bug.name, bug.file);
    text.replace(bug.old, bug.new)
}

/// What the tests make of a bug; the quick ones first, and all only if those see nothing.
fn hunt(tree: &Path, bug: &Bug) -> Outcome {
    let file = tree.join("src").join(bug.file);
    fs::write(&file, planted(bug)).unwrap();
    let mut outcome = run(tree, &["chaos::", "every::", "table::", "tidy::"]);
    if outcome == Outcome::Green {
        outcome = run(tree, &[]);
    }
    fs::write(&file, source(bug.file)).unwrap();
    outcome
}

#[test]
fn every_bug_can_be_planted_in_exactly_one_place() {
    assert!(BUGS.len() >= 20);
    for (nth, bug) in BUGS.iter().enumerate() {
        assert_ne!(planted(bug), source(bug.file), "{}: it changes nothing", bug.name);
        assert!(!BUGS[..nth].iter().any(|it| it.name == bug.name), "{} twice", bug.name);
    }
}

#[test]
#[ignore = "some minutes; run it with --ignored"]
fn every_planted_bug_is_found() {
    let tree = tree();
    assert_eq!(run(&tree, &[]), Outcome::Green, "the unchanged copy is not green");
    let wanted = std::env::var("BUG").unwrap_or_default();
    let mut survivors = Vec::new();
    for bug in BUGS.iter().filter(|it| it.name.contains(&wanted)) {
        match hunt(&tree, bug) {
            Outcome::Red(tests) => {
                let others = tests.len() - 1;
                println!("found     {} by {} and {others} more", bug.name, tests[0]);
            }
            Outcome::Green => {
                println!("SURVIVES  {}", bug.name);
                survivors.push(bug.name);
            }
            Outcome::Broken(why) => panic!("{}: cannot be tested: {why}", bug.name),
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:#?}");
}
