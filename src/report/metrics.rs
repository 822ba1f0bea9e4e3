//! The metrics, in the text format of Prometheus.
//!
//! Counters are fed with each note and answer; gauges are read from the status when somebody asks.
//! The names are a contract, and follow what `promtool check metrics` asks of names and helps.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::core::event::{Answer, End, Note};
use crate::plan::{Class, Name, Role};
use crate::status::{LogStatus, ServiceStatus, State, Status};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds; a probe's answer is either fast or on its way to a timeout.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What became of a service's output so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCount {
    /// Whose.
    pub service: Name,
    /// What the status shows of it.
    pub log: LogStatus,
    /// Lines that show an error, of all its runs.
    pub error_lines: u64,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    starts: IntCounterVec,
    ends: IntCounterVec,
    misses: IntCounterVec,
    durations: HistogramVec,
    /// Set and read together, so that two who ask at once do not mix.
    scraped: Mutex<Scraped>,
}

#[derive(Debug)]
struct Scraped {
    up: GaugeVec,
    ready: GaugeVec,
    state: GaugeVec,
    failures_in_row: GaugeVec,
    start_time: GaugeVec,
    heartbeat_age: GaugeVec,
    memory: GaugeVec,
    cpu: CounterVec,
    open_files: GaugeVec,
    threads: GaugeVec,
    log_bytes: IntCounterVec,
    log_lost: IntCounterVec,
    log_errors: IntCounterVec,
    log_problem: GaugeVec,
}

impl Metrics {
    /// Fresh metrics, all at nothing. Fails only where a name is wrong, which a test excludes.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let build = gauge(&registry, "keepup_build_info", "The version of keepup.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let durations = HistogramOpts::new(
            "keepup_probe_duration_seconds",
            "How long the answers to probes took.",
        );
        let durations =
            HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["service", "role"])?;
        Ok(Metrics {
            starts: counter(
                &registry,
                "keepup_service_starts_total",
                "Starts of the service.",
                ONE,
            )?,
            ends: counter(
                &registry,
                "keepup_service_ends_total",
                "Ends of runs of the service, by why they ended.",
                &["service", "reason"],
            )?,
            misses: counter(
                &registry,
                "keepup_probe_misses_total",
                "Answers to probes that were not as wanted, by the kind of the miss.",
                &["service", "role", "class"],
            )?,
            durations: registered(&registry, durations)?,
            scraped: Mutex::new(Scraped::new(&registry)?),
            registry,
        })
    }

    /// A note of the core.
    pub fn note(&self, service: &Name, note: &Note) {
        match note {
            Note::Starting { .. } => self.starts.with_label_values(&[service]).inc(),
            Note::Ended { end, .. } => {
                self.ends.with_label_values(&[service.as_ref(), end.reason()]).inc();
            }
            Note::Waits { .. }
            | Note::Up { .. }
            | Note::Ready { .. }
            | Note::Miss { .. }
            | Note::Degraded { .. }
            | Note::Healthy
            | Note::Busy { .. }
            | Note::Unhealthy { .. }
            | Note::Hanging { .. }
            | Note::Stopping { .. }
            | Note::Killing { .. }
            | Note::Stuck { .. }
            | Note::HookStuck { .. }
            | Note::HookFailed { .. }
            | Note::Backoff { .. }
            | Note::GaveUp { .. }
            | Note::Down
            | Note::Done
            | Note::Reloaded { .. } => {}
        }
    }

    /// An answer to a probe, and how long it took.
    pub fn probed(&self, service: &Name, role: Role, answer: &Answer, took: Duration) {
        let role = role.to_string();
        self.durations.with_label_values(&[service.as_ref(), &role]).observe(took.as_secs_f64());
        if let Answer::Miss(miss) = answer {
            self.misses.with_label_values(&[service.as_ref(), &role, miss.class.name()]).inc();
        }
    }

    /// A service is no more.
    pub fn forget(&self, service: &Name) {
        // What was never counted cannot be removed.
        let _ = self.starts.remove_label_values(&[service]);
        for reason in End::REASONS {
            let _ = self.ends.remove_label_values(&[service.as_ref(), reason]);
        }
        let roles = [Role::Startup, Role::Liveness, Role::Readiness, Role::Warning];
        for role in roles.map(|it| it.to_string()) {
            let _ = self.durations.remove_label_values(&[service.as_ref(), &role]);
            for (class, _) in Class::ALL {
                let labels = [service.as_ref(), &role, class];
                let _ = self.misses.remove_label_values(&labels);
            }
        }
    }

    /// Everything, as text.
    pub fn text(&self, status: &Status, logs: &[LogCount]) -> Result<String, prometheus::Error> {
        // A half-set figure is set again below.
        let scraped = self.scraped.lock().unwrap_or_else(PoisonError::into_inner);
        scraped.set(status, logs);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

const ONE: &[&str] = &["service"];

impl Scraped {
    fn new(all: &Registry) -> Result<Scraped, prometheus::Error> {
        let states = &["service", "state"];
        Ok(Scraped {
            up: gauge(all, "keepup_service_up", "Whether its process runs.", ONE)?,
            ready: gauge(
                all,
                "keepup_service_ready",
                "Whether it has started and its readiness probes pass.",
                ONE,
            )?,
            state: gauge(all, "keepup_service_state", "1 for the state it is in, else 0.", states)?,
            failures_in_row: gauge(
                all,
                "keepup_service_failures_in_row",
                "Failures since it last ran well.",
                ONE,
            )?,
            start_time: gauge(
                all,
                "keepup_service_start_time_seconds",
                "When its present run began, in seconds since 1970.",
                ONE,
            )?,
            heartbeat_age: gauge(
                all,
                "keepup_service_heartbeat_age_seconds",
                "Since its last heartbeat.",
                ONE,
            )?,
            memory: gauge(
                all,
                "keepup_service_memory_bytes",
                "Anonymous memory and swap of its processes.",
                ONE,
            )?,
            cpu: {
                let name = "keepup_service_cpu_seconds_total";
                let opts = Opts::new(name, "Processor time of its running processes.");
                registered(all, CounterVec::new(opts, ONE)?)?
            },
            open_files: gauge(
                all,
                "keepup_service_open_files",
                "Open files of its processes.",
                ONE,
            )?,
            threads: gauge(all, "keepup_service_threads", "Threads of its processes.", ONE)?,
            log_bytes: counter(all, "keepup_log_bytes_total", "Bytes of output it wrote.", ONE)?,
            log_lost: counter(
                all,
                "keepup_log_lines_lost_total",
                "Lines of its output that could not be written.",
                ONE,
            )?,
            log_errors: counter(
                all,
                "keepup_log_error_lines_total",
                "Lines of its output that show an error.",
                ONE,
            )?,
            log_problem: gauge(
                all,
                "keepup_log_problem",
                "Whether its log cannot be written, rotated or compressed now.",
                ONE,
            )?,
        })
    }

    fn set(&self, status: &Status, logs: &[LogCount]) {
        self.forget();
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        for service in &status.services {
            self.set_service(service, now);
        }
        for log in logs {
            let name = &[&log.service];
            self.log_bytes.with_label_values(name).inc_by(log.log.bytes);
            self.log_lost.with_label_values(name).inc_by(log.log.lines_lost);
            self.log_errors.with_label_values(name).inc_by(log.error_lines);
            let problem = f64::from(u8::from(log.log.problem.is_some()));
            self.log_problem.with_label_values(name).set(problem);
        }
    }

    fn set_service(&self, service: &ServiceStatus, now: f64) {
        let name = &[service.name.as_str()];
        self.up.with_label_values(name).set(f64::from(u8::from(service.pid.is_some())));
        self.ready.with_label_values(name).set(f64::from(u8::from(service.ready)));
        for state in State::ALL {
            let is = f64::from(u8::from(state == service.state));
            self.state.with_label_values(&[service.name.as_str(), state.name()]).set(is);
        }
        self.failures_in_row.with_label_values(name).set(f64::from(service.failures_in_row));
        if let Some(uptime) = service.uptime_seconds {
            self.start_time.with_label_values(name).set(((now - uptime) * 10.0).round() / 10.0);
        }
        if let Some(age) = service.heartbeat_age_seconds {
            self.heartbeat_age.with_label_values(name).set(age);
        }
        let figures = [
            (&self.memory, service.memory_bytes),
            (&self.open_files, service.open_files),
            (&self.threads, service.threads),
        ];
        for (gauge, figure) in figures {
            if let Some(figure) = figure {
                #[expect(clippy::cast_precision_loss, reason = "exact below 8 PiB")]
                gauge.with_label_values(name).set(figure as f64);
            }
        }
        if let Some(seconds) = service.cpu_seconds {
            self.cpu.with_label_values(name).inc_by(seconds);
        }
    }

    /// So that a service that is no more, or a figure that is not known, is not shown.
    fn forget(&self) {
        let gauges = [
            &self.up,
            &self.ready,
            &self.state,
            &self.failures_in_row,
            &self.start_time,
            &self.heartbeat_age,
            &self.memory,
            &self.log_problem,
            &self.open_files,
            &self.threads,
        ];
        for gauge in gauges {
            gauge.reset();
        }
        self.cpu.reset();
        self.log_bytes.reset();
        self.log_lost.reset();
        self.log_errors.reset();
    }
}

fn gauge(
    all: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GaugeVec, prometheus::Error> {
    registered(all, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(
    all: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    registered(all, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn registered<C: Collector + Clone + 'static>(
    all: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    all.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::core::event::{End, Exit, Miss};
    use crate::plan::Class;
    use crate::status::tests::{service, status};

    fn text() -> String {
        let metrics = Metrics::new().unwrap();
        let api = Name::from("api");
        let exit = Exit::Code(1);
        metrics.note(&api, &Note::Starting { run: 1, by: None });
        let uptime = Duration::from_secs(1);
        metrics.note(&api, &Note::Ended { end: End::Exited(exit), exit: Some(exit), uptime });
        let miss = Answer::Miss(Miss { class: Class::Timeout, text: "timed out".to_owned() });
        metrics.probed(&api, Role::Liveness, &miss, Duration::from_millis(7));
        metrics.probed(&api, Role::Liveness, &Answer::Pass, Duration::from_millis(7));
        let gone = status(vec![service("gone")]);
        let log = |bytes| LogCount {
            service: api.clone(),
            log: LogStatus { bytes, lines_lost: 3, ..LogStatus::default() },
            error_lines: 4,
        };
        metrics.text(&gone, &[log(1)]).unwrap();
        let full = ServiceStatus {
            heartbeat_age_seconds: Some(1.5),
            memory_bytes: Some(1024),
            open_files: Some(12),
            threads: Some(3),
            cpu_seconds: Some(2.25),
            ..service("api")
        };
        metrics.text(&status(vec![full]), &[log(9)]).unwrap()
    }

    #[test]
    fn every_promised_metric_is_there_with_its_value() {
        let text = text();
        for line in [
            "keepup_service_up{service=\"api\"} 1",
            "keepup_service_ready{service=\"api\"} 1",
            "keepup_service_state{service=\"api\",state=\"up\"} 1",
            "keepup_service_state{service=\"api\",state=\"failed\"} 0",
            "keepup_service_starts_total{service=\"api\"} 1",
            "keepup_service_ends_total{reason=\"exited\",service=\"api\"} 1",
            "keepup_service_failures_in_row{service=\"api\"} 0",
            "keepup_service_heartbeat_age_seconds{service=\"api\"} 1.5",
            "keepup_service_memory_bytes{service=\"api\"} 1024",
            "keepup_service_cpu_seconds_total{service=\"api\"} 2.25",
            "keepup_service_open_files{service=\"api\"} 12",
            "keepup_service_threads{service=\"api\"} 3",
            "keepup_probe_duration_seconds_count{role=\"liveness\",service=\"api\"} 2",
            "keepup_probe_duration_seconds_bucket{role=\"liveness\",service=\"api\",le=\"0.005\"} 0",
            "keepup_probe_duration_seconds_bucket{role=\"liveness\",service=\"api\",le=\"0.01\"} 2",
            "keepup_probe_misses_total{class=\"timeout\",role=\"liveness\",service=\"api\"} 1",
            "keepup_log_bytes_total{service=\"api\"} 9",
            "keepup_log_lines_lost_total{service=\"api\"} 3",
            "keepup_log_error_lines_total{service=\"api\"} 4",
            "keepup_log_problem{service=\"api\"} 0",
            concat!("keepup_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|it| it == line), "no `{line}` in\n{text}");
        }
        assert!(text.contains("keepup_service_start_time_seconds{service=\"api\"} "));
        assert!(!text.contains("gone"), "a service that is no more is still shown");
    }

    /// What `promtool check metrics` looks at: a help and a type before the first sample, counters
    /// and no others that end in `_total`, base units.
    #[test]
    fn names_and_types_are_as_promtool_wants_them() {
        let text = text();
        let (mut helps, mut types) = (HashMap::new(), HashMap::new());
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words.as_slice() {
                ["#", "HELP", name, help] => assert!(helps.insert(*name, *help).is_none()),
                ["#", "TYPE", name, kind] => assert!(types.insert(*name, *kind).is_none()),
                _ => {
                    let name = line.split(['{', ' ']).next().unwrap();
                    let suffixes = ["_bucket", "_sum", "_count"];
                    let base = suffixes.iter().find_map(|it| name.strip_suffix(it)).unwrap_or(name);
                    assert!(types.contains_key(base), "{line}");
                }
            }
        }
        for (name, kind) in &types {
            assert!(helps.get(name).is_some_and(|it| !it.is_empty()), "{name} has no help");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            for unit in ["_ms", "_milliseconds", "_kb", "_minutes", "_percent"] {
                assert!(!name.contains(unit), "{name}");
            }
        }
        assert_eq!(types.len(), 19);
    }
}
