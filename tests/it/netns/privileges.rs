//! Which capabilities are needed, and what is logged about missing ones.

use std::process::{Command, Stdio};
use std::{fs, io, thread};

use nix::sched::{CloneFlags, setns};

use super::place::{Names, Place, Resident};
use super::{by_netns, exported};
use crate::support::eventually;
use crate::support::namespace::in_namespace;
use crate::support::program::Program;

#[test]
fn without_the_capability_to_enter_the_log_names_it_once_and_the_exporters_namespace_is_exported() {
    in_namespace(|| {
        let names = Names::new();
        let _places = ["a", "b"].map(|name| names.named(name));
        let path = names.flag();
        // In a user namespace the host's capabilities are missing.
        let hidden = f64::from(u8::from(has_hidden_processes()));
        for (flag, bounding, missing, unreadable) in [
            ("named", "-sys_admin", vec!["CAP_SYS_ADMIN"], 2.0),
            ("all", "-sys_admin", vec!["CAP_SYS_ADMIN"], 2.0 + hidden),
            ("all", "-sys_ptrace", vec!["CAP_SYS_PTRACE"], 1.0),
            (
                "all",
                "-sys_admin,-sys_ptrace",
                vec!["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"],
                3.0,
            ),
        ] {
            let bounding = format!("--bounding-set={bounding}");
            let flags = [&*format!("--collector.netns={flag}"), &path];
            let program = Program::start_through(&["setpriv", &bounding], &flags);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(
                metrics.value("timewait_netns_unreadable"),
                unreadable,
                "{flags:?}"
            );
            assert_eq!(metrics.value("timewait_port_range_ports"), 28_232.0);
            let said = program.logged("capabilities are missing");
            assert_eq!(said.len(), 1, "{said:?}");
            let names = format!("missing=\"{}\"", missing.join(", "));
            let bare = format!("missing={}", missing.join(", "));
            assert!(
                said[0].contains(&names) || said[0].contains(&bare),
                "{said:?}"
            );
            // It is not logged again for each scrape.
            let said = program.logged("level=ERROR");
            assert!(said.is_empty(), "{said:?}");
            let said = program.logged("level=WARN");
            let of_start = ["capabilities are missing", "running as root"];
            let is_of_start = |line: &String| of_start.iter().any(|text| line.contains(text));
            assert!(said.iter().all(is_of_start), "{said:?}");
        }
    });
}

/// Whether there are processes whose namespace even the test cannot read.
fn has_hidden_processes() -> bool {
    fs::read_dir("/proc").unwrap().any(|entry| {
        let namespace = fs::read_link(entry.unwrap().path().join("ns/net"));
        // Linux 5.10.262 returns an empty target.
        namespace.map_or_else(
            |error| error.kind() == io::ErrorKind::PermissionDenied,
            |target| target.as_os_str().is_empty(),
        )
    })
}

#[test]
fn missing_capabilities_in_another_user_namespace_are_named_once() {
    in_namespace(|| {
        let names = Names::new();
        let _place = names.named("blue");
        let nameless = Place::new();
        let _process = nameless.process();
        let path = names.flag();
        let through = ["unshare", "--user", "--map-root-user"];
        let program = Program::start_through(&through, &["--collector.netns=all", &path]);
        let mut scraper = program.scraper();
        let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
        assert_eq!(exported(&metrics), [""; 0]);
        assert_eq!(metrics.value("timewait_netns_unreadable"), 2.0);
        for (text, times) in [
            ("it takes CAP_SYS_ADMIN in the user namespace", 1),
            ("despite CAP_SYS_PTRACE", 1),
            ("cannot go back", 0),
        ] {
            eventually(text, || program.logged(text).len() >= times);
            assert_eq!(program.logged(text).len(), times, "{text}");
        }
    });
}

#[test]
fn a_namespace_that_cannot_be_entered_is_logged_once_though_its_processes_come_and_go() {
    in_namespace(|| {
        // The exporter can read the processes of its user namespace, but cannot enter their network namespaces.
        let lives_there = |program: u32| {
            let mut command = Command::new("nsenter");
            command.args(["--preserve-credentials", "--user", "--target"]);
            command.args([&*program.to_string(), "sleep", "1000"]);
            let there = Resident(command.stdin(Stdio::null()).spawn().unwrap());
            let comm = format!("/proc/{}/comm", there.0.id());
            eventually("it has begun", || {
                fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
            });
            there
        };
        let through = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"];
        let script = ["ip link set lo up && exec \"$@\"", "sh"];
        let through: Vec<&str> = through.into_iter().chain(script).collect();
        let program = Program::start_through(&through, &["--collector.netns=all"]);
        let mut resident = lives_there(program.id());
        let there = fs::File::open(format!("/proc/{}/ns/net", program.id())).unwrap();
        for _ in 0..4 {
            let ask = || {
                setns(&there, CloneFlags::CLONE_NEWNET).unwrap();
                program.scraper().metrics()
            };
            let metrics = thread::scope(|scope| scope.spawn(ask).join().unwrap());
            assert!(metrics.value("timewait_netns_unreadable") >= 1.0);
            resident = lives_there(program.id());
        }
        drop(resident);
        let text = "it takes CAP_SYS_ADMIN in the user namespace";
        eventually(text, || !program.logged(text).is_empty());
        let said = program.logged(text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("/proc/"), "{said:?}");
    });
}

#[test]
fn a_name_without_read_permission_counts_as_unreadable_and_is_logged_once() {
    in_namespace(|| {
        let names = Names::new();
        let _place = names.named("blue");
        let nameless = Place::new();
        let process = nameless.process();
        // This is how people name the namespaces of containers.
        let target = format!("/proc/{}/ns/net", process.0.id());
        std::os::unix::fs::symlink(target, names.0.path().join("link")).unwrap();
        let path = names.flag();
        for flag in ["--collector.netns=named", "--collector.netns=link,blue"] {
            let through = ["setpriv", "--bounding-set=-sys_ptrace"];
            let program = Program::start_through(&through, &[flag, &path]);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(exported(&metrics), ["blue"], "{flag}");
            assert_eq!(metrics.value("timewait_netns_unreadable"), 1.0, "{flag}");
            let text = "Cannot read a network namespace";
            eventually(text, || !program.logged(text).is_empty());
            let said = program.logged(text);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("netns=link"), "{said:?}");
            assert!(
                program
                    .logged("No network namespaces with these names")
                    .is_empty()
            );
        }
    });
}

#[test]
fn one_capability_suffices_for_names_and_two_for_processes() {
    in_namespace(|| {
        let names = Names::new();
        let named = names.named("blue");
        named.close(80, 4);
        let nameless = Place::new();
        let _process = nameless.process();
        let path = names.flag();
        for (flag, bounding, found) in [
            ("named", "--bounding-set=-all,+sys_admin", 1),
            ("all", "--bounding-set=-all,+sys_admin,+sys_ptrace", 2),
        ] {
            let flags = [&*format!("--collector.netns={flag}"), &path];
            let program = Program::start_through(&["setpriv", bounding], &flags);
            let metrics = program.scraper().metrics();
            assert_eq!(exported(&metrics).len(), found, "{flag}");
            let sockets = by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"");
            assert_eq!(sockets["blue"], 4.0);
            assert!(program.logged("capabilities are missing").is_empty());
        }
    });
}
