//! Random worlds from a seed. `SEEDS=100000 cargo test --test sim chaos` for a long run, `SEED=17`
//! for one of them; a failure prints its seed and all that was said.

use std::collections::BTreeMap;
use std::time::Duration;

use keepup::core::event::{Event, Exit, HostSample, News, Used};
use keepup::core::reload::Reload;
use keepup::plan::{
    Class, ExitMatch, OnCap, Plan, Policy, Probe, Restart, Role, Scope, Service, Signal,
};

use crate::plans::{errors, heartbeat, ms, need, plan, probe, s, service, socket, watchdog};
use crate::script::{
    Aside, Reply, Run, Says, erred, miss, miss_of, pass_in, restart, silence, start, stop, used,
};
use crate::world::{Sim, Stall};

/// When a world that is still there is shut down.
const LIFE: Duration = Duration::from_secs(200);

/// Services that a world may have, in all its editions.
const SERVICES_MAX: u64 = 6;

/// How long a shutdown may take in any edition.
const SHUTDOWN_MAX: Duration = s(30);

/// What services may need.
const NEEDS: [&str; 3] = ["tcp:db:5432", "tcp:queue:5672", "unix:/run/x.sock"];

/// Numbers that look random, the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }

    fn time(&mut self, max: Duration) -> Duration {
        ms(1 + self.below(u64::try_from(max.as_millis()).unwrap()))
    }

    fn maybe<T>(&mut self, times: u64, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
        self.once_in(times).then(|| make(self))
    }
}

fn restart_plan(chance: &mut Chance) -> Restart {
    Restart {
        policy: chance.of(&[
            Policy::Always,
            Policy::Always,
            Policy::OnFailure,
            Policy::UnlessStopped,
            Policy::Never,
        ]),
        delay: chance.time(s(4)),
        max_delay: s(1) + chance.time(s(20)),
        factor: chance.of(&[1.0, 1.5, 2.0]),
        jitter: chance.of(&[0.0, 0.1, 1.0]),
        max_restarts: u32::try_from(chance.below(5)).unwrap(),
        window: chance.time(s(100)),
        stable_after: chance.time(s(30)),
        on_cap: chance.of(&[OnCap::Retry, OnCap::Retry, OnCap::Fail, OnCap::Exit]),
        retry_after: chance.time(s(40)),
        success_codes: chance.of(&[vec![ExitMatch::Code(0)], Vec::new()]),
        fatal_codes: chance.of(&[Vec::new(), Vec::new(), vec![ExitMatch::Code(3)]]),
    }
}

fn any_probe(chance: &mut Chance) -> Probe {
    let role =
        chance.of(&[Role::Startup, Role::Liveness, Role::Liveness, Role::Readiness, Role::Warning]);
    probe(role, |it| {
        it.interval = ms(100) + chance.time(s(10));
        it.retry_interval = ms(100) + chance.time(s(3));
        it.timeout = chance.time(s(6));
        it.failures = u32::try_from(1 + chance.below(3)).unwrap();
        it.successes = u32::try_from(1 + chance.below(2)).unwrap();
        it.initial_delay = chance.of(&[Duration::ZERO, Duration::ZERO, s(3)]);
        it.slow = chance.maybe(3, |chance| chance.time(s(2)));
        it.definite = chance.of(&[Vec::new(), vec![Class::Refused]]);
    })
}

fn any_service(chance: &mut Chance, nth: usize) -> Service {
    service(&format!("s{nth}"), |it| {
        it.after =
            (0..nth).filter(|_| chance.once_in(3)).map(|it| format!("s{it}").into()).collect();
        it.wait_for = (0..3).filter(|_| chance.once_in(6)).map(|it| need(NEEDS[it])).collect();
        it.pre_start = chance.maybe(5, |_| vec!["/bin/prepare".to_owned()]).unwrap_or_default();
        it.post_stop = chance.maybe(5, |_| vec!["/bin/tidy".to_owned()]).unwrap_or_default();
        it.oneshot = chance.once_in(4);
        it.autostart = !chance.once_in(6);
        it.essential = chance.once_in(8);
        it.start_timeout = chance.time(s(30));
        it.stop_timeout = chance.time(s(10));
        it.stop_scope = chance.of(&[Scope::Group, Scope::Main]);
        it.evidence_timeout = chance.time(s(3));
        it.hang_signal = chance.maybe(2, |_| Signal::ABRT);
        it.restart = restart_plan(chance);
        it.logs.errors = chance.maybe(3, |_| errors(20));
        it.probes = (0..chance.below(4)).map(|_| any_probe(chance)).collect();
        it.resources.max_memory = chance.maybe(4, |chance| (10 + chance.below(90)) << 20);
        it.resources.warn_memory = chance.maybe(4, |chance| (1 + chance.below(50)) << 20);
        it.resources.max_cpu =
            chance.maybe(4, |chance| u32::try_from(1 + chance.below(99)).unwrap());
        it.resources.max_cpu_for = chance.time(s(20));
        it.heartbeat = chance.maybe(4, |chance| {
            let degraded = ms(500) + chance.time(s(10));
            let form = chance.of(&[heartbeat, heartbeat, watchdog]);
            form(degraded, degraded + chance.time(s(10)))
        });
        it.listen = chance.maybe(2, |_| socket()).into_iter().collect();
        it.notify = chance.once_in(5);
        it.reload_signal = chance.maybe(3, |_| Signal::HUP);
    })
}

fn any_exit(chance: &mut Chance) -> Exit {
    match chance.below(6) {
        0..=2 => Exit::Code(u8::try_from(chance.below(4)).unwrap()),
        3 => Exit::Code(0),
        _ => Exit::Signal { signal: Signal::parse("SEGV").unwrap(), core_dumped: true },
    }
}

fn any_reply(chance: &mut Chance) -> Reply {
    match chance.below(12) {
        0..=1 => silence(),
        2 => miss("503"),
        3 => miss_of(Class::Refused, "connection refused"),
        4 => miss_of(Class::Stale, "is too old"),
        5 => pass_in(chance.time(s(8))),
        _ => pass_in(chance.time(ms(100))),
    }
}

fn any_words(chance: &mut Chance) -> Says {
    match chance.below(20) {
        0 => Says::News(News::Stopping),
        1 => Says::News(News::Trigger),
        2..=3 => Says::News(News::Extend(chance.time(s(20)))),
        4 => Says::News(News::Reloading),
        5..=6 => Says::News(News::Status("well".to_owned())),
        7..=10 => Says::News(News::Ready),
        _ => Says::Beat,
    }
}

fn any_aside(chance: &mut Chance) -> Aside {
    Aside {
        ends: (!chance.once_in(6)).then(|| {
            let code = u8::from(chance.once_in(4));
            let failed = chance.once_in(12);
            let outcome = if failed { Err("cannot fork".to_owned()) } else { Ok(Exit::Code(code)) };
            (chance.time(s(12)), outcome)
        }),
        obeys: chance.maybe(2, |it| it.time(s(3))),
        kill_takes: (!chance.once_in(20)).then(|| chance.time(s(1))),
    }
}

fn any_use(chance: &mut Chance, nth: u64) -> (Duration, Used) {
    let cpu = f64::from(u32::try_from(chance.below(120)).unwrap());
    (s(20) * u32::try_from(nth).unwrap(), used(chance.below(120), cpu))
}

fn any_host(chance: &mut Chance, nth: u64) -> (Duration, Option<HostSample>) {
    let mut part = || chance.maybe(2, |it| f64::from(u32::try_from(it.below(100)).unwrap()));
    let (cpu, waited, io) = (part(), part(), part());
    let sample = HostSample { cpu, waited, io, ..HostSample::default() };
    (s(20) * u32::try_from(nth).unwrap(), chance.maybe(4, |_| None).unwrap_or(Some(sample)))
}

fn any_run(chance: &mut Chance, probes: usize) -> Run {
    let replies = |chance: &mut Chance| -> Vec<(Duration, Reply)> {
        let mut replies: Vec<_> =
            (0..chance.below(5)).map(|_| (chance.time(s(60)), any_reply(chance))).collect();
        replies.push((Duration::ZERO, any_reply(chance)));
        replies.sort_by_key(|it| it.0);
        replies
    };
    let beats = chance.time(s(5));
    Run {
        spawn_takes: chance.maybe(3, |it| it.time(s(3))).unwrap_or_default(),
        spawn_fails: chance.maybe(10, |_| "cannot fork".to_owned()),
        exits: chance.maybe(2, |it| (it.time(s(60)), any_exit(it))),
        obeys: (!chance.once_in(4)).then(|| (chance.time(s(5)), any_exit(chance))),
        confesses: chance.maybe(2, |it| (it.time(s(3)), any_exit(it))),
        examined: chance.maybe(2, |it| it.maybe(2, |it| it.time(s(4)))).unwrap_or(Some(s(0))),
        kill_takes: (!chance.once_in(20)).then(|| chance.time(s(1))),
        gone_takes: (!chance.once_in(30))
            .then(|| chance.maybe(5, |it| it.time(s(8))).unwrap_or_default()),
        rest_takes: (!chance.once_in(4)).then(|| chance.time(s(12))),
        prepares: any_aside(chance),
        tidies: any_aside(chance),
        replies: (0..probes).map(|_| replies(chance)).collect(),
        says: (0..chance.below(12)).map(|_| (chance.time(s(60)), any_words(chance))).collect(),
        beats: (0..u32::try_from(chance.below(30)).unwrap()).map(|nth| beats * nth).collect(),
        hangs: chance.maybe(5, |it| it.time(s(60))),
        look_takes: chance.maybe(3, |it| it.time(s(2))).unwrap_or_default(),
        uses: (0..chance.below(4)).map(|nth| any_use(chance, nth)).collect(),
        host: (0..chance.below(4)).map(|nth| any_host(chance, nth)).collect(),
        looks_hang: chance.maybe(10, |it| it.time(s(60))),
    }
}

fn any_plan(chance: &mut Chance) -> Plan {
    let count = usize::try_from(1 + chance.below(4)).unwrap();
    let mut plan = plan((0..count).map(|nth| any_service(chance, nth)).collect());
    plan.supervisor.shutdown_timeout = chance.time(SHUTDOWN_MAX);
    plan.supervisor.stay = chance.once_in(2);
    plan
}

/// The plan as somebody edits it: some services change, go, or come.
fn edited(chance: &mut Chance, before: &Plan) -> Plan {
    let mut plan = before.clone();
    plan.supervisor.shutdown_timeout = chance.time(SHUTDOWN_MAX);
    let last = plan.services.len() - 1;
    plan.services = (0..)
        .zip(plan.services)
        .filter(|it| it.0 == last || !chance.once_in(6))
        .map(|it| it.1)
        .collect();
    for service in &mut plan.services {
        edit(chance, service);
    }
    if chance.once_in(3) {
        let nth = usize::try_from(chance.below(SERVICES_MAX)).unwrap();
        let new = any_service(chance, nth);
        match plan.services.iter_mut().find(|it| it.name == new.name) {
            Some(old) => *old = new,
            None => plan.services.push(new),
        }
    }
    let names: Vec<_> = plan.services.iter().map(|it| it.name.clone()).collect();
    plan.services.iter_mut().for_each(|it| it.after.retain(|name| names.contains(name)));
    plan
}

fn edit(chance: &mut Chance, service: &mut Service) {
    let nth = service.name[1..].parse().unwrap();
    let other = any_service(chance, nth);
    match chance.below(16) {
        0 => service.restart = other.restart,
        1 => (service.probes, service.resources) = (other.probes, other.resources),
        2 => {
            let more = any_probe(chance);
            service.probes.insert(0, more);
            service.probes.sort_by_key(|it| it.role);
        }
        3 => (service.after, service.wait_for) = (other.after, other.wait_for),
        4 => (service.stop_timeout, service.stop_scope) = (other.stop_timeout, other.stop_scope),
        5 => (service.start_timeout, service.essential) = (other.start_timeout, other.essential),
        6 => (service.hang_signal, service.logs) = (other.hang_signal, other.logs),
        7 => (service.autostart, service.post_stop) = (other.autostart, other.post_stop),
        8 => service.heartbeat = other.heartbeat,
        9 => service.listen = other.listen,
        10 => service.pre_start = other.pre_start,
        11 => *service = other,
        12 => _ = service.env.insert("A".to_owned(), chance.below(9).to_string()),
        _ => {}
    }
}

/// One world from birth to its end. Its effects, if they are wanted.
fn live(seed: u64, effects: bool) -> (usize, Option<String>) {
    let mut chance = Chance(seed);
    let plan = any_plan(&mut chance);
    let names: Vec<String> = (0..SERVICES_MAX).map(|nth| format!("s{nth}")).collect();
    let first = plan.clone();
    let run = |it: &Service, chance: &mut Chance| -> Vec<Run> {
        (0..=chance.below(6)).map(|_| any_run(chance, it.probes.len())).collect()
    };
    let runs = plan.services.iter().map(|it| run(it, &mut chance)).collect();
    let mut sim = Sim::of(plan, runs, seed, &BTreeMap::new());
    sim.trace = format!("seed {seed}\n");
    sim.effects = effects.then(String::new);
    for written in NEEDS {
        let mut replies = vec![(Duration::ZERO, any_reply(&mut chance))];
        replies.extend((0..chance.below(6)).map(|_| (chance.time(LIFE), any_reply(&mut chance))));
        replies.sort_by_key(|it| it.0);
        sim.needs(written, replies);
    }
    for _ in 0..chance.below(8) {
        let (moment, name) = (chance.time(LIFE + s(5)), chance.of(&names));
        let command = chance.of(&[start, stop, stop, restart]);
        sim.at(moment, command(&name));
    }
    for name in names.iter().filter(|it| !first.services.iter().any(|of| *of.name == ***it)) {
        let runs = (0..=chance.below(4)).map(|_| any_run(&mut chance, 3)).collect();
        sim.cast(name, runs);
    }
    let (mut edition, mut moment) = (first, Duration::ZERO);
    for _ in 0..chance.below(5) {
        edition = edited(&mut chance, &edition);
        moment += chance.time(LIFE / 2);
        let touched = names.iter().filter(|_| chance.once_in(6)).map(|it| it.as_str().into());
        let (plan, touched) = (edition.clone(), touched.collect());
        sim.at(moment, Event::Reload(Box::new(Reload { plan, touched, by: None })));
    }
    for _ in 0..chance.below(6) {
        let (moment, name) = (chance.time(LIFE), chance.of(&names));
        sim.at(moment, erred(&name, 1 + chance.below(4), 1 + chance.below(40)));
    }
    let mut stalled = Duration::ZERO;
    for _ in 0..chance.below(4) {
        let gap = chance.time(s(30));
        stalled += gap;
        let stall = if chance.once_in(2) { Stall::Frozen(gap) } else { Stall::Starved(gap) };
        sim.stall(chance.time(LIFE + s(5)), stall);
    }
    sim.at(LIFE, Event::Shutdown);
    if chance.once_in(3) {
        sim.at(LIFE + chance.time(s(8)), Event::Shutdown);
    }
    sim.run_until(LIFE + SHUTDOWN_MAX + s(2) + stalled);
    assert!(sim.exit.is_some(), "it did not end\n{}", sim.trace);
    (sim.trace.lines().count(), sim.effects)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_worlds_keep_all_promises() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(600),
    };
    for seed in seeds {
        live(seed, false);
    }
}

#[test]
fn the_same_seed_makes_the_same_world() {
    for seed in 0..40 {
        assert_eq!(live(seed, true), live(seed, true), "seed {seed}");
    }
}
