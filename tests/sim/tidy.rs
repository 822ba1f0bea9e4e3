//! What the compiler does not refuse: the core touches nothing of the world, and files stay short.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates and parts of `std` that reach outside.
const OUTSIDE: [&str; 15] = [
    "tokio",
    "nix",
    "serde",
    "tracing",
    "libc",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "std::io",
    "std::os",
    "Instant",
    "SystemTime",
    "println!",
];

/// A word of it alone: an address is a plain value.
const ALLOWED: &str = "std::net::SocketAddr";

const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Lines of code (no comments) in which one of the words stands by itself, with file and number.
fn lines_with<'a>(path: &Path, text: &'a str, words: &'a [&str]) -> Vec<String> {
    let is_part = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let stands = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + word.len()..]);
            !is_part(before.chars().next_back()) && !is_part(after.chars().next())
        })
    };
    let mut found = Vec::new();
    for (nth, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap().replace(ALLOWED, "");
        for word in words.iter().filter(|word| stands(&code, word)) {
            found.push(format!("{}:{}: `{word}`: {}", path.display(), nth + 1, line.trim()));
        }
    }
    found
}

#[test]
fn the_core_touches_nothing_of_the_world() {
    let mut files = vec![root().join("src/plan.rs")];
    rust_files(&root().join("src/plan"), &mut files);
    rust_files(&root().join("src/core"), &mut files);
    assert!(files.len() > 7, "there is no core");
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| lines_with(path, &fs::read_to_string(path).unwrap(), &OUTSIDE))
        .collect();
    assert!(found.is_empty(), "the core reaches outside:\n{}", found.join("\n"));
}

#[test]
fn what_reaches_outside_is_found() {
    let text = "use std::net::SocketAddr;\n// std::fs is for others\nlet x = std::env::var(\"X\");\n\
                let now = Instant::now();\nlet instantly = Instants;\n";
    let found = lines_with(Path::new("x.rs"), text, &OUTSIDE);
    assert_eq!(
        found,
        [
            "x.rs:3: `std::env`: let x = std::env::var(\"X\");",
            "x.rs:4: `Instant`: let now = Instant::now();"
        ]
    );
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let long: Vec<String> = files
        .iter()
        .map(|path| (path, fs::read_to_string(path).unwrap().lines().count()))
        .filter(|it| it.1 > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines, {LINES_MAX} at most", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
