//! From what is asked about logs to the files that are read for it, with a running keepup or none.

use regex::bytes::Regex;

use crate::config::duration;
use crate::control::protocol::LogQuery;
use crate::control::{LogLines, NotShown};
use crate::logs::{Ask, Dress, Logs, Show, Source};
use crate::plan::{Name, Service};

/// Begins to read. `logs`: those of a running keepup, which may hold lines that are in no file.
///
/// # Errors
///
/// What is asked for makes no sense, or a file cannot be read.
pub fn open(
    logs: Option<&Logs>,
    services: &[Service],
    query: &LogQuery,
) -> Result<Box<dyn LogLines>, NotShown> {
    let wanted = |it: &&Service| query.service.as_ref().is_none_or(|name| **name == *it.name);
    let services: Vec<&Service> = services.iter().filter(wanted).collect();
    let ask = ask(&services, query)?;
    // Lines that are written while the files are opened would be shown twice, or not at all.
    for _ in 0..8 {
        let sources: Vec<Source> = services.iter().map(|it| source(logs, it)).collect();
        let show = Show::open(sources.clone(), &ask).map_err(NotShown::Failed)?;
        let same = |it: &Source| unwritten(logs, &Name::from(it.name.as_str())) == it.unwritten;
        if sources.iter().all(same) {
            return Ok(Box::new(show));
        }
    }
    let files_alone = services.iter().map(|it| source(None, it)).collect();
    Ok(Box::new(Show::open(files_alone, &ask).map_err(NotShown::Failed)?))
}

fn source(logs: Option<&Logs>, service: &Service) -> Source {
    Source {
        name: service.name.to_string(),
        path: service.logs.file.clone(),
        unwritten: unwritten(logs, &service.name),
    }
}

fn unwritten(logs: Option<&Logs>, name: &Name) -> Vec<u8> {
    logs.map(|it| it.unwritten(name)).unwrap_or_default()
}

fn ask(services: &[&Service], query: &LogQuery) -> Result<Ask, NotShown> {
    let since = query.since.as_deref().map(|text| {
        let read = duration::parse(text);
        read.map_err(|it| NotShown::Query(format!("cannot read `--since {text}`: it {}", it.text)))
    });
    let since = since.transpose()?;
    if since.is_some()
        && let Some(raw) = services.iter().find(|it| !it.logs.format.has_times())
    {
        let why = format!(
            "the lines of `{}` have no times that `--since` could go by: its log format is raw",
            raw.name
        );
        return Err(NotShown::Query(why));
    }
    let grep = query.grep.as_deref().map(|text| {
        let read = Regex::new(text);
        read.map_err(|it| NotShown::Query(format!("cannot read `--grep {text}`: {it}")))
    });
    let dress = match (query.json, query.service.is_some()) {
        (true, _) => Dress::Json,
        (false, true) => Dress::Bare,
        (false, false) => Dress::Named,
    };
    Ok(Ask { lines: query.lines, since, grep: grep.transpose()?, dress })
}

impl LogLines for Show {
    fn more(&mut self) -> Result<Vec<u8>, String> {
        Show::more(self)
    }

    fn rest(&mut self) -> Vec<u8> {
        Show::rest(self)
    }
}
