//! The README says what is so: its examples are accepted, and its tables name what the code knows.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::CommandFactory;
use keepup::cli::Arguments;
use keepup::config::{self, Checked, Files, Problems, Surroundings};
use keepup::core::event::{Answer, End, Exit, Miss, Note};
use keepup::plan::{Class, Name, Plan, Role};
use keepup::report::{LogCount, Metrics};
use keepup::status::{LogStatus, ServiceStatus, Status};

/// The sources that look up the keys of probes.
const PROBE_ROOMS: [&str; 4] = ["probe", "http", "file", "trust"];

/// The tables of the file that hold keys: the marker in the README, what the table is called in a
/// file, what it needs beside the key, and the sources that look its keys up.
const TABLES: [(&str, &str, &str, &[&str]); 6] = [
    ("supervisor", "[supervisor]", "", &["supervisor"]),
    ("service", "[service.api]", "", &["service", "resources"]),
    ("restart", "[service.api.restart]", "", &["restart"]),
    ("probe", "[service.api.liveness]", "http = \"http://127.0.0.1:8000/\"", &PROBE_ROOMS),
    ("heartbeat", "[service.api.heartbeat]", "file = \"beat\"", &["heartbeat"]),
    ("logs", "[service.api.logs]", "", &["logs"]),
];

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn readme() -> String {
    source("README.md")
}

/// What follows the marker, up to the next one or the next heading.
fn marked(marker: &str) -> String {
    let readme = readme();
    let marker = format!("<!-- {marker} -->\n");
    let rest = readme.split_once(&marker).unwrap_or_else(|| panic!("no {marker}")).1;
    let end = ["\n#", "<!--"].iter().filter_map(|it| rest.find(it)).min().unwrap_or(rest.len());
    rest[..end].to_owned()
}

/// The rows of the first table after the marker, without its head.
fn rows(marker: &str) -> Vec<Vec<String>> {
    let text = marked(marker);
    let lines = text.lines().skip_while(|it| !it.starts_with('|'));
    let rows = lines.take_while(|it| it.starts_with('|')).skip(2);
    let cells =
        |row: &str| row.trim_matches('|').split(" | ").map(|it| it.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table after {marker}");
    rows
}

/// Everything between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The keys and metrics in the first column.
fn names(marker: &str) -> BTreeSet<String> {
    let rows = rows(marker);
    rows.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect()
}

fn read(text: &str) -> Result<Checked, Problems> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let env = [("API_KEY", "k"), ("PORT", "8000"), ("HOME", "/root")].map(own).into();
    let surroundings = Surroundings { root: true, env, ..Surroundings::default() };
    let path = Path::new("/srv/api/supervisor.toml");
    let included = ("/srv/api/services/more.toml", "[service.more]\ncommand = \"x\"\n");
    let files = BTreeMap::from([(included.0.into(), included.1.to_owned())]);
    config::read(text, path, &surroundings, Files::Given(&files))
}

fn plan(text: &str) -> Plan {
    read(text).unwrap_or_else(|problems| panic!("{text}\n{problems}")).plan
}

#[test]
fn every_example_is_accepted() {
    let readme = readme();
    let blocks = readme.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|it| it.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let checked = read(block).unwrap_or_else(|problems| panic!("{block}\n{problems}"));
        assert_eq!(checked.warnings, [], "{block}");
    }
}

/// The Kubernetes manifest holds a file, and asks for routes of the endpoint.
#[test]
fn the_manifest_has_a_file_that_is_accepted_and_asks_what_is_answered() {
    let manifest = source("packaging/kubernetes.yaml");
    let (_, rest) = manifest.split_once("supervisor.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|it| it.is_empty() || it.starts_with("    "));
    let file: Vec<&str> = lines.map(str::trim_start).collect();
    let plan = plan(&file.join("\n"));
    assert_eq!(plan.supervisor.listen.unwrap().port(), 9180);
    let routes = source("src/control/route.rs");
    let paths: Vec<&str> = manifest.split("path: /").skip(1).collect();
    assert_eq!(paths.len(), 4);
    for path in paths {
        let path = path.split([',', '\n']).next().unwrap();
        assert!(routes.contains(&format!("\"{path}\"")), "{path}");
    }
}

/// A file with one key in one table; `line` may be empty.
fn with(table: &str, beside: &str, line: &str) -> String {
    let command = "command = \"x\"";
    let service = if table == "[service.api]" { "" } else { "[service.api]\n" };
    let (first, second) = if service.is_empty() { (command, "") } else { ("", command) };
    let twice = beside.split(" = ").next() == line.split(" = ").next();
    let beside = if twice { "" } else { beside };
    format!("{service}{second}\n{table}\n{first}\n{beside}\n{line}\n")
}

#[test]
fn every_default_is_the_default() {
    let mut compared = 0;
    for (marker, table, beside, _) in TABLES {
        for row in rows(&format!("keys: {marker}")) {
            let [key, default, _] = &row[..] else { panic!("{row:?}") };
            // A default in words begins without a backtick, or names a file after the service.
            if !default.starts_with('`') || default.contains("NAME") {
                continue;
            }
            let line = format!("{} = {}", quoted(key)[0], quoted(default)[0]);
            let (written, unwritten) = (with(table, beside, &line), with(table, beside, ""));
            assert_eq!(plan(&written), plan(&unwritten), "{line}");
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

/// The keys that a room of the configuration looks up: what follows `section.WORD("`.
fn looked_up(source: &str) -> BTreeSet<String> {
    let calls = source.split("section.").skip(1);
    let of_call = |call: &str| {
        let (word, rest) = call.split_once("(\"")?;
        let is_lookup = ["get", "or", "maybe", "section"].contains(&word);
        is_lookup.then(|| rest.split('"').next().unwrap_or_default().to_owned())
    };
    calls.filter_map(of_call).collect()
}

#[test]
fn every_key_is_there_and_no_other() {
    for (marker, _, _, sources) in TABLES {
        let mut known = BTreeSet::new();
        for file in sources {
            known.extend(looked_up(&source(&format!("src/config/{file}.rs"))));
        }
        if marker == "service" {
            // Looked up by other means than their names.
            known.extend(
                ["startup", "liveness", "readiness", "warning", "heartbeat"].map(str::to_owned),
            );
        }
        assert_eq!(names(&format!("keys: {marker}")), known, "{marker}");
    }
}

#[test]
fn every_key_that_is_not_there_yet_is_named_as_such() {
    let source = source("src/config/unavailable.rs");
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in source
        .lines()
        .filter_map(|it| it.trim_start_matches([' ', '&', '[']).strip_prefix("(Table::"))
    {
        let (table, rest) = line.split_once(", \"").unwrap();
        known.entry(table).or_default().insert(rest.split('"').next().unwrap());
    }
    let text = marked("keys: not yet");
    let tables = [("Supervisor", "- `[supervisor]`:")];
    for (table, begin) in tables {
        let list = text.split_once(begin).map_or("", |it| it.1);
        let list = list.split("\n- ").next().unwrap().split(';').next().unwrap();
        let named: BTreeSet<&str> = quoted(list).into_iter().collect();
        assert_eq!(named, known.remove(table).unwrap_or_default(), "{table}");
    }
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn every_kind_and_role_is_accepted_as_it_is_written() {
    for key in ["startup", "liveness", "readiness", "warning"] {
        for kind in [
            "http = \"unix:/path/of.sock:/path\"",
            "http = \"https://api.example/health\"",
            "tcp = \"db:5432\"",
            "exec = [\"true\"]",
            "grpc = \"https://127.0.0.1:50051/my.package.Service\"",
            "listening = \"0.0.0.0:8000\"",
            "file = \"metrics.json\"\njson_max = { failures = 4 }\njson_age = { last_poll = \"2m\" }",
        ] {
            plan(&format!("[service.api]\ncommand = \"x\"\n[service.api.{key}]\n{kind}\n"));
        }
    }
}

#[test]
fn every_command_is_there_and_no_other() {
    let command = Arguments::command();
    let known = command.get_subcommands().filter(|it| !it.is_hide_set());
    let known: BTreeSet<String> = known.map(|it| it.get_name().to_owned()).collect();
    let rows = rows("commands");
    assert_eq!(
        rows.iter().map(|row| quoted(&row[0])[0].to_owned()).collect::<BTreeSet<_>>(),
        known
    );
}

/// A status in which everything is known, read as a client reads it.
fn status() -> Status {
    let text = concat!(
        r#"{"supervisor":{"version":"0","pid":1,"uptime_seconds":1.0,"config":"c","level":"normal","#,
        r#""host":{"memory_used_percent":1.0,"disk_used_percent":1.0,"load1":1.0}},"#,
        r#""services":[{"name":"api","want":"up","state":"up","health":"healthy","ready":true,"#,
        r#""pid":1,"run":1,"uptime_seconds":1.0,"restarts":1,"failures_in_row":1,"#,
        r#""restarts_in_window":1,"max_restarts":1,"next_start_in_seconds":1.0,"#,
        r#""memory_bytes":1,"cpu_percent":1.0,"open_files":1,"threads":1,"#,
        r#""uptime_percent_24h":1.0,"#,
        r#""heartbeat_age_seconds":1.0,"errors_last_hour":1,"log":{"bytes":1,"lines_lost":1,"#,
        r#""problem":"p","since":"2026-01-02T03:04:05.678Z"},"last_end":{"reason":"exited","exit":{"code":1,"#,
        r#""signal":"SIGKILL","core_dumped":false,"oom":false,"text":"t"},"#,
        r#""at":"2026-01-02T03:04:05.678Z","incident":"i"},"probes":[{"role":"liveness","#,
        r#""kind":"http","target":"t","ok":true,"misses":1,"latency_ms":1.0,"class":"http","#,
        r#""detail":"d"}]}]}"#
    );
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_metric_is_there_and_no_other() {
    let metrics = Metrics::new().unwrap();
    let api = Name::from("api");
    metrics.note(&api, &Note::Starting { run: 1, by: None });
    let (exit, uptime) = (Exit::Code(1), Duration::from_secs(1));
    metrics.note(&api, &Note::Ended { end: End::Exited(exit), exit: Some(exit), uptime });
    let miss = Answer::Miss(Miss { class: Class::Http, text: "t".to_owned() });
    metrics.probed(&api, Role::Liveness, &miss, uptime);
    let mut status = status();
    let with_cpu = |it: ServiceStatus| ServiceStatus { cpu_seconds: Some(1.0), ..it };
    status.services = status.services.into_iter().map(with_cpu).collect();
    let log = LogStatus { bytes: 1, lines_lost: 1, ..LogStatus::default() };
    let text = metrics.text(&status, &[LogCount { service: api, log, error_lines: 1 }]).unwrap();
    let known = text.lines().filter_map(|it| it.strip_prefix("# TYPE "));
    let known: BTreeSet<(String, String)> = known
        .map(|it| it.split_once(' ').unwrap())
        .map(|it| (it.0.to_owned(), it.1.to_owned()))
        .collect();
    let named =
        rows("metrics").iter().map(|row| (quoted(&row[0])[0].to_owned(), row[1].clone())).collect();
    assert_eq!(known, named);
}

/// The names of all fields, of the objects inside, too.
fn fields(value: &serde_json::Value, all: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                all.insert(name.clone());
                fields(value, all);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|it| fields(it, all)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn every_field_of_the_status_is_named() {
    let status = serde_json::to_value(status()).unwrap();
    for (marker, part) in [("supervisor", &status["supervisor"]), ("service", &status["services"])]
    {
        let mut known = BTreeSet::new();
        fields(part, &mut known);
        let rows = rows(&format!("fields: {marker}"));
        let named: BTreeSet<&str> =
            rows.iter().flat_map(|it| it.iter().flat_map(|it| quoted(it))).collect();
        let missing: Vec<&String> =
            known.iter().filter(|it| !named.contains(it.as_str())).collect();
        assert!(missing.is_empty(), "{marker}: {missing:?}");
    }
}

#[test]
fn links_inside_lead_somewhere() {
    let readme = readme();
    let anchor = |heading: &str| -> String {
        let plain = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = plain
            .chars()
            .filter(|it| it.is_alphanumeric() || *it == ' ' || *it == '-' || *it == '_');
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    };
    let headings: BTreeSet<String> =
        readme.lines().filter(|it| it.starts_with('#')).map(anchor).collect();
    for link in readme.split("](#").skip(1).map(|it| it.split(')').next().unwrap()) {
        assert!(headings.contains(link), "#{link} leads nowhere: {headings:?}");
    }
}
