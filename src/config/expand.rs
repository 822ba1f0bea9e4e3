//! `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/x}` in the texts of a file.
//!
//! Expansion happens after parsing: what is put in is text, whatever it holds, and never TOML.

use std::path::Path;

use super::source::{Files, Surroundings, joined, reason};
use super::wrong::{Wrong, closest};

/// No text grows longer than this.
const LONGEST: usize = 1 << 20;

/// What could not be expanded, and which part of the text it is.
#[derive(Debug)]
pub(super) struct Unexpanded<'t> {
    pub(super) part: &'t str,
    pub(super) wrong: Wrong,
}

/// Where the values come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) files: Files<'a>,
    /// Relative files start here.
    pub(super) folder: &'a Path,
}

/// Expands all of a text; `$${` is a literal `${`.
pub(super) fn expand<'t>(text: &'t str, values: Values<'_>) -> Result<String, Unexpanded<'t>> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            whole.push_str(&rest[..at - 1]);
            whole.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        whole.push_str(&rest[..at]);
        let Some(length) = rest[at..].find('}') else {
            let wrong = Wrong::hinted(
                "has a `${` without its `}`",
                "write `$${` if the text is to hold a `${`",
            );
            return Err(Unexpanded { part: &rest[at..], wrong });
        };
        let part = &rest[at..=at + length];
        let inner = &part[2..part.len() - 1];
        whole.push_str(&value(inner, values).map_err(|wrong| Unexpanded { part, wrong })?);
        if whole.len() > LONGEST {
            let wrong = Wrong::new("is longer than 1 MiB when it is expanded");
            return Err(Unexpanded { part, wrong });
        }
        rest = &rest[at + length + 1..];
    }
    whole.push_str(rest);
    Ok(whole)
}

fn value(inner: &str, values: Values<'_>) -> Result<String, Wrong> {
    if let Some(file) = inner.strip_prefix("file:") {
        return of_file(file, values);
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_variable(name) {
        return Err(Wrong::hinted(
            format!("cannot expand `${{{inner}}}`: `{name}` is not the name of a variable"),
            "known: `${VAR}`, `${VAR:-default}`, `${file:/path}`; `$${` is a literal `${`",
        ));
    }
    let env = &values.surroundings.env;
    match (env.get(name), default) {
        // As in a shell, `:-` is also for a variable that is empty.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value.clone()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let hint = match closest(name, env.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `${{{near}}}`?"),
                None => format!("set it, or write `${{{name}:-default}}`"),
            };
            Err(Wrong::hinted(
                format!("cannot expand `${{{name}}}`: the variable is not set"),
                hint,
            ))
        }
    }
}

/// Source: POSIX.1-2024, Base Definitions, 3.216 Name.
fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn of_file(file: &str, values: Values<'_>) -> Result<String, Wrong> {
    if file.is_empty() || file.contains('\0') {
        return Err(Wrong::hinted(
            format!("cannot expand `${{file:{file}}}`: it names no file"),
            "write `${file:/run/secrets/name}`",
        ));
    }
    let path = joined(values.folder, file);
    match values.files.read(&path) {
        Ok(text) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
        }
        Err(error) => {
            Err(Wrong::new(format!("cannot expand `${{file:{file}}}`: {}", reason(&error))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    fn try_expand(text: &str) -> Result<String, String> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let env = [("PORT", "8000"), ("EMPTY", ""), ("TRICK", "${PORT}")].map(own).into();
        let surroundings = Surroundings { env, ..Surroundings::default() };
        let secret = (PathBuf::from("/run/secrets/key"), "s3cret\n".to_owned());
        let files = BTreeMap::from([secret]);
        let values = Values {
            surroundings: &surroundings,
            files: Files::Given(&files),
            folder: Path::new("/run"),
        };
        expand(text, values).map_err(|it| format!("{} | {}", it.part, it.wrong.text))
    }

    #[test]
    fn variables_and_files_are_put_in() {
        let cases = [
            ("a${PORT}b${PORT}", "a8000b8000"),
            ("${PORT:-1}", "8000"),
            ("${NONE:-1}${EMPTY:-2}${NONE:-}", "12"),
            ("${EMPTY}", ""),
            ("${file:/run/secrets/key}", "s3cret"),
            ("${file:secrets/key}", "s3cret"),
        ];
        for (text, wanted) in cases {
            assert_eq!(try_expand(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_expansion_stays() {
        let cases = [
            ("$PORT costs 5$", "$PORT costs 5$"),
            ("$${PORT}", "${PORT}"),
            ("$$PORT", "$$PORT"),
            ("$$${PORT}", "$${PORT}"),
            // What was put in is text.
            ("${TRICK}", "${PORT}"),
            ("}{", "}{"),
        ];
        for (text, wanted) in cases {
            assert_eq!(try_expand(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_named() {
        let wrong = |text| try_expand(text).unwrap_err();
        assert_eq!(wrong("x${NONE}"), "${NONE} | cannot expand `${NONE}`: the variable is not set");
        assert_eq!(wrong("${file:/no}"), "${file:/no} | cannot expand `${file:/no}`: no such file");
        assert!(wrong("a ${PORT").starts_with("${PORT | has a `${` without"));
        assert!(wrong("${1x}").contains("not the name of a variable"));
        assert!(wrong("${}").contains("not the name of a variable"));
        assert!(wrong("${file:}").contains("names no file"));
    }
}
