//! The page for people: all services at a glance, in one piece of HTML that refreshes itself.
//!
//! Needs nothing from elsewhere and runs no script; whatever a service says is shown as text.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::core::event::Short;
use crate::status::{Health, ServiceStatus, Stamp, Status};

/// What a browser is told about the page: that nothing but its own style belongs to it.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}\
td.n{text-align:right;font-variant-numeric:tabular-nums}\
.good{color:#1a7f37}.so{color:#9a6700}.bad{color:#cf222e}.dim{opacity:.6}";

/// The page, as of this moment.
pub fn page(status: &Status, at: Stamp) -> String {
    let mut out = String::with_capacity(4096);
    // Writing to a string cannot fail.
    let _ = write(&mut out, status, at);
    out
}

fn write(out: &mut String, status: &Status, at: Stamp) -> fmt::Result {
    let supervisor = &status.supervisor;
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>keepup: {level}</title>\
         <style>{STYLE}</style></head><body>\n<h1>keepup: {level}</h1>\n\
         <p class=\"dim\">version {version}, pid {pid}, up {uptime}; as of {at}</p>\n",
        level = supervisor.level,
        version = Text(&supervisor.version),
        pid = supervisor.pid,
        uptime = Since(Some(supervisor.uptime_seconds)),
    )?;
    out.push_str(
        "<table><thead><tr><th>Service<th>State<th>Health<th>Ready<th>Uptime<th>Restarts\
         <th>Last end</thead><tbody>\n",
    );
    for service in &status.services {
        row(out, service)?;
    }
    out.push_str("</tbody></table>\n");
    let problems = status.problems();
    if !problems.is_empty() {
        out.push_str("<h2>Problems</h2>\n<ul>\n");
        for problem in &problems {
            write!(out, "<li><b>{}</b>: {}", Text(&problem.service), Text(&problem.what))?;
            if let Some(since) = problem.since {
                write!(out, " <span class=\"dim\">since {since}</span>")?;
            }
            out.push('\n');
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</body></html>\n");
    Ok(())
}

fn row(out: &mut String, service: &ServiceStatus) -> fmt::Result {
    let (health, class) = match service.health {
        Some(health @ Health::Healthy) => (health.name(), "good"),
        Some(health @ (Health::Starting | Health::Degraded)) => (health.name(), "so"),
        Some(health @ Health::Unhealthy) => (health.name(), "bad"),
        None => ("–", "dim"),
    };
    write!(
        out,
        "<tr><td>{name}<td>{state}<td class=\"{class}\">{health}<td>{ready}\
         <td class=\"n\">{uptime}<td class=\"n\">{restarts}<td>",
        name = Text(&service.name),
        state = service.state.name(),
        ready = if service.ready { "yes" } else { "no" },
        uptime = Since(service.uptime_seconds),
        restarts = service.restarts,
    )?;
    if let Some(end) = &service.last_end {
        write!(out, "{} <span class=\"dim\">{}</span>", Text(&end.in_words()), end.at)?;
    }
    out.push('\n');
    Ok(())
}

struct Since(Option<f64>);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|it| Duration::try_from_secs_f64(it).ok()) {
            Some(duration) => Short(duration).fmt(f),
            None => f.write_str("–"),
        }
    }
}

/// Text that is no markup.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|it| match it {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            it => f.write_char(it),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Trouble;
    use crate::status::tests::{service, stamp, status};

    #[test]
    fn what_a_service_says_is_no_markup() {
        let what = "<script>alert(1)</script>".to_owned();
        let ill = ServiceStatus {
            ready: false,
            health: Some(Health::Unhealthy),
            trouble: Some(Trouble { what, since: stamp() }),
            ..service("api")
        };
        let page = page(&status(vec![ill]), stamp());
        assert!(!page.contains("<script"));
        assert!(page.contains("<b>api</b>: &lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        assert!(page.contains("<title>keepup: degraded</title>"));
    }
}
