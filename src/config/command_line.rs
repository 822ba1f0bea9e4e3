//! `keepup run -- COMMAND…`: a plan without a file.
//!
//! The arguments become the tables that a file would have held, and the same checks read them; a
//! problem shows the argument, underlined in the command line.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::section::Layer;
use super::source::{Files, Source, SourceKind, Span, Surroundings};
use super::value::{At, Reading};
use super::{Checked, Named, Section, Wrong, finish, name, services, supervisor};
use crate::plan::{Plan, Rewrite};

/// The arguments of `keepup run -- COMMAND…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `--restart`: the policy.
    pub restart: Option<String>,
    /// `--liveness`: the URL of a liveness probe.
    pub liveness: Option<String>,
    /// `--heartbeat`: the file that the service touches.
    pub heartbeat: Option<String>,
    /// `--listen`: the sockets that are held for it.
    pub listen: Vec<String>,
    /// `--name`: the service's name; by default the program's.
    pub name: Option<String>,
    /// `--http`: where keepup's own endpoint listens.
    pub http: Option<String>,
    /// `--rewrite`: what becomes of signals that are passed on.
    pub rewrite: Rewrite,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where relative paths start: the current folder.
    pub directory: std::path::PathBuf,
}

/// Checks a command line: one essential service, with the defaults of a file.
///
/// # Errors
///
/// All problems of the arguments, placed in the command line.
pub fn command_line(line: &CommandLine, surroundings: &Surroundings) -> Result<Checked, Problems> {
    let mut written = Written::default();
    written.push("keepup run");
    let mut supervisor = DeTable::new();
    let mut service = DeTable::new();
    if let Some(policy) = &line.restart {
        insert(&mut service, "restart", table("policy", written.option("--restart", policy)));
    }
    if let Some(url) = &line.liveness {
        insert(&mut service, "liveness", table("http", written.option("--liveness", url)));
    }
    if let Some(file) = &line.heartbeat {
        insert(&mut service, "heartbeat", table("file", written.option("--heartbeat", file)));
    }
    if !line.listen.is_empty() {
        let sockets: Vec<_> =
            line.listen.iter().map(|socket| written.option("--listen", socket)).collect();
        let span = sockets.first().map_or(0, |it| it.span().start)..written.text.len();
        let list = DeValue::Array(sockets.into_iter().collect());
        insert(&mut service, "listen", Spanned::new(span, list));
    }
    let named = line.name.as_ref().map(|name| written.option("--name", name));
    if let Some(address) = &line.http {
        insert(&mut supervisor, "listen", written.option("--http", address));
    }
    written.push("--");
    let words: Vec<_> = line.command.iter().map(|word| written.argument(word)).collect();
    let program = words.first().map_or(0..written.text.len(), Spanned::span);
    if !words.is_empty() {
        let span = program.start..written.text.len();
        insert(
            &mut service,
            "command",
            Spanned::new(span, DeValue::Array(words.into_iter().collect())),
        );
    }
    insert(&mut service, "essential", Spanned::new(0..0, DeValue::Boolean(true)));
    let (name, name_span) = match named {
        Some(name) => (line.name.clone().unwrap_or_default(), name.span()),
        None => (program_name(&line.command), program),
    };
    let mut services = DeTable::new();
    let key = Spanned::new(name_span.clone(), Cow::Owned(name));
    services.insert(key, Spanned::new(name_span, DeValue::Table(service)));
    let mut root = DeTable::new();
    insert(&mut root, "supervisor", Spanned::new(0..0, DeValue::Table(supervisor)));
    insert(&mut root, "service", Spanned::new(0..0, DeValue::Table(services)));
    check(&root, written.text, line, surroundings)
}

fn check(
    root: &DeTable<'_>,
    text: String,
    line: &CommandLine,
    surroundings: &Surroundings,
) -> Result<Checked, Problems> {
    let source = Source {
        name: "command line".to_owned(),
        folder: line.directory.clone(),
        text,
        number: 0,
        kind: SourceKind::CommandLine,
    };
    let reading = Reading::new(surroundings, Files::Disk);
    let mut plan = plan(root, &source, &reading);
    for service in plan.iter_mut().flat_map(|it| &mut it.services) {
        service.rewrite = line.rewrite.clone();
    }
    finish(plan, reading)
}

fn plan(table: &DeTable<'_>, source: &Source, reading: &Reading<'_>) -> Option<Plan> {
    let at = At { reading, source, span: Span::default() };
    let root = Section::of(Layer { at, table });
    let supervisor = supervisor::read(&root.section("supervisor"), None, reading.surroundings);
    let mut named = Named::default();
    named.add(&root);
    let services = services(&named, None, supervisor.as_ref(), reading);
    Some(Plan { supervisor: supervisor?, services: services? })
}

/// A service is called as its program is, as far as that can be a name.
fn program_name(command: &[String]) -> String {
    let program = command.first().map_or("", |it| it.rsplit('/').next().unwrap_or_default());
    let proposal = name::proposal(program);
    match name::of_service(&proposal) {
        Ok(()) => proposal,
        Err(Wrong { .. }) => "service".to_owned(),
    }
}

/// The command line as it is shown, while it is put together.
#[derive(Debug, Default)]
struct Written {
    text: String,
}

impl Written {
    fn push(&mut self, word: &str) -> std::ops::Range<usize> {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(word);
        start..self.text.len()
    }

    /// A word as a shell would have to read it, and its value.
    fn argument(&mut self, word: &str) -> Spanned<DeValue<'static>> {
        let quoted = shlex::try_quote(word).unwrap_or(Cow::Borrowed("?"));
        let span = self.push(&quoted.replace('\n', " "));
        Spanned::new(span, DeValue::String(Cow::Owned(word.to_owned())))
    }

    fn option(&mut self, option: &str, word: &str) -> Spanned<DeValue<'static>> {
        self.push(option);
        self.argument(word)
    }
}

fn table(key: &'static str, value: Spanned<DeValue<'static>>) -> Spanned<DeValue<'static>> {
    let span = value.span();
    let mut table = DeTable::new();
    insert(&mut table, key, value);
    Spanned::new(span, DeValue::Table(table))
}

fn insert(table: &mut DeTable<'static>, key: &'static str, value: Spanned<DeValue<'static>>) {
    table.insert(Spanned::new(value.span(), Cow::Borrowed(key)), value);
}
