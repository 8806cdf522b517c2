//! All flags: defaults, bounds, the help text.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use super::*;
use crate::collector::SourceChoice;
use crate::config::{LogFormat, ReportFormat};
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::options::CensusOptions;

fn typed(flags: &[&str]) -> Result<Config, clap::Error> {
    parse(std::iter::once("timewait_exporter").chain(flags.iter().copied()))
}

#[test]
fn the_flags_are_consistent() {
    Config::command().debug_assert();
}

#[test]
fn without_arguments_the_documented_defaults_apply() {
    let config = typed(&[]).unwrap();
    assert_eq!(config.web.listen_addresses, [":10072".parse().unwrap()]);
    assert_eq!(config.web.telemetry_path, "/metrics");
    assert_eq!(config.web.max_requests, 40);
    assert!(!config.web.disable_exporter_metrics);
    assert_eq!(config.collector.source, SourceChoice::Auto);
    assert_eq!(config.collector.procfs, PathBuf::from("/proc"));
    assert_eq!(config.collector.enabled, Enabled::default());
    assert_eq!(config.collector.census, CensusOptions::default());
    assert_eq!(config.log.level, LevelFilter::INFO);
    assert_eq!(config.log.format, LogFormat::Logfmt);
    assert_eq!(config.command, None);
}

#[test]
fn every_flag_reaches_its_place() {
    let config = typed(&[
        "--web.listen-address=:1",
        "--web.listen-address=[::1]:2",
        "--web.listen-address=:1",
        "--web.telemetry-path=/m",
        "--web.max-requests=0",
        "--web.disable-exporter-metrics",
        "--collector.source=procfs",
        "--collector.top=1000",
        "--collector.pin-port=443",
        "--collector.pin-port=80",
        "--collector.pin-destination=192.0.2.1:5432",
        "--path.procfs=/proc/self",
        "--log.level=debug",
        "--log.format=json",
    ])
    .unwrap();
    let listen: Vec<_> = config
        .web
        .listen_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listen, [":1", "[::1]:2"]);
    assert_eq!(config.web.telemetry_path, "/m");
    assert_eq!(config.web.max_requests, 0);
    assert!(config.web.disable_exporter_metrics);
    assert_eq!(config.collector.source, SourceChoice::Procfs);
    assert_eq!(config.collector.procfs, PathBuf::from("/proc/self"));
    assert_eq!(config.collector.census.top, 1000);
    assert_eq!(config.collector.census.pinned_ports, [443, 80]);
    assert_eq!(config.collector.census.pinned_destinations.len(), 1);
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn the_last_of_a_switch_and_its_negation_wins() {
    let slabinfo = |flags: &[&str]| {
        typed(flags)
            .unwrap()
            .collector
            .enabled
            .has(CollectorId::Slabinfo)
    };
    let (on, off) = ("--collector.slabinfo", "--no-collector.slabinfo");
    assert!(slabinfo(&[]) && slabinfo(&[on]) && slabinfo(&[off, on]) && slabinfo(&[on, on]));
    assert!(!slabinfo(&[off]) && !slabinfo(&[on, off]) && !slabinfo(&[off, on, off, off]));
}

#[test]
fn a_breakdown_can_be_spelled_with_underscores() {
    let census = typed(&["--no-collector.by_dst_port", "--no-collector.by-age"])
        .unwrap()
        .collector
        .census;
    let expected = CensusOptions {
        by_dst_port: false,
        by_age: false,
        ..CensusOptions::default()
    };
    assert_eq!(census, expected);
}

#[test]
fn values_out_of_bounds_are_wrong_usage_that_names_the_bounds() {
    for (flag, says) in [
        ("--collector.top=0", "from 1 to 1000"),
        ("--collector.top=1001", "from 1 to 1000"),
        ("--collector.pin-port=0", "from 1 to 65535"),
        ("--collector.pin-port=65536", "from 1 to 65535"),
        ("--web.listen-address=10072", ":PORT"),
        ("--web.listen-address=unix:x", "absolute path"),
        ("--web.telemetry-path=metrics", "begins with a slash"),
        ("--collector.source=ebpf", "auto, netlink, procfs"),
        ("--collector.pin-destination=192.0.2.1", "DST_PORT"),
        ("--web.max-requests=-1", "from 0 to 1000000"),
        ("--path.procfs=/no/proc", "no such directory"),
    ] {
        let error = typed(&[flag]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flag}");
        assert!(error.to_string().contains(says), "{flag}: {error}");
    }
}

#[test]
fn an_unknown_flag_is_refused() {
    for flag in ["--web.route-prefix=x", "-V"] {
        assert_eq!(typed(&[flag]).unwrap_err().exit_code(), 2, "{flag}");
    }
}

#[test]
fn help_fits_into_80_columns_and_names_every_flag() {
    let help = Config::command().render_long_help().to_string();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for arg in Config::command().get_arguments() {
        let long = arg.get_long().unwrap();
        assert!(
            long.starts_with("no-") || help.contains(&format!("--{long}")),
            "{long}"
        );
    }
}

#[test]
fn the_version_has_the_form_of_the_go_exporters() {
    let error = typed(&["--version"]).unwrap_err();
    assert_eq!(error.exit_code(), 0);
    let first = concat!(
        "timewait_exporter, version ",
        env!("CARGO_PKG_VERSION"),
        " ("
    );
    assert!(error.to_string().starts_with(first), "{error}");
}

#[test]
fn subcommands_take_their_own_flags_and_the_shared_ones_on_either_side() {
    let config = typed(&[
        "report",
        "--format=json",
        "--collector.top=5",
        "--log.level=error",
    ])
    .unwrap();
    let Some(Command::Report(report)) = config.command else {
        panic!("{config:?}")
    };
    assert_eq!(report.output, ReportFormat::Json);
    assert_eq!((report.watch, report.no_processes), (None, false));
    assert_eq!(config.collector.census.top, 5);
    assert_eq!(config.log.level, LevelFilter::ERROR);
    let config = typed(&[
        "--collector.top=6",
        "--no-collector.by-age",
        "check",
        "--warning=50%",
    ])
    .unwrap();
    let Some(Command::Check(check)) = config.command else {
        panic!("{config:?}")
    };
    assert_eq!((check.warning, check.critical), (0.5, 0.9));
    assert_eq!(config.collector.census.top, 6);
    assert!(!config.collector.census.by_age);
    let switched = typed(&["report", "--no-collector.slabinfo"]).unwrap();
    assert!(!switched.collector.enabled.has(CollectorId::Slabinfo));
    assert_eq!(typed(&[]).unwrap().command, None);
}

#[test]
fn a_subcommand_refuses_flags_that_it_does_not_use() {
    for flags in [
        &["check", "--warning=0.9", "--critical=0.8"][..],
        &["check", "--warning=1.1"],
        &["check", "--critical=NaN"],
        &["check", "--critical=-1"],
        &["check", "--timeout=0"],
        &["check", "--format=json"],
        &["check", "--web.listen-address=:1"],
        &["report", "--watch=0"],
        &["report", "--format=xml"],
        &["report", "more"],
        &["serve"],
    ] {
        let error = typed(flags).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flags:?}");
    }
}

#[test]
fn help_of_the_subcommands_fits_into_80_columns() {
    let mut command = command();
    command.build();
    for subcommand in command.get_subcommands_mut() {
        let help = subcommand.render_long_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn check_is_distinguished_from_a_flag_value_check_even_with_invalid_arguments() {
    let asks = |arguments: &[&str]| {
        let arguments: Vec<_> = std::iter::once("timewait_exporter")
            .chain(arguments.iter().copied())
            .map(std::ffi::OsString::from)
            .collect();
        asks_for("check", &arguments)
    };
    assert!(asks(&["check", "--no-such-flag"]));
    assert!(asks(&["check", "--warning", "x"]));
    assert!(asks(&["--log.level=debug", "check", "--critical=2"]));
    assert!(asks(&["--log.level=no-such-level", "check"]));
    assert!(asks(&["--collector.top", "0", "check"]));
    assert!(asks(&["--warning=0.5", "-x", "check"]));
    assert!(!asks(&["--log.level", "check"]));
    assert!(!asks(&["--", "check"]));
    assert!(!asks(&["--no-such-flag"]));
    assert!(!asks(&["--path.procfs", "check", "--no-such-flag"]));
    assert!(!asks(&["report", "--no-such-flag"]));
}

#[test]
fn a_variable_that_no_flag_reads_is_reported_with_the_nearest_name() {
    let unknown = |name: &str, value: &str| {
        let found = unknown_variables([(name.into(), value.into())]);
        found.into_iter().next().map(|(_, suggestion)| suggestion)
    };
    for (name, suggestion) in [
        ("WEB_CONFIG", "WEB_CONFIG_FILE"),
        ("WEB_LISTEN_ADDRES", "WEB_LISTEN_ADDRESS"),
        ("COLLECTOR_PIN_PORTS", "COLLECTOR_PIN_PORT"),
        ("COLECTOR_PIN_PORT", "COLLECTOR_PIN_PORT"),
        ("NO_COLLECTOR_SLABINFO", "COLLECTOR_SLABINFO"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("REPORT_FORMATS", "REPORT_FORMAT"),
        ("CHECK_WARN", "CHECK_WARNING"),
    ] {
        let (name, suggestion) = (
            format!("TIMEWAIT_EXPORTER_{name}"),
            format!("TIMEWAIT_EXPORTER_{suggestion}"),
        );
        assert_eq!(unknown(&name, "x"), Some(suggestion), "{name}");
        assert_eq!(unknown(&name, ""), None, "{name} is empty");
    }
    for known in [
        "WEB_CONFIG_FILE",
        "COLLECTOR_BY_SRC_PORT",
        "REPORT_NO_PROCESSES",
        "CHECK_CRITICAL",
        "BUILD_REVISION",
    ] {
        assert_eq!(
            unknown(&format!("TIMEWAIT_EXPORTER_{known}"), "x"),
            None,
            "{known}"
        );
    }
    assert_eq!(unknown("TIMEWAIT_EXPORTERS_X", "x"), None);
    assert_eq!(unknown("PATH", "x"), None);
}

#[test]
fn variables_that_kubernetes_and_docker_set_for_services_are_not_unknown() {
    for (name, value) in [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "10072"),
        ("SERVICE_PORT_METRICS", "10072"),
        ("PORT", "tcp://10.0.0.1:10072"),
        ("PORT_10072_TCP", "tcp://10.0.0.1:10072"),
        ("PORT_10072_TCP_PROTO", "tcp"),
        ("PORT_10072_TCP_PORT", "10072"),
        ("PORT_10072_TCP_ADDR", "10.0.0.1"),
        ("CANARY_SERVICE_HOST", "10.0.0.1"),
        ("CANARY_SERVICE_PORT_HTTP", "80"),
        ("CANARY_PORT", "udp://10.0.0.1:53"),
        ("CANARY_PORT_53_UDP_ADDR", "10.0.0.1"),
    ] {
        let name = format!("TIMEWAIT_EXPORTER_{name}");
        let found = unknown_variables([(name.into(), value.into())]);
        assert_eq!(found, []);
    }
}

#[test]
fn durations_and_ratios_have_two_spellings() {
    let config = typed(&["check", "--timeout=1m", "--warning=50%"]).unwrap();
    let Some(Command::Check(check)) = config.command else {
        panic!("{config:?}")
    };
    assert_eq!(check.timeout, std::time::Duration::from_secs(60));
    let config = typed(&["report", "--watch=2s", "--timeout=1.5"]).unwrap();
    let Some(Command::Report(report)) = config.command else {
        panic!("{config:?}")
    };
    assert_eq!(report.watch, Some(std::time::Duration::from_secs(2)));
    assert_eq!(report.timeout, std::time::Duration::from_millis(1_500));
}

fn help_of(name: &str) -> String {
    let mut command = command();
    let subcommand = command.find_subcommand_mut(name).unwrap();
    subcommand.render_help().to_string()
}

#[test]
fn healthcheck_accepts_the_flags_of_the_server_after_its_name_and_shows_no_others() {
    for flags in [
        [
            "healthcheck",
            "--web.listen-address=:1",
            "--web.config.file=a",
        ],
        [
            "--web.config.file=a",
            "healthcheck",
            "--web.listen-address=:1",
        ],
    ] {
        let config = typed(&flags).unwrap();
        assert_eq!(config.command, Some(Command::Healthcheck));
        assert_eq!(config.web.listen_addresses, [":1".parse().unwrap()]);
        assert_eq!(config.web.config_file, Some("a".into()));
    }
    let help = help_of("healthcheck");
    assert!(help.contains("--web.listen-address") && help.contains("--web.config.file"));
    assert!(!help.contains("--collector") && !help.contains("--path") && !help.contains("--log"));
}

#[test]
fn check_and_report_show_their_own_flags_first_and_none_of_the_server() {
    for (name, own) in [("check", "--warning"), ("report", "--watch")] {
        let help = help_of(name);
        let place = |flag| help.find(flag).unwrap_or_else(|| panic!("{flag}: {help}"));
        assert!(place(own) < place("--collector.source"), "{help}");
        assert!(!help.contains("--web."), "{help}");
    }
}

#[test]
fn check_has_the_short_flags_of_monitoring_plugins() {
    let config = typed(&["check", "-w", "60%", "-c", "0.7", "-t", "3"]).unwrap();
    let Some(Command::Check(check)) = config.command else {
        panic!("{config:?}");
    };
    assert_eq!((check.warning, check.critical), (0.6, 0.7));
    assert_eq!(check.timeout, std::time::Duration::from_secs(3));
    let version = typed(&["check", "-V"]).unwrap_err();
    assert_eq!(version.kind(), ErrorKind::DisplayVersion);
    assert!(
        version
            .to_string()
            .starts_with("timewait_exporter, version ")
    );
}
