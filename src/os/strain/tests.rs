use super::*;
use crate::control::scratch::Scratch;

/// A `/proc` and a `/sys/fs/cgroup` of our own, with one process, 7, of two tasks.
struct Fake {
    root: Scratch,
    places: Places,
}

const MAIN: Pid = Pid(7);

impl Fake {
    fn new() -> Fake {
        let root = Scratch::new();
        let (proc, cgroup) = (root.path().join("proc"), root.path().join("cgroup"));
        let fake = Fake { places: Places { proc, cgroup }, root };
        fake.write("proc/7/task/7/schedstat", "100 5000000000 3");
        fake.write("proc/7/task/8/schedstat", "100 0 3");
        fake
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn pressure(&self, file: &str, some: f64) {
        self.write(file, &format!("some avg10={some} avg60=0.00 avg300=0.00 total=1\n"));
    }

    fn throttle(&self, group: &str, periods: u64, throttled: u64) {
        self.write(&format!("{group}/cgroup.procs"), "");
        let text = format!("nr_periods {periods}\nnr_throttled {throttled}\nthrottled_time 5\n");
        self.write(&format!("{group}/cpu.stat"), &text);
    }

    /// What was short over ten seconds in which this changed.
    fn over_ten_seconds(&self, change: impl FnOnce(&Fake)) -> HostSample {
        let before = self.places.reading(MAIN);
        change(self);
        let now = self.places.reading(MAIN);
        let now = Reading { at: before.at + Duration::from_secs(10), ..now };
        self.places.compare(Some(&before), &now, Pressure::in_proc(&self.places.proc))
    }
}

fn near(figure: Option<f64>, wanted: f64) -> bool {
    figure.is_some_and(|it| (it - wanted).abs() < 0.1)
}

#[test]
fn where_the_kernel_shows_nothing_nothing_is_known() {
    let root = Scratch::new();
    let places = Places { proc: root.path().join("none"), cgroup: root.path().join("none") };
    let now = places.reading(MAIN);
    let sample = places.compare(Some(&now), &now, Pressure::in_proc(&places.proc));
    assert_eq!(sample, HostSample::default());
}

#[test]
fn the_task_that_waited_most_is_what_counts() {
    let sample = Fake::new().over_ten_seconds(|it| {
        it.write("proc/7/task/7/schedstat", "200 5500000000 9");
        it.write("proc/7/task/8/schedstat", "200 8700000000 9");
        // It was not there before.
        it.write("proc/7/task/9/schedstat", "200 99000000000 9");
    });
    assert!(near(sample.waited, 87.0), "{sample:?}");
}

#[test]
fn the_pressure_is_the_greatest_of_the_host_and_of_the_groups_around_a_run() {
    let fake = Fake::new();
    fake.write("proc/7/cgroup", "0::/box/api\n");
    fake.write("cgroup/cgroup.procs", "");
    fake.pressure("proc/pressure/cpu", 12.5);
    fake.pressure("proc/pressure/io", 50.0);
    fake.pressure("cgroup/box/cpu.pressure", 87.0);
    fake.pressure("cgroup/box/api/cpu.pressure", 80.0);
    fake.pressure("cgroup/elsewhere/memory.pressure", 99.0);
    fake.pressure("cgroup/box/api/memory.pressure", 3.0);
    let sample = fake.over_ten_seconds(|_| {});
    assert!(near(sample.cpu, 87.0) && near(sample.memory, 3.0), "{sample:?}");
    assert!(near(sample.io, 50.0), "{sample:?}");
}

#[test]
fn a_group_is_throttled_in_part_of_its_periods_whichever_version_it_is_of() {
    for (listed, group) in [
        ("4:memory:/api\n1:cpu:/box/api\n0::/\n", "cgroup/cpu"),
        ("4:cpu,cpuacct:/box/api\n", "cgroup/cpu,cpuacct"),
        ("0::/box/api\n", "cgroup"),
    ] {
        let fake = Fake::new();
        fake.write("proc/7/cgroup", listed);
        fake.write(&format!("{group}/cgroup.procs"), "");
        fake.throttle(&format!("{group}/box/api"), 100, 100);
        fake.throttle(&format!("{group}/box"), 100, 0);
        let sample = fake.over_ten_seconds(|it| {
            it.throttle(&format!("{group}/box/api"), 200, 110);
            it.throttle(&format!("{group}/box"), 200, 75);
        });
        assert!(near(sample.throttled, 75.0), "{listed}: {sample:?}");
    }
}

#[test]
fn in_a_container_the_group_may_be_what_is_mounted() {
    let fake = Fake::new();
    fake.write("proc/7/cgroup", "1:cpu:/docker/5f0c\n");
    fake.throttle("cgroup/cpu", 10, 0);
    let sample = fake.over_ten_seconds(|it| it.throttle("cgroup/cpu", 20, 9));
    assert!(near(sample.throttled, 90.0), "{sample:?}");
}

#[test]
fn a_group_that_did_not_run_was_not_throttled() {
    let fake = Fake::new();
    fake.write("proc/7/cgroup", "0::/api\n");
    fake.write("cgroup/cgroup.procs", "");
    fake.throttle("cgroup/api", 10, 9);
    assert_eq!(fake.over_ten_seconds(|_| {}).throttled, None);
}

#[tokio::test]
async fn every_question_is_answered_and_the_second_is_compared_with_the_first() {
    let (tell, mut answers) = mpsc::channel(8);
    let gauge = Gauge::new(tell);
    let me = Pid(i32::try_from(std::process::id()).unwrap());
    gauge.look(&"api".into(), None, me);
    for nth in 1..=3 {
        gauge.look(&"api".into(), Some(Ticket(nth)), me);
    }
    let mut tickets = Vec::new();
    for _ in 1..=3 {
        let Some(Event::HostSample { name, ticket, sample }) = answers.recv().await else {
            panic!("no answer");
        };
        assert_eq!(&*name, "api");
        assert!(sample.waited.is_some(), "{sample:?}");
        tickets.push(ticket.0);
    }
    tickets.sort_unstable();
    assert_eq!(tickets, [1, 2, 3]);
}
