//! System calls that programs wait in, by name, and the file they are about.
//!
//! Source: `proc_pid_syscall(5)`.

/// Whether the first argument is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    File,
    Else,
}

/// Calls that a thread may be found in. What is not here is shown by its number.
const CALLS: &[(libc::c_long, &str, First)] = &[
    (libc::SYS_read, "read", First::File),
    (libc::SYS_write, "write", First::File),
    (libc::SYS_readv, "readv", First::File),
    (libc::SYS_writev, "writev", First::File),
    (libc::SYS_pread64, "pread", First::File),
    (libc::SYS_pwrite64, "pwrite", First::File),
    (libc::SYS_recvfrom, "recvfrom", First::File),
    (libc::SYS_recvmsg, "recvmsg", First::File),
    (libc::SYS_sendto, "sendto", First::File),
    (libc::SYS_sendmsg, "sendmsg", First::File),
    (libc::SYS_connect, "connect", First::File),
    (libc::SYS_accept, "accept", First::File),
    (libc::SYS_accept4, "accept4", First::File),
    (libc::SYS_fsync, "fsync", First::File),
    (libc::SYS_fdatasync, "fdatasync", First::File),
    (libc::SYS_flock, "flock", First::File),
    (libc::SYS_fcntl, "fcntl", First::File),
    (libc::SYS_ioctl, "ioctl", First::File),
    (libc::SYS_epoll_pwait, "epoll_pwait", First::File),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", First::File),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", First::Else),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", First::Else),
    (libc::SYS_ppoll, "ppoll", First::Else),
    (libc::SYS_pselect6, "pselect6", First::Else),
    (libc::SYS_futex, "futex", First::Else),
    (libc::SYS_nanosleep, "nanosleep", First::Else),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", First::Else),
    (libc::SYS_wait4, "wait4", First::Else),
    (libc::SYS_waitid, "waitid", First::Else),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", First::Else),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", First::Else),
    (libc::SYS_openat, "openat", First::Else),
    (libc::SYS_newfstatat, "newfstatat", First::Else),
    (libc::SYS_restart_syscall, "restart_syscall", First::Else),
];

/// The call in words: `read of fd 7`; nothing while it runs outside the kernel.
pub(super) fn shown(text: &str) -> Option<String> {
    let mut fields = text.split_ascii_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    // Blocked, but in no call.
    if number < 0 {
        return None;
    }
    let first = fields.next()?.strip_prefix("0x")?;
    let first = u64::from_str_radix(first, 16).ok()?;
    Some(match CALLS.iter().find(|it| it.0 == number) {
        Some((_, name, First::File)) => format!("{name} of fd {first}"),
        Some((_, name, First::Else)) => (*name).to_owned(),
        None => format!("system call {number}"),
    })
}

/// The file that a call in words is about.
pub(super) fn file_of(call: &str) -> Option<i32> {
    call.split_once(" of fd ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_with_its_file() {
        let number = libc::SYS_read;
        let read = shown(&format!("{number} 0x7 0x7ffe 0x1 0x0 0x0 0x0 0x7ffe 0x7f27")).unwrap();
        assert_eq!((read.as_str(), file_of(&read)), ("read of fd 7", Some(7)));
        let futex = shown(&format!("{} 0x55 0x0 0x0", libc::SYS_futex)).unwrap();
        assert_eq!((futex.as_str(), file_of(&futex)), ("futex", None));
        assert_eq!(shown("9999 0x1").as_deref(), Some("system call 9999"));
        for none in ["running", "-1 0x7ffe 0x7f27", "", "7"] {
            assert_eq!(shown(none), None, "{none}");
        }
    }
}
