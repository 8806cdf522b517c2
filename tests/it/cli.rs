//! The program itself: its exit status, messages and shutdown.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::client::{get, get_unix};
use crate::support::namespace::in_namespace;
use crate::support::program::{self, Program, field};
use crate::support::{PATIENCE, eventually};

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn help_and_version_are_no_failures() {
    let help = output(program::command().arg("--help"));
    assert_eq!(help.status.code(), Some(0));
    assert!(
        str::from_utf8(&help.stdout)
            .unwrap()
            .contains("--web.listen-address")
    );
    let version = output(program::command().arg("--version"));
    assert_eq!(version.status.code(), Some(0));
    let text = str::from_utf8(&version.stdout).unwrap();
    let first = concat!(
        "timewait_exporter, version ",
        env!("CARGO_PKG_VERSION"),
        " (revision: "
    );
    assert!(text.starts_with(first) && text.ends_with('\n'), "{text}");
    let git = |arguments: &[&str]| Command::new("git").args(arguments).output();
    let is_clone = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.git")).exists();
    let is_given = std::env::var_os("TIMEWAIT_EXPORTER_BUILD_REVISION").is_some();
    if is_clone
        && !is_given
        && let Ok(head) = git(&["rev-parse", "HEAD"])
        && head.status.success()
    {
        let revision = text
            .split("revision: ")
            .nth(1)
            .unwrap()
            .split(')')
            .next()
            .unwrap();
        // The commit of the build: a test may run after another commit.
        let known = git(&["cat-file", "-t", revision]).unwrap();
        assert_eq!(
            str::from_utf8(&known.stdout).unwrap().trim(),
            "commit",
            "{text}"
        );
    }
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_flag() {
    for (flag, says) in [
        ("--web.listen-address=10072", "':PORT'"),
        ("--collector.top=5000", "from 1 to 1000"),
        ("serve", "'serve'"),
    ] {
        let output = output(program::command().arg(flag));
        assert_eq!(output.status.code(), Some(2), "{flag}");
        let said = stderr(&output).replace('"', "'");
        assert!(said.contains(says), "{flag}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_invalid_environment_variable_is_named_in_the_error() {
    for (variable, value, says) in [
        ("TIMEWAIT_EXPORTER_COLLECTOR_TOP", "none", "from 1 to 1000"),
        (
            "TIMEWAIT_EXPORTER_COLLECTOR_BY_AGE",
            "maybe",
            "true or false",
        ),
        (
            "TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS",
            ":1 2",
            "'2' for 'TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS",
        ),
        ("TIMEWAIT_EXPORTER_LOG_LEVEL", "loud", "warn"),
    ] {
        let output = output(program::command().env(variable, value));
        assert_eq!(output.status.code(), Some(2), "{variable}");
        assert!(stderr(&output).contains(variable), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    // An invalid flag is named, even where its variable is set too.
    let output = output(
        program::command()
            .arg("--collector.top=0")
            .env("TIMEWAIT_EXPORTER_COLLECTOR_TOP", "7"),
    );
    assert!(
        stderr(&output).contains("--collector.top <N>"),
        "{}",
        stderr(&output)
    );
    assert!(
        !stderr(&output).contains("TIMEWAIT_EXPORTER"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn every_command_warns_of_a_mistyped_environment_variable() {
    let variable = ("TIMEWAIT_EXPORTER_WEB_CONFIG", "/nowhere/web.yml");
    let says = |text: &str| {
        text.contains("level=WARN")
            && text.contains(&format!("name={}", variable.0))
            && text.contains("suggestion=TIMEWAIT_EXPORTER_WEB_CONFIG_FILE")
    };
    for arguments in [&["check", "--warning=1", "--critical=1"][..], &["report"]] {
        let output = output(
            program::command()
                .args(arguments)
                .env(variable.0, variable.1),
        );
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(says(stderr(&output)), "{arguments:?}: {}", stderr(&output));
    }
    let mut running = Program::spawn(
        program::command()
            .arg("--web.listen-address=127.0.0.1:0")
            .env(variable.0, variable.1)
            .env("TIMEWAIT_EXPORTER_PORT", "tcp://10.0.0.1:10072")
            .env("TIMEWAIT_EXPORTER_SERVICE_HOST", "10.0.0.1"),
    );
    let line = running.line_with("unknown environment variable");
    assert!(says(&line), "{line}");
    running.signal(Signal::TERM);
    assert!(!running.rest().contains("unknown environment variable"));
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn environment_variables_are_read_flags_win_and_empty_variables_are_unset() {
    let command = &mut program::command();
    command
        .arg("--log.format=logfmt")
        .env(
            "TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS",
            " 127.0.0.1:0  [::ffff:127.0.0.1]:0\n",
        )
        .env("TIMEWAIT_EXPORTER_LOG_FORMAT", "json")
        .env("TIMEWAIT_EXPORTER_COLLECTOR_TOP", "")
        .env("TIMEWAIT_EXPORTER_COLLECTOR_SLABINFO", "false");
    let mut running = Program::spawn(command);
    let line = running.line_with("Listening on");
    assert!(line.starts_with("time="), "{line}");
    let answer = get(field(&line, "address"), "/metrics");
    let answer = answer.text();
    assert!(
        answer.contains("collector=\"sockstat\"") && !answer.contains("collector=\"slabinfo\"")
    );
    running.line_with("Listening on");
}

#[test]
fn a_switch_on_the_command_line_wins_over_the_variable_of_its_negation() {
    for (variable, arguments, is_read) in [
        ("false", ["check", "--collector.sockets"], true),
        ("false", ["--collector.sockets", "check"], true),
        ("true", ["check", "--no-collector.sockets"], false),
        ("true", ["--no-collector.sockets", "check"], false),
    ] {
        let mut command = program::command();
        command.env("TIMEWAIT_EXPORTER_COLLECTOR_SOCKETS", variable);
        let output = output(command.args(arguments));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        assert_eq!(!said.contains("sockets are not read"), is_read, "{said}");
    }
}

#[test]
fn an_invalid_variable_of_a_subcommand_is_named_in_the_error() {
    for (variable, says) in [
        ("REPORT_FORMAT", "possible values"),
        ("REPORT_TIMEOUT", "seconds from 0.1 to 3600"),
        ("REPORT_NO_PROCESSES", "true or false"),
    ] {
        let name = format!("TIMEWAIT_EXPORTER_{variable}");
        let failed = output(program::command().arg("report").env(&name, "x"));
        assert_eq!(failed.status.code(), Some(2), "{name}");
        let said = stderr(&failed);
        assert!(said.contains(&name) && said.contains(says), "{said}");
        // Other commands ignore it.
        let other = output(program::command().arg("healthcheck").env(&name, "x"));
        assert!(!stderr(&other).contains(&name), "{other:?}");
    }
}

#[test]
fn sigterm_and_sigint_stop_it_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let command = &mut program::command();
        command.arg("--web.listen-address=127.0.0.1:0");
        let mut running = Program::spawn(command);
        let line = running.line_with("Listening on");
        assert!(
            running
                .line_with("TLS is disabled.")
                .contains("http2=false")
        );
        assert_eq!(get(field(&line, "address"), "/metrics").status, 200);
        running.signal(signal);
        running.line_with("Shutting down");
        running.line_with("Stopped");
        assert_eq!(running.wait().code(), Some(0));
    }
}

#[test]
fn the_log_names_the_kernel_and_the_source_of_sockets_at_start() {
    for source in ["netlink", "procfs"] {
        let command = &mut program::command();
        command
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--collector.source={source}"));
        let mut running = Program::spawn(command);
        let line = running.line_with("Starting timewait_exporter");
        assert!(!field(&line, "kernel").is_empty(), "{line}");
        let line = running.line_with("Read the connection table");
        assert_eq!(field(&line, "level"), "INFO");
        assert_eq!(field(&line, "collector_source"), source);
        let (file, number) = field(&line, "source").split_once(':').unwrap();
        assert_eq!(file, "app.rs");
        assert!(number.parse::<u32>().is_ok(), "{line}");
    }
}

#[test]
fn sighup_and_sigxfsz_do_not_end_it() {
    let mut running = Program::spawn(program::command().arg("--web.listen-address=127.0.0.1:0"));
    let line = running.line_with("Listening on");
    for signal in [Signal::HUP, Signal::XFSZ, Signal::HUP, Signal::PIPE] {
        running.signal(signal);
    }
    running.line_with("Ignored SIGHUP");
    assert_eq!(get(field(&line, "address"), "/metrics").status, 200);
    running.signal(Signal::TERM);
    running.line_with("Stopped");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn a_log_beyond_the_file_size_limit_blocks_nothing() {
    let directory = TempDir::new().unwrap();
    let (log, socket) = (directory.path().join("log"), directory.path().join("s"));
    let limit = "ulimit -f 0; exec \"$0\" \"$@\" 2>\"$LOG\"";
    for (arguments, status) in [(&["check", "--warning=1", "--critical=1"][..], 0), (&[], 0)] {
        let mut command = Command::new("sh");
        command
            .args(["-c", limit])
            .arg(program::path())
            .args(arguments)
            .env("LOG", &log)
            .env("TIMEWAIT_EXPORTER_LOG_LEVEL", "debug")
            .stdin(Stdio::null());
        if arguments.is_empty() {
            command.arg(format!("--web.listen-address=unix:{}", socket.display()));
        }
        let mut running = Program::spawn_without_log(&mut command);
        if arguments.is_empty() {
            let begin = Instant::now();
            while !socket.exists() {
                assert!(begin.elapsed() < PATIENCE && running.is_running());
            }
            assert_eq!(get_unix(&socket, "/metrics").status, 200);
            running.signal(Signal::TERM);
        }
        assert_eq!(running.wait().code(), Some(status), "{arguments:?}");
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    }
}

#[test]
fn a_listen_port_inside_the_range_is_warned_of_whatever_collectors_are_off() {
    // In a namespace, so that no other process uses the port.
    in_namespace(|| {
        let tree = TempDir::new().unwrap();
        let settings = tree.path().join("sys/net/ipv4");
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::write(settings.join("ip_local_port_range"), "1024\t65535\n").unwrap();
        std::fs::write(settings.join("ip_local_reserved_ports"), "9100\n").unwrap();
        for switched_off in ["--no-collector.slabinfo", "--no-collector.sysctl"] {
            let port = free_port();
            let command = &mut program::command();
            command
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg(format!("--path.procfs={}", tree.path().display()))
                .arg(switched_off);
            let mut running = Program::spawn(command);
            let line = running.line_with("port is inside the ephemeral port range");
            assert_eq!(field(&line, "level"), "WARN");
            assert_eq!(field(&line, "ports"), port.to_string());
            assert_eq!(field(&line, "range"), "1024-65535");
            assert!(line.contains("ip_local_reserved_ports=9100,"), "{line}");
        }
    });
}

/// Whether the server has accepted the connection and read everything.
fn is_read_by_server(client: &TcpStream) -> bool {
    let [server, own] = [client.peer_addr(), client.local_addr()]
        .map(|address| format!("0100007F:{:04X}", address.unwrap().port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1..3) == Some(&[&*server, &*own])
            && fields[4].ends_with(":00000000")
            && fields[9] != "0"
    })
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // An expensive hash delays the answer to a wrong password.
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("web.yml");
    let hash = format!("$2y$17${}", "a".repeat(21) + "u" + &"a".repeat(31));
    std::fs::write(&file, format!("basic_auth_users:\n  u: {hash}\n")).unwrap();
    let command = &mut program::command();
    command
        .arg("--web.listen-address=127.0.0.1:0")
        .arg(format!("--web.config.file={}", file.display()));
    let mut running = Program::spawn(command);
    let line = running.line_with("Listening on");
    let mut waits = TcpStream::connect(field(&line, "address")).unwrap();
    waits
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dTp4\r\n\r\n")
        .unwrap();
    eventually("the request is read", || is_read_by_server(&waits));
    running.signal(Signal::TERM);
    running.line_with("Shutting down");
    assert!(running.is_running(), "it waits for the answer");
    running.signal(Signal::TERM);
    running.line_with("Exiting immediately");
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn json_lines_are_json() {
    let command = &mut program::command();
    command.args(["--web.listen-address=127.0.0.1:0", "--log.format=json"]);
    let mut running = Program::spawn(command);
    let line = running.line_with("TLS is disabled.");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["level"], "INFO");
    assert_eq!(value["http2"], false);
    assert_eq!(value["msg"], "TLS is disabled.");
}

#[test]
fn a_listen_port_in_use_exits_with_1_and_suggests_a_fix() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let output = output(program::command().arg(format!("--web.listen-address={address}")));
    assert_eq!(output.status.code(), Some(1));
    for part in [&*address, "in use", "--web.listen-address", "level=ERROR"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn started_without_log(stderr: Stdio) -> (Program, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let command = &mut program::command();
    command
        .arg(format!("--web.listen-address={address}"))
        .stderr(stderr);
    let running = Program::spawn_without_log(command);
    let begin = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begin.elapsed() < PATIENCE, "it does not start");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (running, address)
}

#[test]
fn an_unread_log_blocks_nothing() {
    // In a namespace, so that no other process uses the port.
    in_namespace(|| {
        let (_reader, mut writer) = std::io::pipe().unwrap();
        // A pipe's default capacity: the program's first line does not fit.
        writer.write_all(&"x".repeat(65_536).into_bytes()).unwrap();
        let (mut running, address) = started_without_log(writer.into());
        assert_eq!(get(&address, "/metrics").status, 200);
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code(), Some(0));
    });
}

#[test]
fn it_survives_a_closed_log() {
    // In a namespace, so that no other process uses the port.
    in_namespace(|| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (mut running, address) = started_without_log(writer.into());
        assert_eq!(get(&address, "/metrics").status, 200);
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code(), Some(0));
    });
}

#[test]
fn without_free_descriptors_it_waits_and_logs_once() {
    let mut running = Program::start(&[]);
    let address = running.address();
    running.line_with("Read the connection table");
    // Three more than it has open, including inherited ones: connections use them all.
    running.limit_descriptors(running.first_free_descriptor() + 3);
    let crowd: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    running.line_with("Cannot accept connections");
    // Idle connections are closed, so that descriptors are free again.
    get(address, "/metrics");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
    let rest = running.rest();
    assert!(!rest.contains("Cannot accept connections"), "{rest}");
    drop(crowd);
}
