//! Starts that fail: each says what is wrong, and is an end like any other.

use crate::harness::{Keepup, set_mode, shell};
use crate::world::is_root;

const BACKOFF: &str = "[service.api.restart]\njitter = 0.0\ndelay = \"20ms\"\n";

/// Starts a service that cannot start; it must be tried again, with growing delays. Gives what
/// was said about it.
fn failure(service: &str) -> String {
    failure_in(Keepup::start(&format!("{service}\n{BACKOFF}")))
}

fn failure_in(mut keepup: Keepup) -> String {
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "spawn-failed", "{ended}");
    assert!(ended["exit"].is_null(), "{ended}");
    assert_eq!(keepup.event("api", "backoff")["delay_seconds"], 0.02);
    assert_eq!(keepup.event("api", "backoff")["delay_seconds"], 0.04);
    keepup.event("api", "starting");
    let last_end = &keepup.service("api")["last_end"];
    assert_eq!(last_end["reason"], "spawn-failed");
    keepup.end();
    ended["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_missing_program_a_missing_directory_and_a_missing_user_are_told_apart() {
    let program = failure("[service.api]\ncommand = [\"no-such-program\"]");
    let path = failure("[service.api]\ncommand = [\"./no-such-path\"]");
    let directory =
        failure("[service.api]\ncommand = [\"sleep\", \"1000\"]\ndirectory = \"no-such-folder\"");
    let user = failure("[service.api]\ncommand = [\"sleep\", \"1000\"]\nuser = \"no-such-user\"");
    assert!(program.contains("`no-such-program`"), "{program}");
    assert!(path.contains("no-such-path"), "{path}");
    assert!(directory.contains("no-such-folder") && directory.contains("directory"), "{directory}");
    assert!(user.contains("`no-such-user`") && user.contains("user"), "{user}");
    for text in [&program, &path, &directory, &user] {
        assert!(text.contains("cannot"), "{text}");
    }
}

#[test]
fn a_script_without_its_interpreter_is_told_from_a_missing_program() {
    let mut keepup = Keepup::start(&format!(
        "{}\n{BACKOFF}",
        shell("script", "printf '#!/no/such/interpreter\\n' > s; chmod +x s", "oneshot = true")
            + "[service.api]\ncommand = [\"./s\"]\nafter = [\"script\"]"
    ));
    let ended = keepup.event("api", "ended");
    assert_eq!(ended["reason"], "spawn-failed", "{ended}");
    assert!(ended["text"].as_str().unwrap().contains("/no/such/interpreter"), "{ended}");
}

#[test]
fn a_program_that_may_not_be_run_says_so() {
    let folder = crate::harness::Folder::new();
    let program = folder.write("program", "#!/bin/sh\n");
    set_mode(&program, 0o644);
    let service = format!("[service.api]\ncommand = [\"./program\"]\n{BACKOFF}");
    let text = failure_in(Keepup::start_in(folder, "", &service));
    assert!(text.to_lowercase().contains("permission"), "{text}");
}

#[test]
fn a_bad_line_of_an_env_file_is_a_failed_start_with_its_place() {
    let folder = crate::harness::Folder::new();
    folder.write("vars", "GOOD=1\nthis is no assignment\n");
    let service =
        format!("[service.api]\ncommand = [\"sleep\", \"1000\"]\nenv_file = [\"vars\"]\n{BACKOFF}");
    let text = failure_in(Keepup::start_in(folder, "", &service));
    assert!(text.contains("vars:2"), "{text}");
}

#[test]
fn a_missing_env_file_is_a_failed_start_unless_it_may_be_missing() {
    let service = "[service.api]\ncommand = [\"sleep\", \"1000\"]\nenv_file = [";
    let text = failure(&format!("{service}\"no-such-file\"]"));
    assert!(text.contains("no-such-file"), "{text}");
    let mut keepup = Keepup::start(&format!("{service}\"?no-such-file\"]\n"));
    keepup.up("api");
}

#[test]
fn a_service_that_could_not_start_runs_once_its_program_is_there() {
    let service = format!("[service.api]\ncommand = [\"./program\"]\n{BACKOFF}");
    let mut keepup = Keepup::start(&service);
    keepup.event("api", "backoff");
    let program = keepup.folder.write("program.new", "#!/bin/sh\nexec sleep 1000\n");
    set_mode(&program, 0o755);
    std::fs::rename(&program, keepup.folder.path("program")).unwrap();
    keepup.up("api");
}

#[test]
fn a_user_that_cannot_be_become_is_told() {
    if !is_root() {
        return;
    }
    let folder = crate::harness::Folder::new();
    let service =
        format!("[service.api]\ncommand = [\"sleep\", \"1\"]\nuser = \"root\"\n{BACKOFF}");
    folder.write("supervisor.toml", &format!("{}{service}", crate::harness::supervisor("")));
    // keepup itself is nobody.
    let mut command = folder.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", crate::harness::KEEPUP]);
    set_mode(&folder.0, 0o777);
    let text = failure_in(Keepup::launch(folder, command));
    assert!(text.contains("root"), "{text}");
}
