//! Who a service runs as.
//!
//! Must be looked up before the fork: nothing that may allocate or read a file is allowed after.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};

use crate::plan::Service;

/// A user and a group, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Option<libc::uid_t>,
    pub(super) gid: libc::gid_t,
    /// The supplementary groups; `None`: as keepup's own.
    pub(super) groups: Option<Vec<libc::gid_t>>,
}

/// What a login of the user would set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
}

/// What the user and group of a plan stand for. No identity: that of keepup itself.
pub(super) fn look_up(
    user: Option<&str>,
    group: Option<&str>,
) -> Result<(Option<Identity>, Option<Login>), String> {
    let found = user.map(find_user).transpose()?;
    let group = group.map(find_group).transpose()?;
    let identity = match (&found, group) {
        (None, None) => None,
        (None, Some(gid)) => Some(Identity { uid: None, gid: gid.as_raw(), groups: None }),
        (Some((uid, entry)), group) => {
            // A number without an entry brings no group: the one of the same number is its own.
            let own = entry.as_ref().map_or(Gid::from_raw(uid.as_raw()), |it| it.gid);
            let gid = group.unwrap_or(own);
            let groups = supplementary(entry.as_ref(), gid)?;
            Some(Identity { uid: Some(uid.as_raw()), gid: gid.as_raw(), groups: Some(groups) })
        }
    };
    let login = found.and_then(|(_, entry)| entry).map(|entry| Login {
        name: entry.name,
        home: entry.dir,
        shell: entry.shell,
    });
    // Without privileges nobody can become anybody, but need not, either, to stay who they are.
    let same = |it: &Identity| {
        it.uid.is_none_or(|uid| uid == geteuid().as_raw()) && it.gid == getegid().as_raw()
    };
    Ok((identity.filter(|it| geteuid().is_root() || !same(it)), login))
}

fn find_user(user: &str) -> Result<(Uid, Option<User>), String> {
    let failed = |error| format!("cannot look up user `{user}`: {error}");
    if let Some(entry) = User::from_name(user).map_err(failed)? {
        return Ok((entry.uid, Some(entry)));
    }
    let number = user.parse().map_err(|_| format!("there is no user `{user}`"))?;
    let uid = Uid::from_raw(number);
    Ok((uid, User::from_uid(uid).map_err(failed)?))
}

fn find_group(group: &str) -> Result<Gid, String> {
    let failed = |error| format!("cannot look up group `{group}`: {error}");
    if let Some(entry) = Group::from_name(group).map_err(failed)? {
        return Ok(entry.gid);
    }
    group.parse().map(Gid::from_raw).map_err(|_| format!("there is no group `{group}`"))
}

fn supplementary(entry: Option<&User>, gid: Gid) -> Result<Vec<libc::gid_t>, String> {
    let Some(entry) = entry else { return Ok(vec![gid.as_raw()]) };
    let failed = |error: String| format!("cannot look up the groups of `{}`: {error}", entry.name);
    let name = CString::new(entry.name.clone()).map_err(|error| failed(error.to_string()))?;
    let groups = getgrouplist(&name, gid).map_err(|error| failed(error.to_string()))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Who the pipes of a service belong to, where that is not keepup itself: `/dev/stdout` must be
/// theirs to open.
pub fn owner(service: &Service) -> Option<(u32, u32)> {
    let (identity, _) = look_up(service.user.as_deref(), service.group.as_deref()).ok()?;
    let identity = identity?;
    Some((identity.uid.unwrap_or_else(|| geteuid().as_raw()), identity.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_and_what_is_missing() {
        let (identity, login) = look_up(Some("0"), None).unwrap();
        assert!(identity.is_none_or(|it| it.uid == Some(0) && it.gid == 0));
        assert_eq!(login.unwrap().name, "root");
        let (identity, login) = look_up(Some("54321"), Some("54322")).unwrap();
        let wanted = Identity { uid: Some(54321), gid: 54322, groups: Some(vec![54322]) };
        assert_eq!((identity, login), (Some(wanted), None));
        let missing = |user, group| look_up(user, group).unwrap_err();
        assert_eq!(missing(Some("no-such"), None), "there is no user `no-such`");
        assert_eq!(missing(None, Some("no-such")), "there is no group `no-such`");
    }
}
