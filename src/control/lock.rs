//! The lock against a second keepup in the same state folder.
//!
//! The kernel holds it for as long as the process lives: it can not be stale.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why the lock is not to be had.
#[derive(Debug)]
pub enum LockError {
    /// Another keepup holds it; its pid, if it wrote that down.
    Held { path: PathBuf, pid: Option<u32> },
    /// The folder or the file can not be written to.
    Unusable { path: PathBuf, source: io::Error },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { path, pid } => {
                f.write_str("cannot start: another keepup")?;
                if let Some(pid) = pid {
                    write!(f, ", pid {pid},")?;
                }
                write!(f, " holds `{}`", path.display())
            }
            LockError::Unusable { path, source } => {
                write!(f, "cannot lock `{}`: {source}", path.display())
            }
        }
    }
}

impl error::Error for LockError {}

/// Takes `<state_dir>/lock`, and makes the folder if it is not there. Call it before anything of
/// the folder is read.
pub fn lock(state_dir: &Path) -> Result<Lock, LockError> {
    let path = state_dir.join("lock");
    let unusable = |source| LockError::Unusable { path: path.clone(), source };
    fs::create_dir_all(state_dir).map_err(unusable)?;
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(unusable)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // The lock counts, with or without a pid in it.
            let _ = sign(&mut file);
            Ok(Lock { _file: file })
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(LockError::Held { path, pid })
        }
        Err((_, errno)) => Err(unusable(errno.into())),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::scratch::Scratch;

    #[test]
    fn a_second_keepup_is_refused_and_told_who_the_first_is() {
        let dir = Scratch::new();
        let state = dir.path().join("deep/state");
        let first = lock(&state).unwrap();
        let me = std::process::id();
        let error = lock(&state).unwrap_err();
        let path = state.join("lock");
        assert_eq!(
            error.to_string(),
            format!("cannot start: another keepup, pid {me}, holds `{}`", path.display())
        );
        drop(first);
        lock(&state).unwrap();
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_another_matter() {
        let dir = Scratch::new();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = lock(&file.join("state")).unwrap_err();
        assert!(matches!(error, LockError::Unusable { .. }), "{error}");
    }
}
