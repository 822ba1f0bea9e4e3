//! `KEEPUP_RUN`, the variable that tells whose a process is, however far it strayed.
//!
//! Its value is `<keepup>/<service>/<run>`; since keepups nest, each appends its own with a `:`.

use crate::core::event::Pid;

/// The variable.
pub(crate) const VARIABLE: &str = "KEEPUP_RUN";

/// One keepup, different from every other of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keepup(String);

impl Keepup {
    pub(super) fn new(pid_namespace: u64, pid: Pid, start_time: u64) -> Keepup {
        Keepup(format!("{pid_namespace}-{pid}-{start_time}"))
    }

    /// As it stands in marks.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// A number for it, seldom that of another.
    pub(super) fn number(&self) -> u64 {
        // FNV-1a: the same in every keepup, unlike the hashers of the standard library.
        self.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The value that marks a run of a service, beside what keepups above have written.
    pub(super) fn mark(&self, above: Option<&str>, service: &str, run: &str) -> String {
        match above {
            Some(above) if !above.is_empty() => format!("{above}:{}/{service}/{run}", self.0),
            Some(_) | None => format!("{}/{service}/{run}", self.0),
        }
    }

    /// The service and the run that this environment (`NAME=value`, each ended by a NUL) is
    /// marked with by this keepup.
    pub(super) fn find(&self, environ: &[u8]) -> Option<(String, String)> {
        let mut variables = environ.split(|&byte| byte == 0);
        let value = variables.find_map(|it| {
            it.strip_prefix(VARIABLE.as_bytes()).and_then(|it| it.strip_prefix(b"="))
        })?;
        let value = String::from_utf8_lossy(value);
        value.split(':').find_map(|mark| {
            let (service, run) = mark.strip_prefix(&self.0)?.strip_prefix('/')?.split_once('/')?;
            Some((service.to_owned(), run.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keepup_finds_its_own_mark_among_others() {
        let outer = Keepup::new(7, Pid(1), 100);
        let inner = Keepup::new(7, Pid(12), 300);
        let value = inner.mark(Some(&outer.mark(None, "inner", "1")), "api", "42");
        assert_eq!(value, "7-1-100/inner/1:7-12-300/api/42");
        let environ = format!("PATH=/bin\0{VARIABLE}={value}\0X=y\0");
        let found = |keepup: &Keepup| keepup.find(environ.as_bytes());
        assert_eq!(found(&outer), Some(("inner".into(), "1".into())));
        assert_eq!(found(&inner), Some(("api".into(), "42".into())));
        assert_eq!(found(&Keepup::new(7, Pid(1), 1)), None);
        assert_eq!(outer.find(b""), None);
        assert_eq!(outer.find(b"KEEPUP_RUN_X=7-1-100/a/1\0"), None);
    }
}
