//! Whatever stands in a supervisor.toml, a plan or a problem with its place comes out.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;

use keepup::config::{Files, Surroundings, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let surroundings = Surroundings {
        env: BTreeMap::from([("KEY".into(), "value".into())]),
        root: true,
        pid1: false,
        kubernetes: false,
        console: false,
    };
    let none = BTreeMap::new();
    let path = Path::new("/etc/keepup/supervisor.toml");
    if let Err(problems) = read(text, path, &surroundings, Files::Given(&none)) {
        assert!(!problems.list.is_empty(), "refused without a word");
        assert!(!problems.to_string().trim().is_empty());
    }
});
