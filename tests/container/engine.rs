//! A Docker engine, the images that are tested, and containers that go with their owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing here takes so long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// The same for one call of the engine's client, in seconds; it may hang when the engine does.
const CALL_LIMIT: &str = "120";

/// The images, as they are named in the engine.
pub(crate) const BUSYBOX: &str = "keepup-test:busybox";
const CARGO: &str = "keepup-test:cargo";
const SCRATCH: &str = "keepup-test:scratch";
const DEBIAN: &str = "keepup-test:debian";

/// What stands in the place of cargo while an image is built: the program was built before.
const NO_CARGO: &str = "#!/bin/sh
set -eu
test \"$RUSTFLAGS\" = '-C target-feature=+crt-static'
test -f Cargo.lock
for target; do :; done
mkdir -p \"target/$target/release\"
cp /keepup \"target/$target/release/keepup\"
";

/// The client of the engine.
pub(crate) fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    // In the foreground: a terminal stays the client's.
    command.args(["--foreground", "--kill-after=5", CALL_LIMIT, "docker"]).args(arguments);
    command.env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
    command
}

/// What a call says, which must succeed.
pub(crate) fn said(arguments: &[&str]) -> String {
    let output = docker(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Both streams, for people.
pub(crate) fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{} {out}{err}", output.status)
}

/// The program that is tested: static, so that it runs anywhere.
fn program() -> PathBuf {
    let given = std::env::var_os("KEEPUP_STATIC").map(PathBuf::from);
    let program = given.unwrap_or_else(|| repository().join("target/static/keepup"));
    assert!(program.exists(), "no `{}`: `bash .ci/static` builds it", program.display());
    program
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The image that the packaging makes: keepup alone.
pub(crate) fn scratch() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| build("packaging/Dockerfile", SCRATCH));
    SCRATCH
}

/// The image that the packaging makes: keepup in front of an API on Debian; for the tests, the
/// base is busybox.
pub(crate) fn debian() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| build("packaging/Dockerfile.debian", DEBIAN));
    DEBIAN
}

/// Builds an image as the README says; nothing can be pulled.
fn build(file: &str, name: &str) {
    base();
    let repository = repository().to_str().unwrap();
    let file = format!("{repository}/{file}");
    let (rust, base) = (format!("RUST={CARGO}"), format!("BASE={BUSYBOX}"));
    let mut arguments = vec!["build", "-q", "--network", "none", "-f", &file, "-t", name];
    arguments.extend(["--build-arg", &rust]);
    if name == DEBIAN {
        arguments.extend(["--build-arg", &base]);
    }
    arguments.push(repository);
    said(&arguments);
}

/// The images that the others are made from: busybox with users, and what stands for cargo.
fn base() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let info = docker(&["info"]).output().unwrap();
        assert!(
            info.status.success(),
            "no Docker engine answers: `bash .ci/container` starts one\n{}",
            text(&info)
        );
        let folder = Folder::new();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|it| {
            let list = Command::new(it).arg("--list").output();
            list.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("httpd"))
        });
        let busybox = busybox.expect("no static busybox: install `busybox-static`");
        for it in ["bin", "etc", "tmp", "root", "usr/local/bin"] {
            fs::create_dir_all(folder.path(it)).unwrap();
        }
        set_mode(&folder.path("tmp"), 0o1777);
        fs::copy(busybox, folder.path("bin/busybox")).unwrap();
        let list = Command::new(busybox).arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", folder.path("bin").join(applet)).unwrap();
            }
        }
        let users = "root:x:0:0:root:/root:/bin/sh\napi:x:4711:4712::/tmp:/bin/sh\n";
        folder.write("etc/passwd", users);
        folder.write("etc/group", "root:x:0:\napi:x:4712:\nmore:x:4713:api\n");
        import(&folder, BUSYBOX);
        fs::copy(program(), folder.path("keepup")).unwrap();
        set_mode(&folder.write("usr/local/bin/cargo", NO_CARGO), 0o755);
        import(&folder, CARGO);
    });
}

fn import(root: &Folder, name: &str) {
    let tar = root.0.with_extension("tar");
    let archive = tar.to_str().unwrap();
    let mut tar_up = Command::new("tar");
    tar_up.args(["-C", root.0.to_str().unwrap(), "-cf", archive, "."]);
    assert!(tar_up.status().unwrap().success());
    said(&["import", archive, name]);
    fs::remove_file(tar).unwrap();
}

/// A folder that goes with its owner.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let path = std::env::temp_dir().join(unique());
        fs::create_dir_all(&path).unwrap();
        set_mode(&path, 0o755);
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("keepup-container-{}-{nth}", std::process::id())
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A container, which goes with its owner.
pub(crate) struct Container {
    pub(crate) name: String,
    /// What is at `/etc/keepup` in it, not to be written to there.
    _folder: Folder,
}

impl Container {
    /// keepup as PID 1 over a file, in the image for Debian, with more options of `docker run`.
    pub(crate) fn start(options: &[&str], file: &str) -> Container {
        Container::of(debian(), options, file, &[])
    }

    /// Any image and any command.
    pub(crate) fn of(image: &str, options: &[&str], file: &str, command: &[&str]) -> Container {
        let folder = Folder::new();
        folder.write("supervisor.toml", file);
        let name = unique();
        let mount = format!("{}:/etc/keepup:ro", folder.0.display());
        let mut arguments = vec!["run", "-d", "--name", &name, "--network", "none", "-v", &mount];
        arguments.extend_from_slice(options);
        arguments.push(image);
        arguments.extend_from_slice(command);
        let container = Container { name: name.clone(), _folder: folder };
        said(&arguments);
        container
    }

    /// Runs something in it.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        docker(&[&["exec", &self.name], command].concat()).output().unwrap()
    }

    /// Runs something in it that must succeed.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        said(&[&["exec", &self.name], command].concat())
    }

    pub(crate) fn service(&self, name: &str) -> Value {
        let output = self.exec(&["keepup", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.into_iter().find(|it| it["name"] == name).unwrap_or_default()
    }

    /// Waits until this field of a service's status has this value, and gives the service.
    pub(crate) fn wait(&self, name: &str, field: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let mut found = Value::Null;
        self.wait_until(&format!("{field} of `{name}` is {value}"), || {
            found = self.service(name);
            found[field] == value
        });
        found
    }

    /// Waits until it is up, and gives its pid in the container.
    pub(crate) fn up(&self, name: &str) -> i64 {
        self.wait(name, "state", "up")["pid"].as_i64().unwrap()
    }

    /// Something of `docker inspect`.
    pub(crate) fn inspect(&self, what: &str) -> String {
        said(&["inspect", "--format", &format!("{{{{{what}}}}}"), &self.name])
    }

    pub(crate) fn signal(&self, signal: &str) {
        said(&["kill", "-s", signal, &self.name]);
    }

    /// `docker logs`: stdout and stderr.
    pub(crate) fn logs(&self) -> (String, String) {
        let output = docker(&["logs", &self.name]).output().unwrap();
        let [out, err] = [output.stdout, output.stderr];
        (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
    }

    /// Waits for a line with all of these words in `docker logs`.
    pub(crate) fn wait_line(&self, words: &[&str]) -> String {
        let mut found = None;
        self.wait_until(&format!("a line has {words:?}"), || {
            let (out, err) = self.logs();
            let has = |line: &&str| words.iter().all(|it| line.contains(it));
            found = out.lines().chain(err.lines()).find(has).map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn wait_code(&self) -> i32 {
        said(&["wait", &self.name]).parse().unwrap()
    }

    /// `docker stop`, with the engine's own patience of 10 s; the exit code, and how long it took.
    pub(crate) fn stop(&self) -> (i32, Duration) {
        let begin = Instant::now();
        said(&["stop", &self.name]);
        let took = begin.elapsed();
        (self.inspect(".State.ExitCode").parse().unwrap(), took)
    }

    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds() {
            if Instant::now() > end {
                let (out, err) = self.logs();
                let state = self.inspect("json .State");
                panic!("waited in vain until {what}\n{state}\nstdout:\n{out}stderr:\n{err}");
            }
            pause(Duration::from_millis(50));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", "-v", &self.name]).output();
    }
}

/// A pause between two looks, not a wait for luck; or a span in which nothing may happen.
pub(crate) fn pause(span: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(span);
}

/// A service that runs a shell script, with more keys.
pub(crate) fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", '''\n{script}\n''']\n{more}\n")
}

/// One that does nothing, for as long as it takes.
pub(crate) fn idle(name: &str, more: &str) -> String {
    shell(name, "exec sleep 100000", more)
}
