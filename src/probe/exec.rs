//! `exec`: what a command's end says about a service.
//!
//! Spawning, killing and reaping it is the part of `os`; nothing here touches a process.

use super::miss;
use crate::core::event::{Answer, Exit};
use crate::net::client::words::{first_line, one_line};
use crate::plan::Class;

/// Exit code 0 passes. A miss tells how the command ended and the first line it wrote, or why it
/// could not be started.
pub fn judge(exit: Result<Exit, String>, output: &[u8]) -> Answer {
    let text = match exit {
        Ok(Exit::Code(0)) => return Answer::Pass,
        Ok(exit) => {
            let line = first_line(output);
            if line.is_empty() { exit.to_string() } else { one_line(&format!("{exit}: {line}")) }
        }
        Err(reason) if reason.trim().is_empty() => "cannot start the command".to_owned(),
        Err(reason) => one_line(reason.trim()),
    };
    miss(Class::Other, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Miss;
    use crate::plan::Signal;

    fn text(exit: Result<Exit, String>, output: &[u8]) -> String {
        match judge(exit, output) {
            Answer::Miss(Miss { class: Class::Other, text }) => text,
            other @ (Answer::Pass | Answer::Miss(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn exit_code_0_passes_whatever_it_wrote() {
        assert_eq!(judge(Ok(Exit::Code(0)), b"no response"), Answer::Pass);
    }

    #[test]
    fn a_miss_tells_the_end_and_the_first_line() {
        assert_eq!(
            text(Ok(Exit::Code(2)), b"\n/tmp:5432 - no response\nmore\n"),
            "exit code 2: /tmp:5432 - no response"
        );
        assert_eq!(text(Ok(Exit::Code(1)), b""), "exit code 1");
        let killed = Exit::Signal { signal: Signal::KILL, core_dumped: false };
        assert_eq!(text(Ok(killed), b"\x1b[31mbad\x00"), "killed by SIGKILL: \\u{1b}[31mbad\\u{0}");
        let long = text(Ok(Exit::Code(3)), &vec![b'x'; 100_000]);
        assert_eq!(long.chars().count(), 200);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_command_that_cannot_be_started_says_why() {
        let reason = "cannot run `pg_isready`: not found in PATH";
        assert_eq!(text(Err(reason.to_owned()), b""), reason);
        assert_eq!(text(Err(" \n".to_owned()), b""), "cannot start the command");
        assert_eq!(text(Err("a\nb".to_owned()), b""), "a\\nb");
    }
}
