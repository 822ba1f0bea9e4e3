//! What is left of a question: nothing.

use std::time::Duration;

use keepup::core::event::{Answer, Event, Ticket};
use keepup::plan::{Name, ProbeKind};
use keepup::probe::Prober;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::world::{LIMIT, answer, http, local, probe, read_head, run, says};

#[test]
fn abandoning_closes_the_connection() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, mut answers) = mpsc::channel(1);
        let mut prober = Prober::new(sender);
        let name = Name::from("api");
        prober.ask(
            &name,
            Ticket(1),
            &probe(ProbeKind::Http(Box::new(http(local(port)))), LIMIT),
            None,
        );
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        assert_eq!(prober.pending(), 1);
        prober.abandon(Ticket(1));
        assert_eq!(prober.pending(), 0);
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "the end of the connection");
        prober.abandon(Ticket(1));
        drop(prober);
        assert_eq!(answers.recv().await, None, "no answer is sent");
    });
}

#[test]
fn dropping_the_prober_abandons_everything() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, mut answers) = mpsc::channel(1);
        let mut prober = Prober::new(sender);
        for ticket in 0..10 {
            let question = probe(ProbeKind::Http(Box::new(http(local(port)))), LIMIT);
            prober.ask(&Name::from("api"), Ticket(ticket), &question, None);
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        drop(prober);
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(answers.recv().await, None);
    });
}

fn sockets() -> usize {
    let own = std::fs::read_dir("/proc/self/fd").unwrap();
    own.filter_map(Result::ok).filter_map(|fd| std::fs::read_link(fd.path()).ok()).count()
}

/// Runs in a process of its own, because other tests open sockets, too.
#[test]
fn a_thousand_probes_leave_nothing() {
    let me = std::env::current_exe().unwrap();
    let mut alone = std::process::Command::new(me);
    alone.args(["--exact", "leaks::alone", "--ignored", "--nocapture", "--test-threads", "1"]);
    let output = alone.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{why}");
}

#[test]
#[ignore = "started by `a_thousand_probes_leave_nothing`"]
fn alone() {
    run(async {
        let port = says(answer("200 OK", "{\"status\": \"healthy\"}")).await;
        let (sender, mut answers) = mpsc::channel(4);
        let mut prober = Prober::new(sender);
        let name = Name::from("api");
        let mut question = http(local(port));
        question.contains = Some("healthy".to_owned());
        let kinds = [
            ProbeKind::Http(Box::new(question)),
            ProbeKind::Tcp(format!("127.0.0.1:{port}")),
            ProbeKind::Tcp("127.0.0.1:1".to_owned()),
        ];
        let before = sockets();
        for round in 0..100_u64 {
            for ticket in 0..10 {
                let nth = usize::try_from(ticket).unwrap() % kinds.len();
                let question = probe(kinds[nth].clone(), Duration::from_secs(5));
                prober.ask(&name, Ticket(10 * round + ticket), &question, None);
            }
            prober.abandon(Ticket(10 * round));
            for _ in 0..9 {
                let event = answers.recv().await.unwrap();
                let Event::Probed { ticket: Ticket(ticket), answer, .. } = event else {
                    panic!("{event:?}")
                };
                assert_eq!(answer == Answer::Pass, ticket % 10 % 3 != 2, "{ticket}: {answer:?}");
            }
        }
        while sockets() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while prober.pending() > 0 {
            tokio::task::yield_now().await;
        }
    });
}
