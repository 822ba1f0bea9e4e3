//! The birth of a process in a control group, which costs less than to enter one: whoever enters
//! waits until no process of the machine forks or ends.
//!
//! libc has no call for it, so this is the kernel's own, with what the child does first.

#![expect(unsafe_code, reason = "clone3(2) has no wrapper")]

use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::spawner::Handed;

/// Starts a child that borrows this memory, as `Spawner` does; false: it cannot be done here.
#[cfg(target_arch = "x86_64")]
pub(super) fn in_group(group: RawFd, stack: &mut [MaybeUninit<u128>], handed: &Handed<'_>) -> bool {
    // Source: clone3(2); since Linux 5.7.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let flags = [libc::CLONE_VM, libc::CLONE_VFORK].map(|it| u64::from(it.cast_unsigned()));
    let arguments = Arguments {
        flags: flags[0] | flags[1] | CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: stack.as_mut_ptr().addr() as u64,
        stack_size: size_of_val(stack) as u64,
        cgroup: u64::from(group.cast_unsigned()),
        ..Arguments::default()
    };
    // SAFETY: as in `Spawner`: this thread stands still, and what is handed over lives, until the
    // child uses neither any more; the stack is aligned and nobody else's.
    unsafe { call(&arguments, handed) > 0 }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn in_group(_: RawFd, _: &mut [MaybeUninit<u128>], _: &Handed<'_>) -> bool {
    false
}

/// Source: `clone3(2)`.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
#[derive(Debug, Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The child's pid, or an error number below zero. The child, which has nothing on its stack, calls
/// `enter` and never comes back.
#[cfg(target_arch = "x86_64")]
unsafe fn call(arguments: &Arguments, handed: &Handed<'_>) -> i64 {
    let result;
    // SAFETY: the caller's. The child has copies of all registers.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<Arguments>(),
            in("r12") super::spawner::enter as extern "C" fn(*mut libc::c_void) -> libc::c_int,
            in("r13") std::ptr::from_ref(handed),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}
