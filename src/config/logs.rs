//! `[service.NAME.logs]`: where a service's output goes.

use std::path::PathBuf;

use super::section::Section;
use super::service::Outside;
use super::size;
use super::source::joined;
use super::value::Value;
use super::wrong::Wrong;
use crate::logs;
use crate::plan::{Compress, Errors, LogFormat, Logs, Overflow};

const OVERFLOWS: [(&str, Overflow); 2] = [("drop", Overflow::Drop), ("block", Overflow::Block)];

const FORMATS: [(&str, LogFormat); 3] =
    [("raw", LogFormat::Raw), ("text", LogFormat::Text), ("json", LogFormat::Json)];

const COMPRESS: [(&str, Compress); 2] = [("none", Compress::None), ("gzip", Compress::Gzip)];

pub(super) fn read(section: &Section<'_>, name: &str, outside: Outside<'_>) -> Option<Logs> {
    let usual = outside.log_dir.join(format!("{name}.log"));
    let file = section.or("file", usual, |it| file(it, outside));
    let max_size = section.or("max_size", 50_000_000, Value::size);
    let max_age = section.maybe("max_age", Value::duration);
    let keep = section.or("keep", 10, |it| it.count(0..=10_000));
    let max_total = section.maybe("max_total", Value::size);
    let compress = section.or("compress", Compress::None, |it| it.word(&COMPRESS));
    let console = section.or("console", outside.console, Value::truth);
    let format = section.or("format", LogFormat::Raw, |it| it.word(&FORMATS));
    let overflow = section.or("overflow", Overflow::Drop, |it| it.word(&OVERFLOWS));
    let buffer = section.or("buffer", 1 << 20, buffer);
    let errors = errors(section);
    section.refuse_unknown();
    if let (Some(Some(total)), Some(size)) = (max_total, max_size)
        && total < size
    {
        let [total, size] = [total, size].map(size::print);
        section.at("max_total").refuse(Wrong::hinted(
            format!("`max_total` must be `max_size` at least, found {total} and {size}"),
            "the current file alone may grow to `max_size`",
        ));
        return None;
    }
    Some(Logs {
        max_size: max_size?,
        max_age: max_age?,
        keep: keep?,
        max_total: max_total?,
        compress: compress?,
        console: console?,
        format: format?,
        overflow: overflow?,
        buffer: buffer?,
        errors: errors?,
        ..Logs::usual(file?)
    })
}

fn file(value: Value<'_>, outside: Outside<'_>) -> Option<PathBuf> {
    let text = value.full_text()?;
    let path = joined(outside.log_dir, &text);
    if text.ends_with('/') || path.file_name().is_none() {
        value.refuse(Wrong::new(format!("must name a file, found `{text}`")));
        return None;
    }
    // Rotation renames the file, and nobody wants /dev/null renamed.
    if path.starts_with("/dev") || path.starts_with("/proc") {
        value.refuse(Wrong::hinted(
            format!("must be a file that can be renamed, found `{text}`"),
            "for keepup's own stdout, write console = true",
        ));
        return None;
    }
    if path == joined(outside.log_dir, "keepup.log") {
        value.refuse(Wrong::new("cannot be `keepup.log`, which is keepup's own log"));
        return None;
    }
    Some(path)
}

#[expect(clippy::option_option, reason = "outside: nothing, because it is wrong")]
fn errors(section: &Section<'_>) -> Option<Option<Errors>> {
    let pattern = section.maybe("error_pattern", pattern);
    let per_hour = section.maybe("errors_per_hour", |it| it.count(1..=u32::MAX));
    match (pattern?, per_hour?) {
        (None, None) => Some(None),
        (Some(pattern), per_hour) => Some(Some(Errors { pattern, per_hour })),
        (None, Some(_)) => {
            section.at("errors_per_hour").refuse(Wrong::hinted(
                "`errors_per_hour` needs `error_pattern`",
                "say what an error line looks like, as in error_pattern = \"ERROR|CRITICAL\"",
            ));
            None
        }
    }
}

fn pattern(value: Value<'_>) -> Option<String> {
    let text = value.full_text()?;
    match logs::pattern(&text) {
        Ok(_) => Some(text),
        Err(why) => {
            value.refuse(Wrong::new(format!("cannot be read as a regular expression: {why}")));
            None
        }
    }
}

fn buffer(value: Value<'_>) -> Option<u64> {
    let size = value.size()?;
    if size > 1 << 30 {
        value.refuse(Wrong::new("must be at most 1GiB: it is memory"));
        return None;
    }
    Some(size)
}
