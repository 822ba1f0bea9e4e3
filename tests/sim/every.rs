//! All histories of five steps, of one service: too short to be subtle, too many to forget one.

use std::time::Duration;

use keepup::core::event::{Event, Exit};
use keepup::plan::{OnCap, Policy, Role, Service, Signal};

use crate::plans::{ms, on_failure_at_most, probe, s, service, socket};
use crate::script::{
    Run, answers, exits, ignores_term, pass, restart, silence, start, stop, unspawnable,
};
use crate::world::Sim;

const STEPS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Stop,
    Restart,
    Tick,
    Crash,
    Second,
    SevenSeconds,
    Shutdown,
}

const ALL: [Step; 8] = [
    Step::Start,
    Step::Stop,
    Step::Restart,
    Step::Tick,
    Step::Crash,
    Step::Second,
    Step::SevenSeconds,
    Step::Shutdown,
];

impl Step {
    /// Does it change something even if nothing is done about it at once?
    fn always_matters(self) -> bool {
        matches!(self, Step::Second | Step::SevenSeconds | Step::Shutdown)
    }
}

fn take(step: Step, sim: &mut Sim) {
    let wait = |sim: &mut Sim, time: Duration| {
        let until = sim.now.0 + time;
        sim.run_until(until);
    };
    match step {
        Step::Start => sim.send(start("api")),
        Step::Stop => sim.send(stop("api")),
        Step::Restart => sim.send(restart("api")),
        Step::Tick => sim.send(Event::Tick),
        Step::Crash => sim.crash("api", Exit::Code(1)),
        Step::Second => wait(sim, s(1)),
        Step::SevenSeconds => wait(sim, s(7)),
        Step::Shutdown => sim.send(Event::Shutdown),
    }
}

fn policies() -> Vec<Service> {
    let policy = |policy: Policy, on_cap: OnCap| {
        service("api", |it| {
            it.restart.policy = policy;
            it.restart.on_cap = on_cap;
            it.restart.max_restarts = 1;
            it.listen.push(socket());
        })
    };
    vec![
        policy(Policy::Always, OnCap::Retry),
        policy(Policy::UnlessStopped, OnCap::Exit),
        service("api", on_failure_at_most(1)),
        policy(Policy::Never, OnCap::Fail),
    ]
}

fn behaviours() -> Vec<Run> {
    vec![
        exits(ms(1_500), 0),
        unspawnable("cannot fork"),
        Run { spawn_takes: ms(1_500), ..ignores_term() },
        answers([(s(0), pass()), (ms(500), silence())]),
        Run { examined: None, ..answers([(s(0), pass()), (ms(500), silence())]) },
        Run { kill_takes: None, ..ignores_term() },
    ]
}

/// Plays a history, and then ends keepup. Says after how many steps nothing new could follow.
fn play(mut service: Service, run: Run, history: [usize; STEPS]) -> usize {
    service.restart.retry_after = s(5);
    service.restart.stable_after = s(3);
    service.stop_timeout = s(3);
    if !run.replies.is_empty() {
        let quick = probe(Role::Liveness, |it| {
            (it.interval, it.retry_interval, it.timeout) = (s(1), ms(300), ms(400));
            it.failures = 2;
        });
        service.probes.push(quick);
        service.evidence_timeout = ms(1_500);
        service.hang_signal = Some(Signal::ABRT);
    }
    let mut sim = Sim::new([(service, vec![run])]);
    sim.run_until(Duration::ZERO);
    for (nth, step) in history.into_iter().enumerate() {
        let before = sim.effects_count;
        take(ALL[step], &mut sim);
        // A step that changed nothing makes it a shorter history, which is played, too.
        let idle = before == sim.effects_count && !ALL[step].always_matters();
        if sim.exit.is_some() || idle {
            return nth + 1;
        }
    }
    take(Step::Shutdown, &mut sim);
    let end = sim.now.0 + s(27);
    sim.run_until(end);
    assert!(sim.exit.is_some(), "it did not end\n{}", sim.trace);
    STEPS
}

/// The history after this one that differs from it in its first `steps` steps.
fn next(mut history: [usize; STEPS], steps: usize) -> Option<[usize; STEPS]> {
    history[steps..].fill(0);
    for step in history[..steps].iter_mut().rev() {
        *step += 1;
        if *step < ALL.len() {
            return Some(history);
        }
        *step = 0;
    }
    None
}

fn play_all(services: &[Service]) {
    let mut played = 0;
    for service in services {
        for run in behaviours() {
            let mut history = Some([0; STEPS]);
            while let Some(steps) = history {
                let taken = play(service.clone(), run.clone(), steps);
                history = next(steps, taken);
                played += 1;
            }
        }
    }
    assert!(played > 50_000, "{played} histories are not all");
}

#[test]
fn all_histories_of_five_steps_with_restarts_for_ever() {
    play_all(&policies()[..2]);
}

#[test]
fn all_histories_of_five_steps_with_few_restarts_or_none() {
    play_all(&policies()[2..]);
}
