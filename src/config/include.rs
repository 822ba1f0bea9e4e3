//! `include = ["services/*.toml"]`: further files, in one folder each, with services.

use std::path::{Path, PathBuf};

use super::source::{Source, SourceKind, joined, reason};
use super::value::Value;
use super::wrong::Wrong;

/// More files than anybody splits a configuration into.
const FILES_MAX: usize = 1000;

/// Reads the files that are included; those of a pattern are sorted, and each is read once.
pub(super) fn read(value: Value<'_>, main: &Path) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let mut seen = vec![main.to_owned()];
    for pattern in value.list().unwrap_or_default() {
        for path in matching(pattern).unwrap_or_default() {
            if seen.contains(&path) {
                continue;
            }
            if sources.len() == FILES_MAX {
                let wrong = format!("includes more than {FILES_MAX} files");
                pattern.refuse(Wrong::new(wrong));
                return sources;
            }
            if let Some(source) = source(pattern, &path, sources.len() + 1) {
                sources.push(source);
            }
            seen.push(path);
        }
    }
    sources
}

fn source(pattern: Value<'_>, path: &Path, number: usize) -> Option<Source> {
    match pattern.at.reading.files.read(path) {
        Ok(text) => Some(Source {
            name: shown(pattern, path),
            folder: path.parent().unwrap_or(path).to_owned(),
            text,
            number,
            kind: SourceKind::File,
        }),
        Err(error) => {
            let wrong = format!("cannot read `{}`: {}", path.display(), reason(&error));
            pattern.at.refuse(Wrong::new(wrong));
            None
        }
    }
}

/// The included file named as the including one was named: relative if that was.
fn shown(pattern: Value<'_>, path: &Path) -> String {
    let source = pattern.at.source;
    let parent = Path::new(&source.name).parent().unwrap_or(Path::new(""));
    match path.strip_prefix(&source.folder) {
        Ok(rest) => parent.join(rest).display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

/// The files of a pattern; nothing if it is wrong, and reported.
fn matching(pattern: Value<'_>) -> Option<Vec<PathBuf>> {
    let text = pattern.full_text()?;
    let path = joined(&pattern.at.source.folder, &text);
    let Some(name) = path.file_name().map(|it| it.to_string_lossy().into_owned()) else {
        pattern.refuse(Wrong::new(format!("must name files, found `{text}`")));
        return None;
    };
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.to_string_lossy().contains(['*', '?']) {
        pattern.refuse(Wrong::hinted(
            format!("can have `*` and `?` in the last part only, found `{text}`"),
            "write one pattern for each folder",
        ));
        return None;
    }
    if !name.contains(['*', '?']) {
        return Some(vec![path]);
    }
    match pattern.at.reading.files.list(folder) {
        Ok(mut paths) => {
            let named = |path: &PathBuf| {
                let file = path.file_name().map(|it| it.to_string_lossy().into_owned());
                file.is_some_and(|file| glob(&name, &file))
            };
            paths.retain(named);
            Some(paths)
        }
        Err(error) => {
            let wrong = format!("cannot list `{}`: {}", folder.display(), reason(&error));
            pattern.at.refuse(Wrong::new(wrong));
            None
        }
    }
}

/// `*` is any text and `?` any character; hidden files are left out unless named.
fn glob(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go back to: the last `*`, and what it has swallowed so far.
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => match back {
                Some((star, swallowed)) => {
                    back = Some((star, swallowed + 1));
                    p = star + 1;
                    n = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("*", "x"),
            ("a?c", "abc"),
            ("*a*b*", "xxaxxbxx"),
            ("*ab", "aab"),
            (".*", ".x"),
        ] {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.toml", "a.toml~"), ("*", ".x"), ("a?c", "ac"), ("*ab", "aba"), ("x", "xx")]
        {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }
}
