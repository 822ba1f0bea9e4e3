//! `keepup init`: a supervisor.toml to start from.
//!
//! Never overwrites a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The name of the file that is written.
pub const FILE: &str = "supervisor.toml";

/// The file that is written.
pub const TEMPLATE: &str = include_str!("supervisor.toml");

/// Writes [`TEMPLATE`] into a folder; the exit code.
pub fn run(dir: &Path, out: &mut impl Write, err: &mut impl Write) -> u8 {
    let path = dir.join(FILE);
    let created = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = created.and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
    // The file is what counts; that nobody reads what is said about it does not matter.
    match written {
        Ok(()) => {
            let _ = writeln!(
                out,
                "wrote {FILE}: set `command` in it, then say `keepup check` and `keepup run`"
            );
            0
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let path = path.display();
            let _ = writeln!(err, "cannot write `{path}`: it exists already");
            let _ = writeln!(err, "hint: `keepup check` says what stands in it");
            1
        }
        Err(error) => {
            let _ = writeln!(err, "cannot write `{}`: {error}", path.display());
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Files, Surroundings};

    use super::*;

    #[test]
    fn the_template_is_accepted_without_a_warning() {
        let surroundings = Surroundings { root: true, ..Surroundings::default() };
        let files = std::collections::BTreeMap::new();
        let path = Path::new("/srv/supervisor.toml");
        let checked = config::read(TEMPLATE, path, &surroundings, Files::Given(&files));
        let checked = checked.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(checked.warnings, []);
    }

    /// Everything that is commented out is also right, so that people may uncomment it.
    #[test]
    fn the_template_is_accepted_with_everything_uncommented() {
        let example = |line: &str| {
            let rest = line.strip_prefix("# ")?;
            let key = rest.split([' ', '=', '[']).next().unwrap_or_default();
            let is_key =
                rest.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            (rest.starts_with('[') || is_key).then(|| rest.to_owned())
        };
        let text: Vec<String> =
            TEMPLATE.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned())).collect();
        let text = text.join("\n");
        assert!(text.lines().filter(|line| line.starts_with('[')).count() >= 5, "{text}");
        let surroundings = Surroundings { root: true, ..Surroundings::default() };
        let files = std::collections::BTreeMap::new();
        let path = Path::new("/srv/supervisor.toml");
        let checked = config::read(&text, path, &surroundings, Files::Given(&files));
        let checked = checked.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!(checked.warnings, []);
    }
}
