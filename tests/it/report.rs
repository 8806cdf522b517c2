//! `report`, `check`, the status page and the API: the same state, in four forms.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::remedies::{close, connections, small_host};
use crate::support::client::get;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::program::{self, Program};
use crate::support::server::{Gate, Running, collector, outcome};

fn run(arguments: &[&str]) -> Output {
    program::command().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn check_says_one_line_and_exits_with_its_status() {
    in_namespace(|| {
        let listener = small_host();
        for (closed, status, state) in [
            (0, 0, "OK"),
            (37, 0, "OK"),
            (1, 1, "WARNING"),
            (7, 2, "CRITICAL"),
            (5, 2, "CRITICAL"),
        ] {
            close(&listener, closed);
            let output = run(&["check"]);
            assert_eq!(output.status.code(), Some(status), "{output:?}");
            let line = stdout(&output);
            assert!(line.starts_with(&format!("TIMEWAIT {state} - ")), "{line}");
            assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
            assert!(line.contains(" | 'ipv4_ratio'="), "{line}");
        }
        let lenient = run(&["check", "--warning=100%", "--critical=100%"]);
        assert_eq!(lenient.status.code(), Some(2));
        set_sysctl("ip_local_port_range", "32768 60999");
        assert_eq!(run(&["check"]).status.code(), Some(0));
    });
}

#[test]
fn check_is_unknown_for_unreadable_values_and_for_wrong_usage() {
    let empty = tempfile::tempdir().unwrap();
    let path = format!("--path.procfs={}", empty.path().display());
    for (arguments, says) in [
        (vec!["check", path.as_str()], "could not be read"),
        (vec!["check", "--warning=2"], "wrong usage"),
        (vec!["check", "--warnings=0.5"], "wrong usage"),
        (vec!["--log.level=loud", "check"], "wrong usage"),
        (
            vec!["check", "--warning=0.9", "--critical=0.8"],
            "wrong usage",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
        let line = stdout(&output);
        assert!(
            line.starts_with("TIMEWAIT UNKNOWN - ") && line.contains(says),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
    }
    let help = run(&["check", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(!stdout(&help).contains("UNKNOWN - "));
}

#[test]
fn a_report_names_owners_of_live_sockets_and_says_that_time_wait_has_none() {
    in_namespace(|| {
        let listener = small_host();
        close(&listener, 10);
        let _held = connections(&listener, 33);
        let own = i64::from(std::process::id());
        for source in ["netlink", "procfs"] {
            let source = format!("--collector.source={source}");
            let output = run(&["report", "--format=json", &source]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let document = json(stdout(&output));
            let holders = &document["namespaces"][0]["holders"][0];
            assert_eq!(holders["live_sockets"], 33, "{source}: {holders}");
            assert_eq!(holders["unnamed_sockets"], 0, "{holders}");
            assert_eq!(holders["processes"][0]["pid"], own, "{holders}");
            assert_eq!(holders["processes"][0]["sockets"], 33, "{holders}");
        }
        let text = run(&["report"]);
        let text = stdout(&text);
        assert!(text.contains(&format!("(pid {own})")), "{text}");
        assert!(text.contains("belong to no process"), "{text}");
        assert!(!text.contains('\x1b'), "colour on terminals only");
        let without = run(&["report", "--format=json", "--no-processes"]);
        assert!(json(stdout(&without))["namespaces"][0]["holders"].is_null());
    });
}

#[test]
fn a_report_without_sockets_exits_with_1_and_shows_the_rest() {
    let empty = tempfile::tempdir().unwrap();
    let path = format!("--path.procfs={}", empty.path().display());
    let output = run(&["report", "--collector.source=procfs", &path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stdout(&output).contains("(not_read)"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn watching_reports_changes_until_the_reader_closes() {
    in_namespace(|| {
        let listener = small_host();
        close(&listener, 5);
        let mut child = program::command()
            .args(["report", "--watch=0.5"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = |text: &str| {
            let mut lines = lines.by_ref().map_while(Result::ok);
            lines.find(|line| line.contains(text))
        };
        until("COLLECTORS").expect("a first report");
        close(&listener, 40);
        until("New: 5 ports are left to").expect("what is new");
        drop(lines);
        assert!(child.wait().unwrap().success(), "the reader has closed");
    });
}

#[test]
fn watching_as_json_writes_one_document_per_line() {
    let mut child = program::command()
        .args(["report", "--watch=0.5", "--format=json", "--no-processes"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        assert_eq!(json(&line.unwrap())["schema_version"], 1);
    }
    assert!(child.wait().unwrap().success());
}

/// The height of the terminals here.
const ROWS: usize = 24;

/// The output on a terminal of this width, with these environment variables.
fn on_terminal(columns: u16, environment: &str, arguments: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_timewait_exporter");
    let inside = format!("stty cols {columns} rows {ROWS}; {environment} {program} {arguments}");
    let output = Command::new("script")
        .args(["--quiet", "--command", &inside, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "script(1): {error}");
            println!("SKIPPED: script(1): {error}");
            None
        }
    }
}

#[test]
fn a_terminal_gets_colour_and_its_width_unless_disabled() {
    // A destination, in addition to those of this machine.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let Some(colored) = on_terminal(60, "NO_COLOR= TERM=xterm", "report") else {
        return;
    };
    assert!(colored.contains("\x1b[1mDESTINATIONS\x1b[0m"), "{colored}");
    for environment in ["NO_COLOR=1 TERM=xterm", "TERM=dumb"] {
        let plain = on_terminal(60, environment, "report").unwrap();
        assert!(!plain.contains('\x1b'), "{environment}: {plain}");
        let prose = plain.lines().filter(|line| !line.starts_with("       "));
        for line in prose.filter(|line| !line.contains("ip_")) {
            assert!(line.trim_end().chars().count() <= 60, "{line}");
        }
    }
}

/// The output of `report --watch` on a terminal of this type, until it is complete, on a slow machine too.
fn watched(term: &str, is_enough: fn(&str) -> bool) -> Option<String> {
    let watch = |seconds: u32| {
        let environment = format!("TERM={term} timeout {seconds}");
        on_terminal(80, &environment, "report --watch=0.5")
    };
    match watch(3) {
        Some(drawn) if !is_enough(&drawn) => watch(30),
        drawn => drawn,
    }
}

#[test]
fn watching_on_a_terminal_redraws_in_place() {
    let Some(drawn) = watched("xterm", |drawn| drawn.matches("\x1b[H").count() >= 2) else {
        return;
    };
    let screens: Vec<&str> = drawn.split("\x1b[H").skip(1).collect();
    assert!(screens.len() >= 2, "{drawn}");
    for screen in &screens {
        // With more lines the terminal would scroll, and show the end of the report only.
        assert!(screen.matches('\n').count() < ROWS, "{screen}");
        assert!(screen.contains(" UTC"), "{screen}");
        assert!(
            screen.contains(" more lines; enlarge the terminal)"),
            "{screen}"
        );
    }
    assert!(
        drawn.contains("DESTINATIONS") || drawn.contains("FINDINGS"),
        "{drawn}"
    );
    let dumb = watched("dumb", |drawn| drawn.contains("----")).unwrap();
    assert!(dumb.contains("----") && !dumb.contains('\x1b'), "{dumb}");
}

#[test]
fn the_page_and_the_api_show_the_same_as_the_report() {
    in_namespace(|| {
        let listener = small_host();
        close(&listener, 50);
        let server = Program::start(&[]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut client = crate::support::client::Client::connect(server.address()).await;
            let api = client.request("GET", "/api/v1/report", "").await;
            assert_eq!(api.status, 200);
            assert_eq!(api.header("content-type"), Some("application/json"));
            let document = json(api.text());
            assert_eq!(document["severity"], "critical");
            let headline = document["headline"].as_str().unwrap();
            assert!(
                headline.contains("connect() to 198.51.100.1 port 443"),
                "{headline}"
            );
            let page = client.request("GET", "/", "").await;
            assert!(page.text().contains("CRITICAL"), "{}", page.text());
            let policy = page.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            let head = client.request("HEAD", "/api/v1/report", "").await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            let post = client.request("POST", "/api/v1/report", "").await;
            assert_eq!(post.status, 405);
        });
    });
}

#[tokio::test]
async fn without_sockets_the_page_and_the_api_say_so() {
    let server = Running::start(collector(|_| outcome(false))).await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("Not everything could be read"),
        "{}",
        page.text()
    );
    let api = server.get("/api/v1/report").await;
    assert_eq!(json(api.text())["severity"], "warning");
}

#[tokio::test]
async fn concurrent_requests_for_page_api_and_metrics_share_a_dump() {
    let (mut gate, collector) = Gate::collector();
    let server = Running::start(collector).await;
    let mut first = server.connect().await;
    first.ask("GET", "/metrics", "").await;
    gate.entered().await;
    let mut others = Vec::new();
    for path in ["/", "/api/v1/report", "/metrics", "/"] {
        let mut client = server.connect().await;
        client.ask("GET", path, "").await;
        others.push(client);
    }
    // Once a later request is answered, these have been received.
    assert_eq!(server.get("/-/healthy").await.status, 200);
    gate.open();
    assert_eq!(first.answer(true).await.status, 200);
    gate.entered().await;
    gate.open();
    for mut client in others {
        assert_eq!(client.answer(true).await.status, 200);
    }
    assert!(!gate.was_entered(), "one dump was enough for all of them");
}

#[test]
fn the_schema_of_the_report_is_served() {
    let program = Program::start(&[]);
    let answer = get(program.address(), "/api/v1/report/schema");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
    assert_eq!(
        answer.text(),
        include_str!("../../src/report/report.schema.json")
    );
    program.end();
}
