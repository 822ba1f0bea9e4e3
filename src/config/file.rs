//! The keys of a file probe.

use super::http;
use super::section::Section;
use super::value::Value;
use crate::plan::FileProbe;

/// Reads the keys, wherever they stand; nothing if there is no `file`, or if a key is wrong.
pub(super) fn read(section: &Section<'_>) -> Option<FileProbe> {
    let path = section.maybe("file", Value::path);
    let json = section.or("json", Vec::new(), |it| http::json(it.table()?));
    let json_max = section.or("json_max", Vec::new(), |it| http::fields(it.table()?, number));
    let json_age =
        section.or("json_age", Vec::new(), |it| http::fields(it.table()?, Value::duration));
    let max_age = section.maybe("max_age", Value::duration);
    Some(FileProbe {
        path: path??,
        json: json?,
        json_max: json_max?,
        json_age: json_age?,
        max_age: max_age?,
    })
}

fn number(value: Value<'_>) -> Option<f64> {
    value.number(f64::MIN..=f64::MAX)
}
