//! JSON that an answer or a file holds, and whether its fields are as they must be.

use std::cmp::Ordering;

use serde_json::Value;

use crate::net::client::words::{clipped, first_line};
use crate::plan::Scalar;

/// A value is shown up to this many characters.
pub(super) const VALUE_MAX: usize = 80;

/// The value that a text stands for, or why it stands for none.
pub(super) fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}: {}", first_line(text)))
}

/// Each field must be equal to what is wanted; `whole` is what they are fields of, for people.
pub(super) fn judge_fields(
    found: &Value,
    wanted: &[(String, Scalar)],
    whole: &str,
) -> Result<(), String> {
    for (path, wanted) in wanted {
        let found = field(found, path, whole)?;
        if !equal(found, wanted) {
            let wanted = clipped(&wanted.to_string(), VALUE_MAX);
            return Err(format!("{} is {}, wanted {wanted}", name(path), show(found)));
        }
    }
    Ok(())
}

/// The field at a dotted path, which must be there.
pub(super) fn field<'a>(found: &'a Value, path: &str, whole: &str) -> Result<&'a Value, String> {
    reach(found, path).ok_or_else(|| format!("no field {} in the {whole}", name(path)))
}

/// A path, for people.
pub(super) fn name(path: &str) -> String {
    clipped(path, VALUE_MAX)
}

/// What stands at a dotted path: names of fields and, inside lists, places from 0 on. A field whose
/// own name has dots is found, too.
fn reach<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = step(value, path) {
        return Some(found);
    }
    let dots = path.match_indices('.').map(|(at, _)| at);
    dots.into_iter().find_map(|at| reach(step(value, &path[..at])?, &path[at + 1..]))
}

fn step<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Numbers are equal by value, so that 1.0 is 1; nothing else is converted.
fn equal(found: &Value, wanted: &Scalar) -> bool {
    match (found, wanted) {
        (Value::String(found), Scalar::Text(wanted)) => found == wanted,
        (Value::Bool(found), Scalar::Bool(wanted)) => found == wanted,
        (Value::Number(found), Scalar::Integer(wanted)) => match found.as_i64() {
            Some(found) => found == *wanted,
            None => found.as_f64().is_some_and(|found| same(found, *wanted)),
        },
        (Value::Number(found), Scalar::Float(wanted)) => {
            found.as_f64().is_some_and(|found| found.partial_cmp(wanted) == Some(Ordering::Equal))
        }
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            Scalar::Text(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Bool(_),
        ) => false,
    }
}

fn same(found: f64, wanted: i64) -> bool {
    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 2^53 nothing but the same text is equal"
    )]
    let wanted_near = wanted as f64;
    wanted.unsigned_abs() <= 1 << 53 && found.partial_cmp(&wanted_near) == Some(Ordering::Equal)
}

pub(super) fn show(found: &Value) -> String {
    match found {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("\"{}\"", clipped(text, VALUE_MAX)),
        Value::Null | Value::Bool(_) | Value::Number(_) => clipped(&found.to_string(), VALUE_MAX),
    }
}
