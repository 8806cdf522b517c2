//! `report`, `check` and the status page with other namespaces.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::place::Names;
use super::start;
use crate::support::client::get;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::program::{self, Program};
use crate::support::sockets::{at, connected, listening};

#[test]
fn report_check_and_page_show_every_namespace_and_the_worst_first() {
    in_namespace(|| {
        let names = Names::new();
        let (_well, full) = (names.named("well"), names.named("full"));
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let path = names.flag();
        let run = |arguments: &[&str]| {
            let mut command = program::command();
            command
                .args(arguments)
                .args(["--collector.netns=named", &path]);
            command.stdin(Stdio::null()).output().unwrap()
        };
        let report = run(&["report"]);
        let text = String::from_utf8(report.stdout).unwrap();
        let entrance = names.0.path().join("full");
        let typed = format!("nsenter --net={} sysctl -w net.ipv4.", entrance.display());
        assert!(text.contains(&typed), "{text}");
        assert!(
            text.starts_with("CRITICAL  ") && text.contains("\nNetwork namespace full: "),
            "{text}"
        );
        assert!(!text.contains("/etc/sysctl.d"), "{text}");
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(place("NETWORK NAMESPACE full") < place("NETWORK NAMESPACE well"));
        assert!(place("NETWORK NAMESPACE full") < place("NETWORK NAMESPACE of the exporter"));
        // The suggested commands can be typed, and have an effect.
        let command = text.lines().find(|line| line.contains(&typed)).unwrap();
        let status = Command::new("sh")
            .args(["-c", command])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{command}");
        let check = run(&["check"]);
        let line = String::from_utf8(check.stdout).unwrap();
        let json: Value =
            serde_json::from_slice(&run(&["report", "--format=json"]).stdout).unwrap();
        let labels: Vec<Option<&str>> = json["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["netns"].as_str())
            .collect();
        assert_eq!(labels, [None, Some("full"), Some("well")]);
        assert_eq!(json["namespaces"][1]["inode"], full.inode);
        assert_eq!(json["namespaces_unreadable"], 0);
        assert!(line.contains(" 'full_ipv4_ratio'="), "{line}");
        let program = start(&names, &["--collector.netns=named"]);
        let page = page(&program);
        assert!(page.contains("Network namespace full"), "{page}");
        assert!(page.contains("id=\"namespaces\""), "{page}");
    });
}

fn page(program: &Program) -> String {
    get(program.address(), "/").text().to_owned()
}

#[test]
fn commands_use_the_path_on_the_host_where_its_procfs_is_mounted_elsewhere() {
    in_namespace(|| {
        let names = Names::new();
        let full = names.named("full");
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let process = full.process();
        let elsewhere = tempfile::tempdir().unwrap();
        let procfs = elsewhere.path().join("proc");
        std::os::unix::fs::symlink("/proc", &procfs).unwrap();
        let output = program::command()
            .args(["report", "--collector.netns=named", &names.flag()])
            .arg(format!("--path.procfs={}", procfs.display()))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let typed = format!("nsenter --net=/proc/{}/ns/net sysctl -w ", process.0.id());
        assert!(text.contains(&typed), "{text}");
    });
}

#[test]
fn report_names_the_owners_of_another_namespaces_sockets_from_either_source() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("full");
        let _held = place.run(|| {
            set_sysctl("ip_local_port_range", "40000 40099");
            let to = at("127.0.0.1", 80);
            let listener = listening(to);
            let kept: Vec<_> = (0..95).map(|_| connected(None, &listener, to)).collect();
            (listener, kept)
        });
        for source in ["netlink", "procfs"] {
            let mut command = program::command();
            command.args(["report", "--format=json", "--collector.netns=full"]);
            command.args([names.flag(), format!("--collector.source={source}")]);
            let output = command.stdin(Stdio::null()).output().unwrap();
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            let holders = &json["namespaces"][1]["holders"][0];
            assert_eq!(holders["live_sockets"], 95, "{source}: {holders}");
            assert_eq!(
                holders["processes"][0]["pid"],
                std::process::id(),
                "{source}"
            );
        }
    });
}

#[test]
fn check_is_critical_for_another_namespace_and_unknown_where_one_cannot_be_entered() {
    in_namespace(|| {
        let names = Names::new();
        let full = names.named("full");
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let path = names.flag();
        let program = &*program::path();
        let arguments = [program, "check", "--collector.netns=named", &path];
        let output = Command::new(arguments[0])
            .args(&arguments[1..])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.starts_with("TIMEWAIT CRITICAL - full: 95%"), "{line}");
        let mut blind = Command::new("setpriv");
        let output = blind
            .arg("--bounding-set=-sys_admin")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(
            line.contains("1 network namespace could not be entered"),
            "{line}"
        );
    });
}

#[test]
fn check_is_unknown_where_a_requested_namespace_does_not_exist() {
    in_namespace(|| {
        let names = Names::new();
        let _there = names.named("there");
        let check = |asked: &str| {
            let output = program::command()
                .args(["check", asked, &names.flag()])
                .output()
                .unwrap();
            let line = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), line)
        };
        assert_eq!(check("--collector.netns=there").0, Some(0));
        let (status, line) = check("--collector.netns=there,gone");
        assert_eq!(status, Some(3), "{line}");
        let says = "1 network namespace requested by name but not found";
        assert!(line.contains(says), "{line}");
        // A namespace of another type with that name does not count.
        std::os::unix::fs::symlink("/proc/self/ns/uts", names.0.path().join("uts")).unwrap();
        let (status, line) = check("--collector.netns=there,uts");
        assert_eq!(status, Some(3), "{line}");
        assert!(line.contains(says), "{line}");
    });
}

#[test]
fn check_is_unknown_where_the_names_cannot_be_listed_and_report_says_so() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-directory");
        fs::write(&file, "").unwrap();
        let run = |arguments: &[&str]| {
            let output = program::command()
                .args(arguments)
                .args(["--collector.netns=all", "--path.netns"])
                .arg(&file)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (
                output.status.code(),
                text.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        };
        let says = "The names of network namespaces could not be listed";
        let (status, line) = run(&["check"]);
        assert_eq!(status, Some(3), "{line}");
        assert!(line.contains(says), "{line}");
        let (status, text) = run(&["report"]);
        assert_eq!(status, Some(1), "{text}");
        assert!(
            text.starts_with("UNKNOWN ") && text.contains(says),
            "{text}"
        );
    });
}
