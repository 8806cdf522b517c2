//! Which namespaces are found, by name and by process.

use std::fs;

use nix::mount::{MsFlags, mount};

use super::place::{Names, Place};
use super::{by_netns, exported, start};
use crate::support::eventually;
use crate::support::namespace::in_namespace;
use crate::support::program::Program;

#[test]
fn a_namespace_without_a_name_is_found_by_its_process_and_one_with_both_is_exported_once() {
    in_namespace(|| {
        let names = Names::new();
        let (named, nameless) = (names.named("blue"), Place::new());
        let (of_named, of_nameless) = (named.process(), nameless.process());
        nameless.close(80, 3);
        let program = start(&names, &["--collector.netns=all"]);
        let metrics = program.scraper().metrics();
        let inode = nameless.inode.to_string();
        let mut expected = vec!["blue".to_owned(), inode.clone()];
        expected.sort();
        assert_eq!(exported(&metrics), expected);
        let info: Vec<&str> = metrics.of("timewait_netns_info").into_keys().collect();
        for (label, place, process) in [
            ("blue", &named, &of_named),
            (inode.as_str(), &nameless, &of_nameless),
        ] {
            let (inode, pid) = (place.inode, process.0.id());
            let series = format!(
                "timewait_netns_info{{netns=\"{label}\",inode=\"{inode}\",pid=\"{pid}\",comm=\"sleep\","
            );
            assert!(
                info.iter().any(|found| found.starts_with(&series)),
                "{series} {info:?}"
            );
        }
        assert_eq!(
            by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"")[&inode],
            3.0
        );
        // Without their processes only the name remains.
        drop((of_named, of_nameless));
        assert_eq!(exported(&program.scraper().metrics()), ["blue"]);
    });
}

#[test]
fn only_requested_namespaces_are_exported() {
    in_namespace(|| {
        let names = Names::new();
        let places = ["a", "b", "c"].map(|name| names.named(name));
        names.give("second", &places[0]);
        fs::write(names.0.path().join("leftover"), "").unwrap();
        for (flag, expected) in [
            ("--collector.netns=self", vec![]),
            ("--collector.netns=named", vec!["a", "b", "c"]),
            (
                "--collector.netns=c,second,nowhere,self",
                vec!["c", "second"],
            ),
        ] {
            let program = start(&names, &[flag]);
            let metrics = program.scraper().metrics();
            assert_eq!(exported(&metrics), expected, "{flag}");
            let is_silent = metrics.get("timewait_netns_unreadable").is_none();
            assert_eq!(is_silent, expected.is_empty(), "{flag}");
            let expected = usize::from(flag.contains("nowhere"));
            // The log is written concurrently with the answer.
            eventually("what is not there is said once", || {
                let text = "No network namespaces with these names exist";
                program.logged(text).len() == expected
            });
        }
        let flags = ["--collector.netns=named", "--path.netns=/nowhere"];
        let program = Program::start(&flags);
        eventually("a directory that is not there is said", || {
            program.logged("directory=/nowhere").len() == 1
        });
    });
}

#[test]
fn what_is_not_another_network_namespace_is_skipped() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        let path = |name: &str| names.0.path().join(name);
        fs::write(path("plain"), "").unwrap();
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink("/nowhere", path("dangling")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/uts", path("other-kind")).unwrap();
        let file = place.file.to_str().unwrap();
        let file = file.replace("self", &std::process::id().to_string());
        std::os::unix::fs::symlink(file, path("a-link")).unwrap();
        for (name, target) in [
            ("mounted-other-kind", "/proc/self/ns/uts"),
            ("own", "/proc/self/task/self/ns/net"),
        ] {
            fs::write(path(name), "").unwrap();
            let task = rustix::thread::gettid().as_raw_nonzero().to_string();
            let target = target.replace("task/self", &format!("task/{task}"));
            let bind = MsFlags::MS_BIND;
            mount(
                Some(&*target),
                &path(name),
                None::<&str>,
                bind,
                None::<&str>,
            )
            .unwrap();
        }
        for flag in ["named", "own,a-link,other-kind"] {
            let program = start(&names, &[&format!("--collector.netns={flag}")]);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(exported(&metrics), ["a-link"], "{flag}");
            assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
            assert!(program.logged("level=ERROR").is_empty());
            assert!(
                program
                    .logged("No network namespaces with these names")
                    .is_empty()
            );
        }
    });
}

#[test]
fn where_names_cannot_be_listed_namespaces_of_processes_are_exported_and_the_collector_fails() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-directory");
        fs::write(&file, "").unwrap();
        let place = Place::new();
        let _lives_there = place.process();
        let flags = [
            "--collector.netns=all",
            &*format!("--path.netns={}", file.display()),
        ];
        let program = Program::start(&flags);
        let mut scraper = program.scraper();
        let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
        assert!(exported(&metrics).contains(&place.inode.to_string()));
        let success = metrics.value("timewait_scrape_collector_success{collector=\"netns\"}");
        assert_eq!(success, 0.0);
        let said = program.logged("collector failed");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(file.to_str().unwrap()), "{said:?}");
    });
}
