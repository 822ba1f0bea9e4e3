//! The README's heartbeat from inside the event loop, as it stands there, in a real uvicorn.

use std::fs;
use std::time::Duration;

use crate::harness::{Folder, Keepup};
use crate::world::{at, free_port, get, lives, repository, uvicorn, wait, wait_until};

/// What the snippet needs of `FastAPI`. `/hang` blocks the event loop; a thread lives on, and counts.
const FASTAPI: &str = "\
import pathlib, threading, time\n\
def count():\n\
\x20   nth = 0\n\
\x20   while True:\n\
\x20       nth += 1\n\
\x20       pathlib.Path('thread').write_text(str(nth))\n\
\x20       time.sleep(0.02)\n\
class FastAPI:\n\
\x20   def __init__(self, lifespan):\n\
\x20       self.lifespan = lifespan\n\
\x20       threading.Thread(target=count, daemon=True).start()\n\
\x20   async def __call__(self, scope, receive, send):\n\
\x20       if scope['type'] == 'lifespan':\n\
\x20           await receive()\n\
\x20           async with self.lifespan(self):\n\
\x20               await send({'type': 'lifespan.startup.complete'})\n\
\x20               await receive()\n\
\x20           return await send({'type': 'lifespan.shutdown.complete'})\n\
\x20       if scope['path'] == '/hang':\n\
\x20           time.sleep(1_000_000)\n\
\x20       await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
\x20       await send({'type': 'http.response.body', 'body': b'well'})\n";

/// How long it may be silent, and what a busy machine may add, in milliseconds.
const UNHEALTHY_AFTER: i64 = 2500;
const SLACK: i64 = 5000;

/// It beats once a second, so the last beat may have been that long ago.
const BEAT: i64 = 1000;

fn snippet() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let block = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("WATCHDOG=1"), "{block}");
    block.to_owned()
}

/// An API with the snippet in it, and `more` lines for its service.
fn start(more: &str) -> (Keepup, u16) {
    let (folder, port) = (Folder::new(), free_port());
    folder.write("app.py", &snippet());
    folder.write("fastapi.py", FASTAPI);
    let service = format!(
        "[service.api]\ncommand = [\"{}\", \"app:app\", \"--port\", \"{port}\"]\n\
         env = {{ PYTHONDONTWRITEBYTECODE = \"1\", PYTHONPATH = \".\" }}\nstop_timeout = \"200ms\"\n\
         {more}\nunhealthy_after = \"{UNHEALTHY_AFTER}ms\"\n\
         [service.api.restart]\ndelay = \"10ms\"\n",
        uvicorn().display()
    );
    (Keepup::start_in(folder, "", &service), port)
}

/// Its loop is blocked while its threads live: it is restarted for that, in time.
fn is_cured((mut keepup, port): (Keepup, u16), why: &str) {
    let pid = keepup.up("api");
    keepup.event("api", "ready");
    wait_until("it answers", || get(port, "/").is_ok_and(|it| it.contains("well")));
    // Two beats and more: it is well as long as it beats.
    wait(Duration::from_millis(2200));
    let begin = jiff::Timestamp::now().as_millisecond();
    std::thread::spawn(move || get(port, "/hang"));
    keepup.event("api", "degraded");
    let counted = keepup.folder.read("thread");
    wait_until("its thread lives on", || keepup.folder.read("thread") != counted);
    assert!(lives(pid));
    let unhealthy = keepup.event("api", "unhealthy");
    let took = at(&unhealthy) - begin;
    let bound = UNHEALTHY_AFTER - BEAT - 100..=UNHEALTHY_AFTER + SLACK;
    assert!(bound.contains(&took), "{took} ms: {unhealthy}");
    assert!(unhealthy["why"].as_str().unwrap().contains(why), "{unhealthy}");
    assert_eq!(keepup.event("api", "ended")["reason"], "heartbeat-lost");
    assert_ne!(keepup.up("api"), pid);
    assert!(!lives(pid));
    keepup.event("api", "ready");
    wait_until("it answers again", || get(port, "/").is_ok_and(|it| it.contains("well")));
    keepup.end();
}

#[test]
fn a_loop_that_beats_to_the_socket_and_blocks_is_restarted_in_time() {
    let api = start("notify = true\n[service.api.heartbeat]");
    is_cured(api, "it does not say WATCHDOG=1");
}

#[test]
fn a_loop_that_beats_by_its_file_and_blocks_is_restarted_in_time() {
    let api = start("[service.api.heartbeat]\nfile = \"heartbeat\"");
    is_cured(api, "heartbeat does not change");
}
