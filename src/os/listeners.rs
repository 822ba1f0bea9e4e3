//! Who listens: the TCP sockets as `/proc/PID/net/tcp` and `tcp6` show them, and their holders.
//!
//! Not for the loop: there may be many processes to look through.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::procfs;
use crate::core::event::Pid;

/// The kernel lists what listens first. After so many lines of other sockets in a row nothing more
/// is to be expected; a busy server has hundreds of thousands of them.
const OTHERS_MAX: usize = 4096;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
}

/// What listens in the network that this process sees.
pub(crate) fn listeners(pid: Pid) -> io::Result<Vec<Listener>> {
    let mut found = read(pid, "tcp")?;
    match read(pid, "tcp6") {
        Ok(more) => found.extend(more),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Who listens at this port of the network that keepup itself sees, for people: `pid 812 (nginx) at
/// 0.0.0.0:8000`; `None` if nobody does. Reads `/proc` of every process: not for the loop.
pub(crate) fn holder(port: u16) -> Option<String> {
    let own = Pid(i32::try_from(std::process::id()).ok()?);
    let there = listeners(own).ok()?.into_iter().filter(|it| it.address.port() == port);
    let there: Vec<Listener> = there.collect();
    let first = there.first()?;
    let inodes = there.iter().map(|it| it.inode).collect();
    let found = procfs::all().find_map(|pid| Some((pid, holds(pid, &inodes)?)));
    Some(match found {
        Some((pid, inode)) => {
            let at = there.iter().find(|it| it.inode == inode).unwrap_or(first).address;
            format!("{} at {at}", shown(pid))
        }
        None => format!("a process of uid {} at {}", first.uid, first.address),
    })
}

fn read(pid: Pid, table: &str) -> io::Result<Vec<Listener>> {
    let file = BufReader::new(File::open(format!("/proc/{pid}/net/{table}"))?);
    let mut found = Vec::new();
    let mut others = 0;
    for line in file.lines().skip(1) {
        match parse(&line?) {
            Some(listener) => {
                others = 0;
                found.push(listener);
            }
            None => others += 1,
        }
        if others > OTHERS_MAX {
            break;
        }
    }
    Ok(found)
}

/// Source: `proc_pid_net(5)`; the state 0A is `TCP_LISTEN`.
fn parse(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    Some(Listener {
        address: address(fields.get(1)?)?,
        inode: fields.get(9)?.parse().ok()?,
        uid: fields.get(7)?.parse().ok()?,
    })
}

/// A line of `/proc/PID/net/tcp` and its like for people: the inode, and `tcp 10.0.0.2:4711 →
/// 10.0.0.5:5432`. `kind`: the name of the table.
pub(crate) fn described(line: &str, kind: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let inode = fields.get(9)?.parse().ok()?;
    let kind = kind.trim_end_matches('6');
    // Source: the kernel's `include/net/tcp_states.h`.
    let state = match *fields.get(3)? {
        "0A" if kind == "tcp" => return Some((inode, format!("{kind} listens at {local}"))),
        "02" => ", not answered yet",
        "08" => ", closed by the peer",
        _ => "",
    };
    if remote.port() == 0 {
        return Some((inode, format!("{kind} {local}")));
    }
    Some((inode, format!("{kind} {local} → {remote}{state}")))
}

/// Words of 32 bits as they lie in memory, in hexadecimal; then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            // An IPv4 address may be dressed up as one of IPv6.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// One of these sockets that a process holds; none, too, where keepup may not look.
pub(crate) fn holds(pid: Pid, inodes: &HashSet<u64>) -> Option<u64> {
    if inodes.is_empty() {
        return None;
    }
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    files.flatten().find_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        inodes.contains(&inode).then_some(inode)
    })
}

/// A process, for people: `pid 812 (nginx)`.
pub(crate) fn shown(pid: Pid) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    match name.trim_end() {
        "" => format!("pid {pid}"),
        name => format!("pid {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn own() -> Pid {
        Pid(i32::try_from(std::process::id()).unwrap())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_are_read_as_they_lie_in_memory() {
        let read = |text: &str| address(text).map(|it| it.to_string());
        assert_eq!(read("0100007F:1F40").as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(read("00000000:0050").as_deref(), Some("0.0.0.0:80"));
        assert_eq!(read("00000000000000000000000001000000:1F40").as_deref(), Some("[::1]:8000"));
        assert_eq!(
            read("0000000000000000FFFF00000100007F:1F40").as_deref(),
            Some("127.0.0.1:8000")
        );
        for bad in ["", ":", "0100007F", "0100007F:1F400", "01:1", "ääää:1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_are_shown_with_both_ends() {
        let line = |state: &str, remote: &str| {
            let rest = "00000000:00000000 00:00000000 00000000     0        0 4242 1 x";
            described(&format!("   0: 0100007F:1F40 {remote} {state} {rest}"), "tcp6").unwrap()
        };
        let peer = "0500000A:1538";
        assert_eq!(line("0A", "00000000:0000"), (4242, "tcp listens at 127.0.0.1:8000".to_owned()));
        assert_eq!(line("01", peer).1, "tcp 127.0.0.1:8000 → 10.0.0.5:5432");
        assert_eq!(line("08", peer).1, "tcp 127.0.0.1:8000 → 10.0.0.5:5432, closed by the peer");
        assert_eq!(described("sl local_address rem_address", "tcp"), None);
    }

    #[test]
    fn what_listens_here_is_found() {
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // There may be no IPv6.
            let Ok(socket) = TcpListener::bind(at) else { continue };
            let address = socket.local_addr().unwrap();
            let found = listeners(own()).unwrap();
            let found = found.iter().find(|it| it.address == address);
            let inodes = HashSet::from([found.expect("it listens").inode]);
            assert_eq!(holds(own(), &inodes), inodes.iter().next().copied());
            let holder = holder(address.port()).unwrap();
            assert!(holder.starts_with("pid "), "{holder}");
            assert!(holder.ends_with(&format!(") at {address}")), "{holder}");
            drop(socket);
            // Nothing is said of the address: what another test starts holds it until its exec.
            assert_eq!(holds(own(), &inodes), None);
        }
    }
}
