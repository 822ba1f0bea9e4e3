//! Where text comes from: files and their places, and the world that a file refers to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use super::problem::Place;

/// The longest file that is read; a configuration is a few kilobytes.
pub(super) const FILE_MAX: u64 = 4 << 20;

/// What a plan depends on besides the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the process")]
pub struct Surroundings {
    /// The environment; what is not Unicode is left out.
    pub env: BTreeMap<String, String>,
    /// keepup runs as root.
    pub root: bool,
    /// keepup is PID 1.
    pub pid1: bool,
    /// keepup runs in Kubernetes, which kills after 30 s rather than Docker's 10.
    pub kubernetes: bool,
    /// The default of `logs.console`: somebody reads keepup's stdout.
    pub console: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Surroundings {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let env: BTreeMap<String, String> = std::env::vars_os().filter_map(unicode).collect();
        let pid1 = std::process::id() == 1;
        Surroundings {
            root: nix::unistd::geteuid().is_root(),
            pid1,
            kubernetes: env.contains_key("KUBERNETES_SERVICE_HOST"),
            console: pid1 || io::stdout().is_terminal() || env.contains_key("JOURNAL_STREAM"),
            env,
        }
    }

    /// Where state lives, unless the file says so.
    pub(super) fn state_dir(&self, name: &str) -> PathBuf {
        let home = || Some(self.home()?.join(".local/state"));
        self.folder("STATE_DIRECTORY")
            .or_else(|| self.root.then(|| Path::new("/var/lib").join(name)))
            .or_else(|| Some(self.absolute("XDG_STATE_HOME").or_else(home)?.join(name)))
            .unwrap_or_else(|| Path::new("/tmp").join(name).join("state"))
    }

    /// Where the control socket lives, unless the file says so.
    pub(super) fn runtime_dir(&self, name: &str) -> PathBuf {
        let beside_state = || self.home().map(|_| self.state_dir(name).join("run"));
        self.folder("RUNTIME_DIRECTORY")
            .or_else(|| self.root.then(|| Path::new("/run").join(name)))
            .or_else(|| Some(self.absolute("XDG_RUNTIME_DIR")?.join(name)))
            .or_else(beside_state)
            .unwrap_or_else(|| Path::new("/tmp").join(name))
    }

    /// Where logs are written, unless the file says so.
    pub(super) fn log_dir(&self, name: &str, state_dir: &Path) -> PathBuf {
        self.folder("LOGS_DIRECTORY")
            .or_else(|| self.root.then(|| Path::new("/var/log").join(name)))
            .unwrap_or_else(|| state_dir.join("logs"))
    }

    /// A folder that systemd made for us; of several, the first.
    ///
    /// Source: systemd.exec(5), `RuntimeDirectory=`: several are separated by colons.
    fn folder(&self, variable: &str) -> Option<PathBuf> {
        let first = self.env.get(variable)?.split(':').next()?;
        Path::new(first).is_absolute().then(|| PathBuf::from(first))
    }

    /// Source: XDG Base Directory Specification: a relative path is invalid and ignored.
    fn absolute(&self, variable: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.env.get(variable)?);
        path.is_absolute().then_some(path)
    }

    /// The home folder; a user without one (in a container) has `/`.
    fn home(&self) -> Option<PathBuf> {
        self.absolute("HOME").filter(|home| home != Path::new("/"))
    }
}

/// The files that a configuration refers to: includes and `${file:…}`.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// Those of the disk.
    Disk,
    /// These, by their path, and no others.
    Given(&'a BTreeMap<PathBuf, String>),
}

impl Files<'_> {
    /// The text of a file.
    pub(super) fn read(self, path: &Path) -> io::Result<String> {
        match self {
            Files::Disk => read_disk(path),
            Files::Given(files) => {
                files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// The files in a folder, sorted.
    pub(super) fn list(self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = match self {
            Files::Disk => {
                let entries = fs::read_dir(folder)?;
                entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?
            }
            Files::Given(files) => {
                files.keys().filter(|it| it.parent() == Some(folder)).cloned().collect()
            }
        };
        paths.sort();
        Ok(paths)
    }
}

fn read_disk(path: &Path) -> io::Result<String> {
    // A fifo would block, and a device has no end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other("longer than 4 MiB"));
    }
    String::from_utf8(text).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&b| b == b'\n');
        io::Error::other(format!("not UTF-8 in line {}", line.count()))
    })
}

/// What went wrong with a file, in few words.
pub(super) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "no such file".to_owned()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "permission denied".to_owned()
    } else {
        error.to_string()
    }
}

/// A text whose places are reported.
#[derive(Debug)]
pub(super) struct Source {
    /// As it was named.
    pub(super) name: String,
    /// Relative paths in it start here.
    pub(super) folder: PathBuf,
    /// All of it.
    pub(super) text: String,
    /// The how manieth file it is.
    pub(super) number: usize,
    pub(super) kind: SourceKind,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// A file.
    File,
    /// Arguments; the shell has expanded what there was to expand.
    CommandLine,
}

impl Source {
    pub(super) fn place(&self, span: Span) -> Place {
        Place::of(&self.name, self.number, &self.text, span.start, span.end)
    }
}

/// Bytes of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span { start: range.start, end: range.end }
    }
}

/// An absolute path without `.` in it.
pub(super) fn joined(folder: &Path, path: impl AsRef<Path>) -> PathBuf {
    folder.join(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(root: bool, env: &[(&str, &str)]) -> Surroundings {
        let own = |it: &(&str, &str)| (it.0.to_owned(), it.1.to_owned());
        Surroundings { root, env: env.iter().map(own).collect(), ..Surroundings::default() }
    }

    fn folders(root: bool, env: &[(&str, &str)]) -> [String; 3] {
        let it = surroundings(root, env);
        let state = it.state_dir("k");
        let log = it.log_dir("k", &state);
        [state, it.runtime_dir("k"), log].map(|path| path.display().to_string())
    }

    #[test]
    fn root_has_the_system_folders() {
        assert_eq!(folders(true, &[("HOME", "/root")]), ["/var/lib/k", "/run/k", "/var/log/k"]);
    }

    #[test]
    fn systemd_says_where() {
        let env = [
            ("STATE_DIRECTORY", "/var/lib/x:/var/lib/y"),
            ("RUNTIME_DIRECTORY", "/run/x"),
            ("LOGS_DIRECTORY", "/var/log/x"),
        ];
        assert_eq!(folders(true, &env), ["/var/lib/x", "/run/x", "/var/log/x"]);
        assert_eq!(folders(false, &env), ["/var/lib/x", "/run/x", "/var/log/x"]);
    }

    #[test]
    fn a_user_has_folders_of_the_user() {
        assert_eq!(
            folders(false, &[("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")]),
            ["/s/k", "/r/k", "/s/k/logs"]
        );
        assert_eq!(
            folders(false, &[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "relative")]),
            ["/home/u/.local/state/k", "/home/u/.local/state/k/run", "/home/u/.local/state/k/logs"]
        );
        assert_eq!(
            folders(false, &[("HOME", "/")]),
            ["/tmp/k/state", "/tmp/k", "/tmp/k/state/logs"]
        );
    }
}
