//! What stands in the journal.

use serde_json::Value;

use crate::machine::{Unit, said, shell};

fn entries(unit: &Unit) -> Vec<Value> {
    said(&["journalctl", "--sync"]);
    let text = said(&["journalctl", "--no-pager", "-o", "json", "-u", &unit.unit]);
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// The entry whose text has these words.
fn entry(unit: &Unit, words: &[&str]) -> Value {
    let mut found = None;
    unit.wait_until(&format!("the journal has {words:?}"), || {
        found = entries(unit).into_iter().find(|it| {
            let text = it["MESSAGE"].as_str().unwrap_or_default();
            words.iter().all(|word| text.contains(word))
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
#[ignore = "needs a machine with systemd: bash .ci/systemd"]
fn every_line_has_its_level_and_none_has_marks_of_it() {
    let script = "echo from the api; echo '<3>forged' ; echo to stderr >&2; exec sleep 100000";
    let api = shell("api", script, "restart = { delay = \"1ms\", max_restarts = 1 }");
    let bad = shell("bad", "exit 1", "restart = { delay = \"1ms\", max_restarts = 1 }");
    let unit = Unit::start("levels", &(api + &bad));
    for (words, level) in [
        (&["api", "starting run 1"][..], "6"),
        (&["api", "from the api"], "6"),
        (&["api", "to stderr"], "6"),
        (&["api", "forged"], "6"),
        (&["bad", "given up"], "3"),
    ] {
        let entry = entry(&unit, words);
        assert_eq!(entry["PRIORITY"], level, "{entry}");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "keepup", "{entry}");
    }
    // keepup's own have no time of their own: the journal has it.
    let started = entry(&unit, &["api", "starting run 1"]);
    assert_eq!(started["MESSAGE"], "api: starting run 1");
    let forged = entry(&unit, &["forged"]);
    assert!(forged["MESSAGE"].as_str().unwrap().contains("<3>forged"), "{forged}");
}
