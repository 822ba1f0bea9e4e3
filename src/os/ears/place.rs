//! Where the sockets lie: in the runtime folder, or in a folder of their own where that will not do.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, mkdtemp};

use super::socket::{self, PATH_MAX};
use crate::plan::Name;

/// Others may pass through, and see nothing.
const MODE: u32 = 0o711;

/// Folders that may serve, if the runtime folder does not.
const ELSEWHERE: [&str; 3] = ["/tmp", "/dev/shm", "/var/tmp"];

/// The folders.
#[derive(Debug)]
pub(super) struct Place {
    usual: PathBuf,
    cleared: bool,
    /// Made by keepup, for the case of need.
    spare: Option<PathBuf>,
    /// Sockets made in it.
    count: u64,
}

impl Place {
    pub(super) fn new(runtime_dir: &Path) -> Place {
        Place { usual: runtime_dir.join("notify"), cleared: false, spare: None, count: 0 }
    }

    /// A socket to which this user can send; the error is a whole sentence.
    pub(super) fn make(
        &mut self,
        name: &Name,
        run: u64,
        uid: u32,
    ) -> Result<(PathBuf, OwnedFd), String> {
        let usual = self.usual.join(format!("{name}.{run}"));
        let why = match self.in_usual(&usual, uid) {
            Ok(socket) => return Ok((usual, socket)),
            Err(why) => why,
        };
        let spare = self.spare().and_then(|spare| {
            self.count += 1;
            let path = spare.join(self.count.to_string());
            let socket = socket::make(&path, uid).map_err(io::Error::from)?;
            Ok((path, socket))
        });
        spare.map_err(|error| {
            let usual = usual.display();
            format!("cannot make a socket to hear it by: `{usual}`: {why}; elsewhere: {error}")
        })
    }

    fn in_usual(&mut self, path: &Path, uid: u32) -> Result<OwnedFd, String> {
        let long = path.as_os_str().len();
        if long > PATH_MAX {
            return Err(format!("its path has {long} bytes, and {PATH_MAX} are allowed"));
        }
        let said = |it: io::Error| it.to_string();
        fs::create_dir_all(&self.usual).map_err(said)?;
        if !std::mem::replace(&mut self.cleared, true) {
            // Owned by somebody else it stays as it is.
            let _ = fs::set_permissions(&self.usual, Permissions::from_mode(MODE));
            clear(&self.usual);
        }
        if uid != geteuid().as_raw()
            && let Some(closed) = closed_to_others(&self.usual)
        {
            return Err(format!("others cannot pass through `{}`", closed.display()));
        }
        socket::make(path, uid).map_err(|it| io::Error::from(it).to_string())
    }

    /// A folder with a short name that only keepup can write to.
    fn spare(&mut self) -> io::Result<PathBuf> {
        if let Some(spare) = &self.spare {
            return Ok(spare.clone());
        }
        let own = std::env::temp_dir();
        let own = Some(own).filter(|it| it.as_os_str().as_bytes().len() < PATH_MAX / 2);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for folder in own.into_iter().chain(ELSEWHERE.map(PathBuf::from)) {
            match mkdtemp(&folder.join("keepup-XXXXXX")) {
                Ok(spare) => {
                    fs::set_permissions(&spare, Permissions::from_mode(MODE))?;
                    self.spare = Some(spare.clone());
                    return Ok(spare);
                }
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in self.spare.iter().chain([&self.usual]) {
            // What still has a socket in it stays, and is cleared by the next keepup.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Sockets that an earlier keepup left: nobody hears them.
fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_socket()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The first folder on the way that lets only some through.
fn closed_to_others(folder: &Path) -> Option<&Path> {
    let folders: Vec<&Path> = folder.ancestors().filter(|it| !it.as_os_str().is_empty()).collect();
    let open = |it: &&&Path| fs::metadata(it).is_ok_and(|it| it.mode() & 0o001 != 0);
    folders.iter().rev().find(|it| !open(it)).copied()
}
