//! `healthcheck`, which has neither certificate nor password, with a server that requires them.

use super::certificates::Folder;
use super::requests::SECRET;
use super::start;
use crate::support::program::{self, Program};

const TLS: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";

fn is_healthy(exporter: &Program) -> bool {
    let address = exporter.address();
    let output = program::command()
        .arg(format!("--web.listen-address={address}"))
        .arg("healthcheck")
        .output()
        .unwrap();
    println!("{output:?}");
    output.status.success()
}

#[test]
fn a_server_that_requires_tls_or_a_password_is_healthy() {
    let folder = Folder::new();
    let users = format!("basic_auth_users: {{alice: '{SECRET}'}}\n");
    for text in [TLS.to_owned(), users.clone(), format!("{TLS}{users}")] {
        let exporter = start(&folder.write("web.yml", &text));
        assert!(is_healthy(&exporter), "{text}");
    }
}

#[test]
fn a_server_whose_web_configuration_breaks_while_it_runs_is_unhealthy() {
    let folder = Folder::new();
    let exporter = start(&folder.write("web.yml", ""));
    assert!(is_healthy(&exporter));
    folder.write("web.yml", "broken: {");
    assert!(!is_healthy(&exporter));
}
