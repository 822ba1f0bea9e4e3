//! What differs between two plans of a service, key by key, and what it takes to apply it.

use super::{Heartbeat, Logs, Probe, Role, Service};

/// A key whose value is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As it stands in the file.
    pub key: &'static str,
    /// What it takes.
    pub takes: Takes,
}

/// What it takes to apply a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: keepup goes by it from now on.
    Nothing,
    /// Another process.
    Run,
}

impl Difference {
    /// If there is one.
    fn found(key: &'static str, takes: Takes, differs: bool) -> Option<Difference> {
        differs.then_some(Difference { key, takes })
    }
}

/// Compares field by field. Each field of the plan must be named, so that none is forgotten: it is
/// either compared here, or with more care by whoever calls this.
macro_rules! compared {
    ($old:ident, $new:ident, run: $($run:ident)*, nothing: $($nothing:ident)*, left: $($left:ident)*) => {{
        let Service { $($run,)* $($nothing,)* $($left: _,)* } = $old;
        let run = [$(Difference::found(stringify!($run), Takes::Run, *$run != $new.$run)),*];
        let nothing =
            [$(Difference::found(stringify!($nothing), Takes::Nothing, *$nothing != $new.$nothing)),*];
        run.into_iter().chain(nothing).flatten()
    }};
}

impl Service {
    /// The keys whose values are others in `new`.
    pub fn differences(&self, new: &Service) -> Vec<Difference> {
        let found = compared!(
            self, new,
            // `pre_start` made what the run found when it began.
            run: command directory user group env env_file clear_env umask nice oom_score_adj
                no_new_privileges limits listen pre_start oneshot notify,
            nothing: after wait_for post_stop autostart essential start_timeout stop_signal
                reload_signal stop_timeout stop_scope hang_signal evidence_timeout rewrite restart,
            left: name resources probes heartbeat logs
        );
        let found = found.chain(self.limited_otherwise(new)).chain(self.probed_otherwise(new));
        let found = found.chain(self.beats_otherwise(new));
        found.chain(logged_otherwise(&self.logs, &new.logs)).collect()
    }

    fn limited_otherwise(&self, new: &Service) -> impl Iterator<Item = Difference> {
        let (old, new) = (self.resources, new.resources);
        let found = |key, differs| Difference::found(key, Takes::Nothing, differs);
        let found = [
            found("max_memory", old.max_memory != new.max_memory),
            found("warn_memory", old.warn_memory != new.warn_memory),
            found("max_cpu", old.max_cpu != new.max_cpu),
            found("max_cpu_for", old.max_cpu_for != new.max_cpu_for),
        ];
        found.into_iter().flatten()
    }

    fn probed_otherwise(&self, new: &Service) -> impl Iterator<Item = Difference> {
        let keys = [
            ("startup", Role::Startup),
            ("liveness", Role::Liveness),
            ("readiness", Role::Readiness),
            ("warning", Role::Warning),
        ];
        let of = |role: Role, all: &[Probe]| -> Vec<Probe> {
            all.iter().filter(|it| it.role == role).cloned().collect()
        };
        let differs = keys.map(|(key, role)| {
            let differs = of(role, &self.probes) != of(role, &new.probes);
            Difference::found(key, Takes::Nothing, differs)
        });
        differs.into_iter().flatten()
    }

    /// The file is compared from the beginning of a run on, and a process that is to say WATCHDOG=1
    /// was told how often.
    fn beats_otherwise(&self, new: &Service) -> Option<Difference> {
        let (old, new) = (self.heartbeat.as_ref(), new.heartbeat.as_ref());
        let file = |it: &Heartbeat| it.file.clone();
        let pace = |it: &Heartbeat| it.unhealthy_after;
        let told = self.is_heard() && old.map(pace) != new.map(pace);
        let other = told || old.map(file) != new.map(file);
        let takes = if other { Takes::Run } else { Takes::Nothing };
        Difference::found("heartbeat", takes, old != new)
    }
}

/// Another file, or another form, takes other pipes.
fn logged_otherwise(old: &Logs, new: &Logs) -> Option<Difference> {
    let other = old.file != new.file || old.format != new.format;
    let takes = if other { Takes::Run } else { Takes::Nothing };
    Difference::found("logs", takes, old != new)
}
