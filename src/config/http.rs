//! The keys of an HTTP probe.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::address::{self, Scheme};
use super::probe::status;
use super::section::{Layer, Section};
use super::trust;
use super::value::Value;
use super::wrong::Wrong;
use crate::plan::{HttpAddress, HttpProbe, Scalar};

/// Headers that follow from the request itself.
const OWN_HEADERS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

/// Reads the keys, wherever they stand; nothing if there is no `http`, or if a key is wrong.
pub(super) fn read(section: &Section<'_>) -> Option<HttpProbe> {
    let url = section.maybe("http", address::url);
    let method = section.or("method", "GET".to_owned(), method);
    let headers = headers(&section.section("headers"));
    let body = section.maybe("body", Value::text);
    let status = section.or("status", vec![200..=399], status);
    let contains = section.maybe("contains", Value::full_text);
    let json = section.or("json", Vec::new(), |it| json(it.table()?));
    let trust = trust::read(section);
    let url = url??;
    if url.scheme != Scheme::Https {
        trust::refuse(section, "is for https:// URLs");
    }
    let address = match (url.scheme, url.address) {
        (Scheme::Https, HttpAddress::Tcp(host, port)) => HttpAddress::Tls(host, port, trust?),
        (_, address) => address,
    };
    let mut headers = headers?;
    let host = headers.remove("host");
    Some(HttpProbe {
        url: url.written,
        address,
        path: url.path,
        host: host.map_or(url.host, |it| it.1),
        method: method?,
        headers: headers.into_values().collect(),
        body: body?,
        status: status?,
        contains: contains?,
        json: json?,
    })
}

/// Source: RFC 9110, section 5.6.2: a token.
fn is_token(text: &str) -> bool {
    let mark = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || mark(b))
}

fn method(value: Value<'_>) -> Option<String> {
    let text = value.full_text()?;
    if !is_token(&text) {
        value.refuse(Wrong::new(format!("must be an HTTP method, found `{text}`")));
        return None;
    }
    Some(text.to_ascii_uppercase())
}

/// The headers, under their names in lower case, which is what makes two of them the same.
fn headers(section: &Section<'_>) -> Option<BTreeMap<String, (String, String)>> {
    let read = |it: Value<'_>| {
        let text = it.text();
        let lower = it.key.to_ascii_lowercase();
        if !is_token(it.key) {
            it.refuse(Wrong::new("is not the name of a header"));
            return None;
        }
        if OWN_HEADERS.contains(&lower.as_str()) {
            it.refuse(Wrong::new("is a header that keepup sets itself"));
            return None;
        }
        let text = text?;
        // Source: RFC 9110, section 5.5: no CR, LF or NUL, and nothing but what is visible.
        if !text.chars().all(|c| c == '\t' || (!c.is_control())) {
            it.refuse(Wrong::new("holds a line end or another control character"));
            return None;
        }
        Some((lower, (it.key.to_owned(), text.trim().to_owned())))
    };
    let entries: Vec<Option<_>> = section.entries().into_iter().map(read).collect();
    entries.into_iter().collect()
}

/// The fields that a JSON body must have. Tables inside are paths, too: `a.b = 1` is `"a.b" = 1`.
pub(super) fn json(layer: Layer<'_>) -> Option<Vec<(String, Scalar)>> {
    fields(layer, scalar)
}

/// The fields, and what `read` makes of the value of each.
pub(super) fn fields<'t, T>(
    layer: Layer<'t>,
    read: fn(Value<'t>) -> Option<T>,
) -> Option<Vec<(String, T)>> {
    let mut fields = Vec::new();
    fields_of(layer, "", read, &mut fields);
    fields.into_iter().collect()
}

fn fields_of<'t, T>(
    layer: Layer<'t>,
    prefix: &str,
    read: fn(Value<'t>) -> Option<T>,
    fields: &mut Vec<Option<(String, T)>>,
) {
    for value in layer.entries() {
        let path = format!("{prefix}{}", value.key);
        match value.item {
            DeValue::Table(table) => {
                let layer = Layer { at: value.at, table };
                fields_of(layer, &format!("{path}."), read, fields);
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                if path.split('.').any(str::is_empty) {
                    let wrong = "is a path with nothing between its dots";
                    value.refuse(Wrong::new(wrong));
                }
                fields.push(read(value).map(|it| (path, it)));
            }
        }
    }
}

fn scalar(value: Value<'_>) -> Option<Scalar> {
    match value.item {
        DeValue::String(_) => value.text().map(Scalar::Text),
        DeValue::Integer(_) => value.whole(i64::MIN..=i64::MAX).map(Scalar::Integer),
        DeValue::Float(_) => value.number(f64::MIN..=f64::MAX).map(Scalar::Float),
        DeValue::Boolean(truth) => Some(Scalar::Bool(*truth)),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            value.must_be("a text, a number, true or false", None);
            None
        }
    }
}
