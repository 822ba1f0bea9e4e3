//! Whatever comes in, a message or a plan comes out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keepup::config::{self, CommandLine, Files};

use crate::{fixtures, surroundings};

/// A small generator, so that a seed is a world (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from(self.roll() % end).unwrap()
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

/// Reads it, and prints what is said: both must end.
fn survive(text: &str) {
    let files = BTreeMap::new();
    let path = Path::new("/etc/keepup/supervisor.toml");
    match config::read(text, path, &surroundings(), Files::Given(&files)) {
        Ok(checked) => drop(format!("{checked:?}")),
        Err(problems) => {
            assert!(!problems.list.is_empty(), "refused without a word: {text}");
            assert!(!problems.to_string().is_empty());
        }
    }
}

const BITS: [&str; 60] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\n",
    "\n",
    " ",
    "\t",
    "\"",
    "'",
    "\"\"\"",
    "#",
    "\\",
    "\\u0000",
    "${",
    "${A}",
    "${A:-b}",
    "${file:x}",
    "$${",
    "\r\n",
    "\u{feff}",
    "ä",
    "\u{202e}",
    "\0",
    "service",
    "defaults",
    "supervisor",
    "alert",
    "include",
    "api",
    "restart",
    "liveness",
    "logs",
    "heartbeat",
    "env",
    "command",
    "policy",
    "\"on-failure:3\"",
    "http",
    "\"http://[::1]:1/\"",
    "\"unix:/a:/b\"",
    "interval",
    "\"1m 30s\"",
    "\"99999999999999d\"",
    "status",
    "\"200-399\"",
    "after",
    "umask",
    "-1",
    "1e999",
    "nan",
    "0x7fffffffffffffff",
    "true",
    "1979-05-27",
];

#[test]
fn random_bits_of_toml_never_panic() {
    let mut dice = Dice(1);
    for _ in 0..4000 {
        let length = dice.below(60);
        let text: String = (0..length).map(|_| dice.pick(&BITS)).collect();
        survive(&text);
    }
}

#[test]
fn good_files_with_a_bad_spot_never_panic() {
    let mut dice = Dice(2);
    let mut texts = Vec::new();
    for kind in ["valid", "invalid"] {
        texts.extend(fixtures(kind).iter().map(|path| fs::read_to_string(path).unwrap()));
    }
    for _ in 0..3000 {
        let text = &texts[dice.below(texts.len())];
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..=dice.below(3) {
            let at = dice.below(characters.len());
            let end = (at + dice.below(8)).min(characters.len());
            let bit: Vec<char> = dice.pick(&BITS).chars().collect();
            characters.splice(at..end, bit);
        }
        survive(&characters.into_iter().collect::<String>());
    }
}

#[test]
fn values_of_the_wrong_kind_never_panic() {
    let keys = fs::read_to_string(crate::folder("valid").join("everything.toml")).unwrap();
    let values = [
        "1",
        "-1",
        "0",
        "1.5",
        "nan",
        "\"\"",
        "\"x\"",
        "true",
        "[]",
        "[1]",
        "{}",
        "{ a = {} }",
        "[[[]]]",
        "1979-05-27",
    ];
    let lines: Vec<&str> = keys.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        for value in values {
            let changed = format!("{key} = {value}");
            let mut lines = lines.clone();
            lines[n] = &changed;
            survive(&lines.join("\n"));
        }
    }
}

#[test]
fn any_command_line_is_answered() {
    let mut dice = Dice(3);
    for _ in 0..1000 {
        let some = |dice: &mut Dice| (dice.below(2) == 0).then(|| dice.pick(&BITS).to_owned());
        let line = CommandLine {
            restart: some(&mut dice),
            liveness: some(&mut dice),
            heartbeat: some(&mut dice),
            listen: (0..dice.below(3)).map(|_| dice.pick(&BITS).to_owned()).collect(),
            name: some(&mut dice),
            http: some(&mut dice),
            rewrite: keepup::plan::Rewrite::default(),
            command: (0..dice.below(3)).map(|_| dice.pick(&BITS).to_owned()).collect(),
            directory: "/srv".into(),
        };
        if let Err(problems) = config::command_line(&line, &surroundings()) {
            assert!(problems.to_string().contains("command line:1:"), "{problems}");
        }
    }
}

#[test]
fn deep_and_wide_files_end() {
    survive(&format!("a = {}", "[".repeat(100_000)));
    survive(&format!("a = {}", "{a=".repeat(100_000)));
    survive(&format!("[{}a]", "a.".repeat(50_000)));
    let service =
        |n: usize| format!("[service.s{n}]\ncommand = [\"x\"]\nafter = [\"s{}\"]\n", (n + 1) % 500);
    let chain: Vec<String> = (0..500).map(service).collect();
    survive(&chain.join(""));
}
