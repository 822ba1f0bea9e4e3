//! Why a start fails, in words that tell one cause from another.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keepup::core::event::{Event, SpawnFailure};
use keepup::os::{Happening, Processes};
use keepup::plan::{EnvFile, Limit, Resource, Service};

use crate::common::{alone, folder, inherit, is_root, service, shell};

async fn reason(processes: &mut Processes, service: &Service) -> String {
    processes.spawn(service, 1, inherit());
    match processes.next().await {
        Happening::Core(Event::SpawnFailed { name, failure: SpawnFailure { reason, .. } }) => {
            assert_eq!(name, service.name);
            assert!(!reason.contains('\n'), "{reason}");
            reason
        }
        other @ (Happening::Core(_) | Happening::ProbeEnded { .. }) => panic!("{other:?}"),
    }
}

fn script(path: &Path, text: &str, mode: u32) -> String {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

alone! {
    async fn a_missing_program_folder_user_and_interpreter_are_four_messages() {
        let folder = folder();
        let mut processes = Processes::new().unwrap();
        let mut missing = service(&["no-such-program", "--flag"]);
        missing.env.insert("PATH".into(), "/usr/bin:/bin".into());
        let text = reason(&mut processes, &missing).await;
        assert_eq!(text, "cannot start `no-such-program`: not found in PATH (/usr/bin:/bin)");

        let text = reason(&mut processes, &service(&["/no/such/program"])).await;
        assert_eq!(text, "cannot start `/no/such/program`: no such file");

        let mut elsewhere = shell("exit");
        elsewhere.directory = "/no/such/folder".into();
        let text = reason(&mut processes, &elsewhere).await;
        assert_eq!(text, "cannot start `/bin/sh`: its directory `/no/such/folder` does not exist");

        let mut somebody = shell("exit");
        somebody.user = Some("no-such-user".into());
        let text = reason(&mut processes, &somebody).await;
        assert_eq!(text, "cannot start `/bin/sh`: there is no user `no-such-user`");

        let file = script(&folder.join("a"), "#!/usr/bin/pyhton3 -u\nprint()\n", 0o755);
        let text = reason(&mut processes, &service(&[&file])).await;
        let wanted = "needs the interpreter `/usr/bin/pyhton3` of its first line, which does not exist";
        assert_eq!(text, format!("cannot start `{file}`: `{file}` {wanted}"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_file_that_is_no_program() {
        let folder = folder();
        let mut processes = Processes::new().unwrap();
        let file = script(&folder.join("a"), "#!/bin/sh\n", 0o644);
        let text = reason(&mut processes, &service(&[&file])).await;
        assert_eq!(text, format!("cannot start `{file}`: `{file}` is not executable (chmod +x)"));
        let file = script(&folder.join("b"), "just words\n", 0o755);
        let text = reason(&mut processes, &service(&[&file])).await;
        assert!(text.ends_with("is no program for this machine, or a script without a `#!` line"));
        let text = reason(&mut processes, &service(&[folder.to_str().unwrap()])).await;
        assert!(text.ends_with("is a directory"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn one_that_can_run_is_found_behind_one_that_cannot() {
        let folder = folder();
        for (sub, mode) in [("x", 0o644), ("y", 0o755)] {
            std::fs::create_dir(folder.join(sub)).unwrap();
            script(&folder.join(sub).join("tool"), "#!/bin/sh\nexit 5\n", mode);
        }
        let mut processes = Processes::new().unwrap();
        let mut service = service(&["tool"]);
        let path = folder.to_str().unwrap();
        service.env.insert("PATH".into(), format!("{path}/x:{path}/y"));
        let (exit, _) = crate::common::run(&mut processes, &service).await;
        assert_eq!(exit, keepup::core::event::Exit::Code(5));
        service.env.insert("PATH".into(), format!("{path}/x:/nowhere"));
        let text = reason(&mut processes, &service).await;
        assert!(text.ends_with("/x/tool` is not executable (chmod +x)"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_bad_line_in_an_env_file_is_named_and_a_pipe_is_refused() {
        let folder = folder();
        let path = folder.join(".env");
        std::fs::write(&path, "A=1\nwhat is this\n").unwrap();
        let mut processes = Processes::new().unwrap();
        let mut service = shell("exit");
        service.env_file = vec![EnvFile { path: path.clone(), optional: false }];
        let text = reason(&mut processes, &service).await;
        let (path, sh) = (path.display(), "cannot start `/bin/sh`");
        assert_eq!(text, format!("{sh}: {path}:2: `what is this` is not NAME=value"));

        let missing = folder.join("missing");
        service.env_file = vec![EnvFile { path: missing.clone(), optional: false }];
        let text = reason(&mut processes, &service).await;
        assert!(text.contains(&format!("cannot read env file `{}`: No such file", missing.display())));

        let fifo = folder.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        service.env_file = vec![EnvFile { path: fifo, optional: true }];
        let text = reason(&mut processes, &service).await;
        assert!(text.ends_with("it is not a regular file"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

alone! {
    async fn a_limit_that_cannot_be_set() {
        let mut processes = Processes::new().unwrap();
        let mut service = shell("exit");
        service.limits.insert(Resource::Nofile, Limit::Unlimited);
        let text = reason(&mut processes, &service).await;
        assert!(text.contains("cannot set limit `nofile` to unlimited: operation not permitted ("));
        assert!(text.contains("LimitNOFILE"), "{text}");
    }
}

alone! {
    async fn no_more_processes_or_files_is_an_end_like_any_other() {
        if !is_root() {
            return;
        }
        let mut processes = Processes::new().unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 3, 4096).unwrap();
        let text = reason(&mut processes, &shell("exit")).await;
        assert!(text.contains("keepup has too many open files"), "{text}");
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 4096, 4096)
            .unwrap();
        // Root may always fork: somebody else may not.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NPROC, 1, 1).unwrap();
        nix::unistd::setuid(nix::unistd::Uid::from_raw(54321)).unwrap();
        let text = reason(&mut processes, &shell("exit")).await;
        assert!(text.contains("no more processes are allowed here"), "{text}");
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NPROC, 0, 1).unwrap();
    }
}

alone! {
    async fn only_root_can_become_somebody_else() {
        if !is_root() {
            return;
        }
        let mut processes = Processes::new().unwrap();
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        nix::unistd::setresgid(nobody.gid, nobody.gid, nobody.gid).unwrap();
        nix::unistd::setresuid(nobody.uid, nobody.uid, nobody.uid).unwrap();
        let mut service = shell("exit 6");
        service.user = Some("root".into());
        let text = reason(&mut processes, &service).await;
        assert!(text.contains("cannot take on its groups: keepup runs as uid"), "{text}");
        // But to stay who one is needs no rights.
        service.user = Some("nobody".into());
        let (exit, _) = crate::common::run(&mut processes, &service).await;
        assert_eq!(exit, keepup::core::event::Exit::Code(6));
    }
}
