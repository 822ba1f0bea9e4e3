//! A service that is silent because the host starves is busy, not hung; but not for ever.

use std::time::Duration;

use keepup::core::event::{HostSample, News};
use keepup::plan::{Class, ProbeKind, Role, Service};

use crate::plans::{heartbeat, liveness, ms, probe, s, service, watchdog};
use crate::script::{
    Reply, Run, Says, answers, beats, loaded, miss_of, pass, pass_in, refused, silence, well,
};
use crate::world::Sim;

fn api() -> Service {
    service("api", |it| it.probes.push(liveness()))
}

/// On a host that is so from its first moment on.
fn on(host: impl Into<Option<HostSample>>, run: Run) -> Run {
    Run { host: vec![(s(0), host.into())], ..run }
}

fn falls_silent(after: Duration) -> Run {
    answers([(s(0), pass()), (after, silence())])
}

/// What was said from its first miss to its end.
fn end_of(service: Service, run: Run) -> String {
    let mut sim = Sim::new([(service, vec![run, well()])]);
    sim.run_until(s(300));
    let told = |line: &&str| line.contains("api unhealthy:") || line.contains("restarted");
    let first_run = sim.trace.lines().take_while(|line| !line.contains("ended"));
    first_run.filter(told).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_hang_on_a_host_that_has_all_it_needs_is_not_put_off() {
    let wanted = "31.010 api unhealthy: tcp liveness:80: timed out after 5s";
    for host in [HostSample::default(), loaded(99.0, 3.0), loaded(39.0, 39.0)] {
        assert_eq!(end_of(api(), on(host, falls_silent(s(5)))), wanted);
    }
}

#[test]
fn a_hang_on_a_starved_host_gets_the_same_time_once_more_and_no_more() {
    let starved = on(loaded(87.0, 64.0), falls_silent(s(5)));
    let mut sim = Sim::new([(api(), vec![starved, well()])]);
    sim.run_until(s(70));
    sim.says_of(
        &["missed", "restarted", "api unhealthy:"],
        "15.010 api liveness missed 1/3: timed out after 5s
         15.010 api degraded: liveness missed: timed out after 5s
         23.010 api liveness missed 2/3: timed out after 5s
         31.010 api liveness missed 3/3: timed out after 5s
         31.010 api not restarted yet: tcp liveness:80: timed out after 5s; but the host is starved (cpu pressure 87 %, it waited for a processor 64 % of the time), and it gets the same time once more
         39.010 api liveness missed 1/3: timed out after 5s
         47.010 api liveness missed 2/3: timed out after 5s
         55.010 api liveness missed 3/3: timed out after 5s
         55.010 api unhealthy: tcp liveness:80: timed out after 5s",
    );
}

#[test]
fn who_was_busy_goes_on_and_may_be_so_again_in_another_outage() {
    let busy = [(s(0), pass()), (s(5), silence()), (s(33), pass()), (s(60), silence())];
    let busy = answers([
        busy[0].clone(),
        busy[1].clone(),
        busy[2].clone(),
        busy[3].clone(),
        (s(95), pass()),
    ]);
    let mut sim = Sim::new([(api(), vec![on(loaded(87.0, 64.0), busy)])]);
    sim.run_until(s(300));
    assert_eq!(sim.trace.matches("not restarted yet").count(), 2, "{}", sim.trace);
    sim.says_of(&["unhealthy", "ended"], "");
    assert_eq!(sim.core.service("api").unwrap().health_word(), Some("healthy"));
}

#[test]
fn who_answers_or_refuses_is_not_busy() {
    let other = |class: Class| -> Reply { miss_of(class, "x") };
    for class in [Class::Http, Class::Body, Class::Tls, Class::Dns, Class::Other, Class::Refused] {
        let run = on(loaded(99.0, 99.0), answers([(s(0), pass()), (s(5), other(class))]));
        let said = end_of(api(), run);
        assert!(said.starts_with("16.040 api unhealthy"), "{class:?}: {said}");
    }
    let old = on(loaded(99.0, 99.0), answers([(s(0), pass()), (s(5), other(Class::Stale))]));
    assert!(end_of(api(), old).starts_with("16.040 api not restarted yet"));
}

#[test]
fn what_the_file_calls_definite_is_not_put_off() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| it.definite = vec![Class::Timeout]));
    });
    let said = end_of(api, on(loaded(99.0, 99.0), falls_silent(s(5))));
    assert_eq!(said, "15.010 api unhealthy: tcp liveness:80: timed out after 5s");
}

#[test]
fn the_first_miss_may_be_the_last() {
    let api = service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.failures = 1)));
    let said = |host: HostSample| end_of(api.clone(), on(host, falls_silent(s(5))));
    let well = said(HostSample::default());
    assert_eq!(well, "15.010 api unhealthy: tcp liveness:80: timed out after 5s");
    let starved = said(loaded(50.0, 50.0));
    assert!(starved.starts_with("15.010 api not restarted yet"), "{starved}");
    assert!(starved.ends_with("23.010 api unhealthy: tcp liveness:80: timed out after 5s"));
}

#[test]
fn a_command_that_asks_may_be_what_is_starved() {
    let asks = |kind: ProbeKind| {
        service("api", |it| it.probes.push(probe(Role::Liveness, |it| it.kind = kind.clone())))
    };
    let idle = || on(loaded(99.0, 0.0), falls_silent(s(5)));
    assert!(!end_of(asks(ProbeKind::Tcp("x:80".to_owned())), idle()).contains("not restarted"));
    assert!(
        end_of(asks(ProbeKind::Exec(vec!["ask".to_owned()])), idle()).contains("not restarted")
    );
}

#[test]
fn a_host_that_does_not_say_how_it_is_has_no_time_for_it_and_the_verdict_waits_no_longer_than_a_second()
 {
    let said = end_of(api(), on(None, falls_silent(s(5))));
    let wanted = "32.010 api not restarted yet: tcp liveness:80: timed out after 5s; but the host is starved (even a look at its load is not done within 1s), and it gets the same time once more
55.010 api unhealthy: tcp liveness:80: timed out after 5s";
    assert_eq!(said, wanted);
}

#[test]
fn an_answer_that_comes_before_the_host_is_known_saves_a_run() {
    let api = service("api", |it| {
        it.probes.push(probe(Role::Liveness, |it| {
            (it.interval, it.retry_interval, it.timeout) = (s(1), ms(100), ms(100));
        }));
    });
    // Three misses within 2.3 s; the next answer comes half a second later.
    let run = answers([(s(0), pass()), (ms(500), silence()), (ms(1_550), pass_in(ms(50)))]);
    let mut sim = Sim::new([(api, vec![on(None, run)])]);
    sim.run_until(s(60));
    sim.says_of(
        &["3/3", "unhealthy", "restarted"],
        "1.510 api liveness missed 3/3: timed out after 100ms",
    );
}

#[test]
fn a_lost_heartbeat_on_a_starved_host_gets_the_same_time_once_more() {
    let of = |heart| service("api", |it| it.heartbeat = Some(heart));
    let beating = || beats(s(1), s(1), 10);
    let file = of(heartbeat(s(6), s(12)));
    assert_eq!(
        end_of(file.clone(), on(loaded(99.0, 2.0), beating())),
        "22.200 api unhealthy: no heartbeat for 12s: /run/beat does not change",
    );
    let said = end_of(file.clone(), on(loaded(99.0, 70.0), beating()));
    let (first, last) = said.split_once('\n').unwrap();
    assert!(first.starts_with("22.200 api not restarted yet: no heartbeat for 12s"), "{first}");
    assert_eq!(last, "34.200 api unhealthy: no heartbeat for 24s: /run/beat does not change");
    // Nothing comes back from the host.
    assert!(end_of(file, on(None, beating())).starts_with("23.200 api not restarted yet"));
    let says = Run { says: (1..10).map(|nth| (s(nth), Says::Beat)).collect(), ..well() };
    let said = end_of(of(watchdog(s(6), s(12))), on(loaded(99.0, 70.0), says));
    assert!(said.starts_with("21.000 api not restarted yet"), "{said}");
    assert!(
        said.ends_with("33.000 api unhealthy: no heartbeat for 24s: it does not say WATCHDOG=1")
    );
}

#[test]
fn a_beat_after_the_second_chance_begins_all_anew() {
    let api = service("api", |it| it.heartbeat = Some(heartbeat(s(6), s(12))));
    let mut moments: Vec<Duration> = (1..10).map(s).collect();
    moments.extend([s(30), s(50)]);
    let run = Run { beats: moments, ..well() };
    let mut sim = Sim::new([(api, vec![on(loaded(99.0, 70.0), run), well()])]);
    sim.run_until(s(120));
    assert_eq!(sim.trace.matches("not restarted yet").count(), 3, "{}", sim.trace);
    assert_eq!(sim.trace.matches("api unhealthy: no heartbeat").count(), 1, "{}", sim.trace);
}

#[test]
fn a_beat_ends_the_time_that_was_given_for_a_look_at_the_host() {
    let api = service("api", |it| it.heartbeat = Some(watchdog(ms(200), ms(400))));
    let moments = (1..=10).map(|nth| ms(100 * nth)).chain([ms(1500)]);
    let says = Run { says: moments.map(|at| (at, Says::Beat)).collect(), ..well() };
    // Its silence is doubted at 1.4, and the host does not answer until 2.4; what is silent from 1.5
    // on is doubted at 1.9.
    let said = end_of(api, on(None, says));
    let (first, last) = said.split_once('\n').unwrap();
    assert!(first.starts_with("2.900 api not restarted yet"), "{said}");
    assert!(last.starts_with("3.300 api unhealthy: no heartbeat for 1.8s"), "{said}");
}

#[test]
fn one_that_is_silent_to_several_is_let_off_by_all_at_once_and_only_once() {
    let api = service("api", |it| {
        it.probes.push(liveness());
        it.probes.push(probe(Role::Liveness, |it| it.timeout = ms(4_900)));
        it.heartbeat = Some(heartbeat(s(10), s(22)));
    });
    let silent = vec![(s(0), pass()), (s(5), silence())];
    let run = Run { replies: vec![silent.clone(), silent], ..beats(s(1), s(1), 6) };
    let mut sim = Sim::new([(api, vec![on(loaded(99.0, 70.0), run), well()])]);
    sim.run_until(s(120));
    assert_eq!(sim.trace.matches("not restarted yet").count(), 1, "{}", sim.trace);
    let lines: Vec<&str> =
        sim.trace.lines().filter(|it| it.contains("api unhealthy: tcp")).collect();
    let at: f64 = lines[0].split_once(' ').unwrap().0.parse().unwrap();
    assert!((45.0..56.0).contains(&at) && lines.len() == 1, "{lines:?}");
}

#[test]
fn who_never_falls_silent_is_never_the_reason_for_a_look_at_the_host() {
    let misses = answers([(s(0), pass()), (s(5), refused()), (s(12), pass())]);
    for run in [well(), misses] {
        let mut sim = Sim::new([(api(), vec![run])]);
        sim.effects = Some(String::new());
        sim.run_until(s(600));
        assert!(!sim.effects.unwrap().contains("Host"));
    }
}

#[test]
fn one_look_at_the_first_silence_and_one_at_the_last() {
    let mut sim = Sim::new([(api(), vec![on(loaded(0.0, 0.0), falls_silent(s(5))), well()])]);
    sim.effects = Some(String::new());
    sim.run_until(s(35));
    let effects = sim.effects.unwrap();
    let looks: Vec<&str> = effects.lines().filter(|it| it.contains("Host {")).collect();
    assert_eq!(looks.len(), 2, "{looks:?}");
    assert!(looks[0].starts_with("15.010 WatchHost"), "{looks:?}");
    assert!(looks[1].starts_with("31.010 SampleHost"), "{looks:?}");
}

#[test]
fn who_says_that_it_is_stopping_is_doubted_no_more() {
    let run = Run { says: vec![(ms(31_500), Says::News(News::Stopping))], ..falls_silent(s(5)) };
    let mut sim = Sim::new([(api(), vec![on(None, run), well()])]);
    sim.run_until(s(39));
    sim.says_of(&["unhealthy:", "restarted"], "");
}
