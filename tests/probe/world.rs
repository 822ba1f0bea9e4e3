//! Scripted servers, and one question asked of them.

use std::collections::BTreeMap;
use std::time::Duration;

use keepup::core::event::{Answer, Event, Miss, Pid, Ticket};
use keepup::plan::{Class, HttpAddress, HttpProbe, Name, Probe, ProbeKind, Role};
use keepup::probe::Prober;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing here takes so long, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// For probes that are to miss by their backstop, which is twice as long.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(LIMIT, test).await.expect("the test hangs") })
}

pub(crate) fn http(address: HttpAddress) -> HttpProbe {
    HttpProbe {
        url: "http://test/".to_owned(),
        address,
        path: "/".to_owned(),
        host: "test".to_owned(),
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        body: None,
        status: vec![200..=399],
        contains: None,
        json: vec![],
    }
}

pub(crate) fn local(port: u16) -> HttpAddress {
    HttpAddress::Tcp("127.0.0.1".to_owned(), port)
}

pub(crate) fn probe(kind: ProbeKind, timeout: Duration) -> Probe {
    Probe {
        role: Role::Liveness,
        kind,
        interval: LIMIT,
        retry_interval: LIMIT,
        timeout,
        failures: 3,
        successes: 1,
        initial_delay: Duration::ZERO,
        slow: None,
        definite: vec![],
    }
}

/// What one question comes to.
pub(crate) async fn ask(kind: ProbeKind, timeout: Duration) -> Answer {
    ask_of(None, kind, timeout).await
}

/// What one question of the run with this main process comes to.
pub(crate) async fn ask_of(main: Option<Pid>, kind: ProbeKind, timeout: Duration) -> Answer {
    let (sender, mut answers) = mpsc::channel(1);
    let mut prober = Prober::new(sender);
    let name = Name::from("api");
    prober.ask(&name, Ticket(7), &probe(kind, timeout), main);
    let event = answers.recv().await.unwrap();
    let Event::Probed { name: told, ticket: Ticket(7), answer, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(told, name);
    if let Answer::Miss(miss) = &answer {
        check(miss);
    }
    answer
}

/// What holds for every miss.
pub(crate) fn check(miss: &Miss) {
    let text = &miss.text;
    assert!(!text.trim().is_empty(), "a miss without a reason");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() <= 200, "{text:?}");
}

/// A server that reads one request and then does what `script` says with the connection.
pub(crate) async fn server<F, S>(script: S) -> u16
where
    S: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_head(&mut stream).await;
            tokio::spawn(script(stream));
        }
    });
    port
}

pub(crate) async fn read_head<S: AsyncReadExt + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A server that answers with these bytes and closes the connection.
pub(crate) async fn says(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    server(move |mut stream| {
        let answer = answer.clone();
        async move {
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// An answer with this status line and body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The class and text of the miss to `answer`, `edit`ed into the probe; `pass` if it passes.
pub(crate) async fn judged(
    answer: impl Into<Vec<u8>>,
    edit: impl FnOnce(&mut HttpProbe),
) -> String {
    let mut question = http(local(says(answer).await));
    edit(&mut question);
    told(ask(ProbeKind::Http(Box::new(question)), LIMIT).await)
}

pub(crate) fn told(answer: Answer) -> String {
    match answer {
        Answer::Pass => "pass".to_owned(),
        Answer::Miss(Miss { class, text }) => format!("{}: {text}", class.name()),
    }
}

pub(crate) fn is_timeout(answer: &Answer) -> bool {
    matches!(answer, Answer::Miss(Miss { class: Class::Timeout, .. }))
}
