//! Random services on random disks: every line is in the files once and in order, or it is counted
//! as lost where it is missing.
//!
//! `SEED=17 cargo test --test logs property` plays one seed again, `SEEDS=1000` many. The disk is
//! filled, freed, emptied and moved away by whoever may mount one; an ordinary user only moves.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use keepup::plan::{self, Compress, LogFormat};

use crate::chance::{Chance, seeds};
use crate::disk::{Tmpfs, cannot_mount};
use crate::record::{Item, gather, items};
use crate::world::{Folder, LIMIT, World, name, plan, wait_until};

/// Most of a world's time is spent waiting for a disk to be tried again.
const AT_ONCE: usize = 12;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Write,
    /// The writer dies, perhaps in the middle of a line, and its successor begins.
    Die,
    /// keepup ends, and another begins.
    Restart,
    Fill,
    Free,
    /// The whole folder is renamed.
    MoveFolder,
    /// Every file is moved to another folder.
    MoveFiles,
    /// Every file is deleted, and the folder, too.
    Delete,
    Reopen,
    Adjust,
}

/// Files that are no longer where keepup puts them.
enum Past {
    Moved(PathBuf),
    /// Deleted, oldest first; a deleted file can be read as long as it is open.
    Held(Vec<File>),
}

struct Play {
    chance: Chance,
    folder: Folder,
    disk: Option<Tmpfs>,
    plan: plan::Logs,
    world: World,
    outs: Vec<File>,
    run: u64,
    numbers: u64,
    /// What each stream wrote: whole lines, and what follows them.
    wrote: Vec<Vec<Vec<u8>>>,
    begun: Vec<Vec<u8>>,
    /// How many lines of each stream there were at each end of a keepup.
    ends: Vec<Vec<usize>>,
    lost: u64,
    past: Vec<Past>,
}

impl Play {
    fn new(seed: u64, mounts: bool) -> Play {
        let mut chance = Chance(seed);
        let folder = Folder::new();
        let disk = mounts.then(|| Tmpfs::new(&folder, "32m"));
        if disk.is_none() {
            fs::create_dir(folder.path("disk")).unwrap();
        }
        let plan = plan::Logs {
            max_size: 2_000 + chance.below(60_000),
            keep: 1_000,
            format: chance.of(&[LogFormat::Raw, LogFormat::Raw, LogFormat::Text, LogFormat::Json]),
            compress: chance.of(&[Compress::None, Compress::Gzip]),
            buffer: 1_000 + chance.below(100_000),
            ..plan(folder.path("disk/logs/api.log"))
        };
        let streams = if plan.format == LogFormat::Raw { 1 } else { 2 };
        let world = World::new();
        let mut it = Play {
            chance,
            folder,
            disk,
            plan,
            world,
            outs: Vec::new(),
            run: 0,
            numbers: 0,
            wrote: vec![Vec::new(); streams],
            begun: vec![Vec::new(); streams],
            ends: Vec::new(),
            lost: 0,
            past: Vec::new(),
        };
        it.begin();
        it
    }

    /// A keepup and a run begin.
    fn begin(&mut self) {
        self.world.logs.add(&name("api"), &self.plan, None).unwrap();
        self.begin_run();
    }

    fn begin_run(&mut self) {
        self.run += 1;
        let ends = self.world.logs.begin_run(&name("api"), self.run).unwrap();
        self.outs = ends.map(File::from).into();
    }

    fn logs(&self) -> PathBuf {
        self.folder.path("disk/logs")
    }

    fn line(&mut self, stream: usize) -> Vec<u8> {
        self.numbers += 1;
        let raw = self.plan.format == LogFormat::Raw;
        let length = match self.chance.below(60) {
            0 if raw => 60_000 + self.chance.size(100_000),
            0 | 1 => self.chance.size(20_000),
            2..10 => 0,
            _ => self.chance.size(200),
        };
        let mut line = format!("{stream} {} ", self.numbers).into_bytes();
        let byte = self.chance.of(if raw { b"xyz\0\x1b\xff".as_slice() } else { b"xyz" });
        line.resize(line.len() + length, byte);
        line
    }

    fn write(&mut self) {
        let stream = self.chance.size(self.wrote.len());
        // stdout and stderr of a raw log are one.
        let end = if self.wrote.len() == 1 { self.chance.size(2) } else { stream };
        let mut bytes = Vec::new();
        for _ in 0..self.chance.below(80) {
            let line = self.line(stream);
            let mut whole = std::mem::take(&mut self.begun[stream]);
            whole.extend_from_slice(&line);
            self.wrote[stream].push(whole);
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        }
        if self.chance.once_in(3) {
            let line = self.line(stream);
            self.begun[stream].extend_from_slice(&line);
            bytes.extend_from_slice(&line);
        }
        let piece = 1 + self.chance.size(30_000);
        for piece in bytes.chunks(piece) {
            (&self.outs[end]).write_all(piece).unwrap();
        }
    }

    /// What has begun comes to no end.
    fn end_lines(&mut self) {
        for (wrote, begun) in self.wrote.iter_mut().zip(&mut self.begun) {
            if !begun.is_empty() {
                wrote.push(std::mem::take(begun));
            }
        }
    }

    /// All that was written is taken in, as after a death.
    fn drain(&mut self) {
        self.world.drain("api");
        // A raw log goes on byte by byte.
        if self.plan.format != LogFormat::Raw {
            self.end_lines();
        }
    }

    fn die(&mut self) {
        self.drain();
        self.begin_run();
    }

    /// keepup ends.
    fn end(&mut self) {
        self.world.logs.finish(LIMIT);
        self.lost += self.world.lost("api");
        self.end_lines();
        self.ends.push(self.wrote.iter().map(Vec::len).collect());
    }

    fn restart(&mut self) {
        self.end();
        self.world = World::new();
        self.begin();
    }

    fn fill(&self) {
        if self.disk.is_some() {
            let mut filler =
                File::options().append(true).create(true).open(self.folder.path("disk/filler"));
            let filler = filler.as_mut().unwrap();
            for piece in [64 << 10, 4 << 10, 1] {
                while filler.write_all(&vec![0; piece]).is_ok() {}
            }
        }
    }

    fn free(&self) {
        let _ = fs::remove_file(self.folder.path("disk/filler"));
    }

    fn move_folder(&mut self) {
        let to = self.folder.path(&format!("disk/past{}", self.past.len()));
        if fs::rename(self.logs(), &to).is_ok() {
            self.past.push(Past::Moved(to));
        }
    }

    /// The files of the log, oldest first; nobody renames them meanwhile.
    fn files(&mut self) -> Vec<String> {
        self.drain();
        let entries = fs::read_dir(self.logs()).into_iter().flatten();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        let number = |name: &String| name.rsplit('.').next().unwrap().parse().unwrap_or(0);
        names.sort_by_key(|it| std::cmp::Reverse(number(it)));
        names
    }

    fn move_files(&mut self) {
        if self.plan.compress == Compress::None {
            let to = self.folder.path(&format!("disk/past{}", self.past.len()));
            if fs::create_dir(&to).is_ok() {
                for file in self.files() {
                    fs::rename(self.logs().join(&file), to.join(file)).unwrap();
                }
                self.past.push(Past::Moved(to));
            }
        }
    }

    fn delete(&mut self) {
        if self.plan.compress == Compress::None {
            let files = self.files();
            let hold = |it: &String| File::open(self.logs().join(it)).unwrap();
            self.past.push(Past::Held(files.iter().map(hold).collect()));
            let _ = fs::remove_dir_all(self.logs());
        }
    }

    fn adjust(&mut self) {
        self.plan.max_size = 2_000 + self.chance.below(60_000);
        self.plan.buffer = 1_000 + self.chance.below(100_000);
        self.world.logs.add(&name("api"), &self.plan, None).unwrap();
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Write => self.write(),
            Deed::Die => self.die(),
            Deed::Restart => self.restart(),
            Deed::Fill => self.fill(),
            Deed::Free => self.free(),
            Deed::MoveFolder => self.move_folder(),
            Deed::MoveFiles => self.move_files(),
            Deed::Delete => self.delete(),
            Deed::Reopen => self.world.logs.reopen(),
            Deed::Adjust => self.adjust(),
        }
    }

    fn live(mut self) {
        let deeds = [
            Deed::Die,
            Deed::Restart,
            Deed::Fill,
            Deed::Fill,
            Deed::Free,
            Deed::MoveFolder,
            Deed::MoveFiles,
            Deed::Delete,
            Deed::Reopen,
            Deed::Adjust,
        ];
        for _ in 0..30 {
            let deed = if self.chance.once_in(3) { self.chance.of(&deeds) } else { Deed::Write };
            self.act(deed);
        }
        self.free();
        self.drain();
        wait_until("it can be written", || {
            let problem = self.world.logs.stats(&name("api")).problem;
            // A compression that failed is not tried again so soon.
            problem.is_none_or(|it| it.0.starts_with("cannot compress"))
        });
        self.end();
        let items = self.items();
        self.judge(&items);
    }

    fn items(&mut self) -> Vec<Item> {
        let mut bytes = Vec::new();
        let mut all = Vec::new();
        let mut past: Vec<Vec<u8>> = self.past.iter_mut().map(Past::read).collect();
        past.push(gather(&self.logs()));
        for (nth, mut more) in past.into_iter().enumerate() {
            let head = |start: &[u8]| more.starts_with(start);
            // What begins anew does not continue the line that stands at the end of the other file.
            let anew = match self.plan.format {
                LogFormat::Raw => true,
                LogFormat::Text => head(b"20") && more.get(4) == Some(&b'-'),
                LogFormat::Json => head(b"{\"time\""),
            };
            if anew && nth > 0 {
                all.extend(items(&std::mem::take(&mut bytes), self.plan.format));
            }
            bytes.append(&mut more);
        }
        all.extend(items(&bytes, self.plan.format));
        all
    }

    fn judge(&self, items: &[Item]) {
        let mut judge = Judge {
            play: self,
            next: vec![0; self.wrote.len()],
            excused: vec![false; self.wrote.len()],
            marked: 0,
            missing: 0,
        };
        let mut items = items.iter().peekable();
        while let Some(item) = items.next() {
            match item {
                Item::Lost(lines) => judge.lost(*lines),
                Item::Torn => {}
                Item::Line { stream, text, whole } => {
                    let (mut text, mut whole) = (text.clone(), *whole);
                    // Its rest stands at the beginning of the next file.
                    while !whole
                        && !judge.is_next(*stream, &text)
                        && let Some(Item::Line { text: more, whole: ends, .. }) = items.peek()
                        && judge.begins(*stream, &[&text[..], more].concat())
                    {
                        text.extend_from_slice(more);
                        whole = *ends;
                        items.next();
                    }
                    judge.line(*stream, &text);
                }
            }
        }
        judge.end();
    }
}

impl Past {
    fn read(&mut self) -> Vec<u8> {
        match self {
            Past::Moved(path) => gather(path),
            Past::Held(files) => {
                let mut bytes = Vec::new();
                for file in files {
                    file.rewind().unwrap();
                    file.read_to_end(&mut bytes).unwrap();
                }
                bytes
            }
        }
    }
}

/// Goes through what is in the files.
struct Judge<'a> {
    play: &'a Play,
    /// The number of the line that follows, of each stream.
    next: Vec<usize>,
    /// Lines are lost since the last one of this stream, and it is told.
    excused: Vec<bool>,
    marked: u64,
    missing: u64,
}

impl Judge<'_> {
    fn wrote(&self, stream: usize, nth: usize) -> Option<&[u8]> {
        self.play.wrote[stream].get(nth).map(Vec::as_slice)
    }

    fn is_next(&self, stream: usize, text: &[u8]) -> bool {
        self.wrote(stream, self.next[stream]) == Some(text)
    }

    fn begins(&self, stream: usize, text: &[u8]) -> bool {
        self.wrote(stream, self.next[stream]).is_some_and(|it| it.starts_with(text))
    }

    fn lost(&mut self, lines: u64) {
        self.marked += lines;
        // With one stream the mark says exactly which.
        if let [next] = &mut self.next[..] {
            *next += usize::try_from(lines).unwrap();
            self.missing += lines;
        }
        self.excused.fill(true);
    }

    fn line(&mut self, stream: usize, text: &[u8]) {
        if self.is_next(stream, text) {
            self.next[stream] += 1;
            self.excused[stream] = false;
            return;
        }
        let from = self.next[stream];
        let later = (from..self.play.wrote[stream].len())
            .find(|nth| self.wrote(stream, *nth) == Some(text));
        let Some(later) = later else {
            // Its rest is lost, which is told behind it.
            let mut rest = self.play.wrote[stream][from..].iter();
            let torn = rest.any(|it| it.starts_with(text));
            assert!(torn, "twice, out of order or unknown: {}", self.told(stream, text));
            return;
        };
        // What a keepup could not write at its end is counted, and no mark tells of it.
        let ended = self.play.ends.iter().any(|end| from < end[stream] && end[stream] <= later);
        let exact = self.next.len() == 1;
        let excused = if exact { false } else { self.excused[stream] };
        assert!(excused || ended, "missing without a mark: {}", self.told(stream, text));
        if exact {
            let at_end = self.play.ends.iter().any(|end| end[stream] == later);
            assert!(at_end, "the mark has another number: {}", self.told(stream, text));
        }
        self.missing += (later - from) as u64;
        self.next[stream] = later + 1;
        self.excused[stream] = false;
    }

    fn told(&self, stream: usize, text: &[u8]) -> String {
        let short = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
        let wanted = self.wrote(stream, self.next[stream]).map(short);
        format!("found {:?}, wanted {wanted:?} of stream {stream}", short(text))
    }

    fn end(mut self) {
        for (stream, next) in self.next.iter().enumerate() {
            self.missing += (self.play.wrote[stream].len() - next) as u64;
        }
        assert_eq!(self.missing, self.play.lost, "missing, and counted");
        assert!(self.marked <= self.play.lost, "{} are marked", self.marked);
    }
}

#[test]
fn every_line_is_in_the_files_once_and_in_order_or_counted_where_it_is_missing() {
    let seeds = seeds(60);
    let mounts = !cannot_mount();
    let next = AtomicUsize::new(0);
    let lost = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let play = || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let played = catch_unwind(AssertUnwindSafe(|| Play::new(*seed, mounts).live()));
                if played.is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                    complain(*seed);
                }
            }
        };
        for _ in 0..AT_ONCE {
            scope.spawn(play);
        }
    });
    assert_eq!(lost.into_inner(), 0, "seeds have failed; they are named above");
}

#[expect(clippy::print_stderr, reason = "who runs the tests should read it")]
fn complain(seed: u64) {
    eprintln!("play it again: SEED={seed} cargo test --test logs property");
}
