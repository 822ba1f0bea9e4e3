//! supervisor.toml, read and checked: what comes out is a [`Plan`] in which nothing is left to be
//! wrong, or all problems of the file, each with its place.
//!
//! Never stops at the first problem, never accepts what it does not know, and never acts: it reads
//! files and changes nothing.

mod address;
mod alert;
mod command;
mod command_line;
mod cross;
pub mod duration;
mod expand;
mod file;
mod heartbeat;
mod host;
mod http;
mod include;
mod listen;
mod logs;
mod name;
mod probe;
mod problem;
pub mod resources;
mod restart;
pub mod schedule;
mod section;
mod service;
pub mod size;
mod source;
mod supervisor;
mod syntax;
mod trust;
mod unavailable;
mod value;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

pub use command_line::{CommandLine, command_line};
pub use problem::{Cause, Place, Problem, Problems, Severity};
pub use source::{Files, Surroundings};
pub use wrong::{Wrong, closest};

use section::{Layer, Section};
use service::{Draft, Outside, Pass};
use source::{Source, SourceKind, Span, reason};
use value::{At, Reading, Value};

use crate::plan::{Plan, Supervisor};

/// A plan, and what is probably not meant in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The plan.
    pub plan: Plan,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file, and the files it includes.
///
/// # Errors
///
/// All problems of the file; a file that cannot be read is one, see [`Problems::cause`].
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Checked, Problems> {
    match Files::Disk.read(path) {
        Ok(text) => read(&text, path, surroundings, Files::Disk),
        Err(error) => {
            let text = format!("cannot read `{}`: {}", path.display(), reason(&error));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let hint = missing.then(|| "`keepup init` writes a file to start from".to_owned());
            Err(Problems::unreadable(text, hint))
        }
    }
}

/// Reads and checks a text that stands in the file `path`; `files` are the others it refers to.
///
/// # Errors
///
/// All problems of the text.
pub fn read(
    text: &str,
    path: &Path,
    surroundings: &Surroundings,
    files: Files<'_>,
) -> Result<Checked, Problems> {
    let reading = Reading::new(surroundings, files);
    let plan = plan(&source(text, path), &reading);
    finish(plan, reading)
}

/// The folder of the control socket, as far as this file says so: whatever else is broken, missing
/// or unset in the file, its absence included, does not matter.
pub fn runtime_dir(path: &Path, surroundings: &Surroundings) -> PathBuf {
    let text = Files::Disk.read(path).unwrap_or_default();
    lenient_runtime_dir(&text, path, surroundings, Files::Disk)
}

fn lenient_runtime_dir(
    text: &str,
    path: &Path,
    surroundings: &Surroundings,
    files: Files<'_>,
) -> PathBuf {
    let source = source(text, path);
    let reading = Reading::new(surroundings, files);
    // What stands before a syntax error, and often after it, is still read.
    let (tree, _) = DeTable::parse_recoverable(&source.text);
    let root = root(&source, &reading, tree.get_ref());
    let section = root.section("supervisor");
    let name = section.get("name").and_then(name::of_keepup);
    let name = name.unwrap_or_else(|| supervisor::USUAL_NAME.to_owned());
    let written = section.get("runtime_dir").and_then(Value::path);
    written.unwrap_or_else(|| surroundings.runtime_dir(&name))
}

fn source(text: &str, path: &Path) -> Source {
    let full = absolute(path);
    Source {
        name: path.display().to_string(),
        folder: full.parent().unwrap_or(&full).to_owned(),
        text: text.to_owned(),
        number: 0,
        kind: SourceKind::File,
    }
}

/// The path from the root, without `.` in it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components().collect()
}

fn finish(plan: Option<Plan>, reading: Reading<'_>) -> Result<Checked, Problems> {
    let (errors, warnings) = reading.found();
    match plan {
        Some(plan) if errors.is_empty() => {
            Ok(Checked { plan, warnings: problem::in_order(warnings) })
        }
        // Warnings wait: what is wrong comes first.
        Some(_) | None => Err(Problems { list: problem::in_order(errors), cause: Cause::Invalid }),
    }
}

fn root<'t>(source: &'t Source, reading: &'t Reading<'t>, table: &'t DeTable<'t>) -> Section<'t> {
    let at = At { reading, source, span: Span::default() };
    Section::of(Layer { at, table })
}

fn plan(main: &Source, reading: &Reading<'_>) -> Option<Plan> {
    let tree = syntax::parse(main, reading)?;
    let root = root(main, reading, tree.get_ref());
    let path = absolute(Path::new(&main.name));
    let included: Vec<Source> =
        root.get("include").map(|it| include::read(it, &path)).unwrap_or_default();
    let trees: Vec<_> = included.iter().map(|source| syntax::parse(source, reading)).collect();
    let trees: Vec<_> = trees.into_iter().collect::<Option<_>>()?;

    let supervisor =
        supervisor::read(&root.section("supervisor"), Some(path), reading.surroundings);
    let defaults = root.get("defaults").and_then(Value::table);
    let mut named = Named::default();
    named.add(&root);
    for (source, tree) in included.iter().zip(&trees) {
        let root = self::root(source, reading, tree.get_ref());
        named.add(&root);
        root.refuse_unknown();
    }
    let services = services(&named, defaults, supervisor.as_ref(), reading);
    if let Some(alerts) = root.get("alert") {
        alert::check(alerts, &named.seen.keys().copied().collect::<BTreeSet<&str>>());
    }
    root.refuse_unknown();
    if named.list.is_empty() && !named.broken {
        let hint = "add [service.NAME] with a command; `keepup init` writes a file to start from";
        root.at.refuse(Wrong::hinted("no service is defined", hint));
    }
    Some(Plan { supervisor: supervisor?, services: services? })
}

/// The services of all files, by name.
#[derive(Debug, Default)]
struct Named<'t> {
    list: Vec<(At<'t>, Value<'t>)>,
    seen: BTreeMap<&'t str, At<'t>>,
    /// Something was written as services that is none.
    broken: bool,
}

impl<'t> Named<'t> {
    fn add(&mut self, root: &Section<'t>) {
        let Some(value) = root.get("service") else { return };
        let DeValue::Table(_) = value.item else {
            value.must_be("a table of services", Some("write [service.NAME]".to_owned()));
            self.broken = true;
            return;
        };
        let Some(layer) = value.table() else { return };
        for (at, service) in layer.keyed_entries() {
            if let Some(first) = self.seen.get(service.key) {
                let (name, first) = (service.key, first.place().short());
                let text = format!("service `{name}` is defined twice; the first is at {first}");
                at.refuse(Wrong::new(text));
                continue;
            }
            self.seen.insert(service.key, at);
            self.list.push((at, service));
        }
    }
}

fn services<'t>(
    named: &Named<'t>,
    defaults: Option<Layer<'t>>,
    supervisor: Option<&Supervisor>,
    reading: &Reading<'_>,
) -> Option<Vec<crate::plan::Service>> {
    // With a broken folder the log files are still told apart.
    let log_dir = supervisor.map_or(Path::new("/"), |it| &it.log_dir);
    let outside = Outside { log_dir, console: reading.surroundings.console };
    if let Some(layer) = defaults {
        service::read("defaults", layer.at, &Section::of(layer), outside, Pass::Defaults);
    }
    let read = |(at, value): &(At<'t>, Value<'t>)| {
        if let Err(wrong) = name::of_service(value.key) {
            at.refuse(wrong);
        }
        let DeValue::Table(_) = value.item else {
            let hint = format!("write [service.{}]", value.key);
            value.must_be("a table", Some(hint));
            return None;
        };
        let layers = value.table().into_iter().chain(defaults).collect();
        let section = Section::new(value.at, layers);
        Some(service::read(value.key, *at, &section, outside, Pass::Service))
    };
    let drafts: Vec<Draft<'_>> = named.list.iter().filter_map(read).collect();
    cross::check(&drafts, supervisor);
    let complete = drafts.len() == named.list.len();
    let plans: Option<Vec<_>> = drafts.into_iter().map(|draft| draft.plan).collect();
    let mut plans = plans.filter(|_| complete)?;
    listen::settle(&mut plans);
    Some(plans)
}
