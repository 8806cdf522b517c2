//! What only shows without a file: see also tests/it/web_config and tests/fixtures/web-config.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<WebFile, WebFileError> {
    WebFile::parse(text.as_bytes(), Path::new("/etc/exporter"))
}

#[test]
fn an_empty_file_is_every_default() {
    for text in ["", "\n", "# nothing\n", "---\n", "null\n", "{}\n"] {
        let file = parse(text).unwrap();
        assert!(!file.tls.is_enabled(), "{text:?}");
        assert!(file.http2 && file.users.is_empty() && file.headers.is_empty());
        assert_eq!(file.rate_limit, None);
    }
}

#[test]
fn booleans_are_read_as_go_reads_them() {
    let http2 = |value: &str| {
        let text = format!("http_server_config:\n  http2: {value}\n");
        parse(&text).map(|file| file.http2)
    };
    for on in ["true", "True", "TRUE", "yes", "on", "y", "true # c"] {
        assert!(http2(on).unwrap(), "{on}");
    }
    // As in Go, without a value it is off; without the key, see above, on.
    for off in ["false", "no", "off", "n", "", "null", "~"] {
        assert!(!http2(off).unwrap(), "{off}");
    }
    for wrong in [
        "\"true\"",
        "'no'",
        "1",
        "0",
        "maybe",
        "[true]",
        "{}",
        "|\n    true",
        "!a true",
    ] {
        assert!(http2(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn tls_is_on_where_any_part_of_it_is_set() {
    let is_on = |line: &str| {
        let file = parse(&format!("tls_server_config:\n  {line}\n")).unwrap();
        file.tls.is_enabled()
    };
    for on in [
        "cert: x",
        "cert_file: x",
        "key: x",
        "key_file: x",
        "client_ca: x",
        "client_ca_file: x",
        "client_auth_type: NoClientCert",
    ] {
        assert!(is_on(on), "{on}");
    }
    for off in [
        "cert: ''",
        "cert_file:",
        "client_auth_type: ''",
        "min_version: TLS13",
        "client_allowed_sans: [a]",
        "prefer_server_cipher_suites: false",
    ] {
        assert!(!is_on(off), "{off}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "tls_server_config: {cert_file: a.pem, key_file: /b.key, client_ca_file: ../c}\n";
    let tls = format!("{:?}", parse(text).unwrap().tls);
    for path in ["/etc/exporter/a.pem", "\"/b.key\"", "/etc/exporter/../c"] {
        assert!(tls.contains(path), "{tls}");
    }
}

#[test]
fn nothing_secret_is_in_what_is_printed() {
    let text = "tls_server_config: {cert: HUSH, key: HUSH}\nbasic_auth_users:\n  \
        a: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
    let printed = format!("{:?}", parse(text).unwrap());
    assert!(
        !printed.contains("HUSH") && !printed.contains("2r9OfJ"),
        "{printed}"
    );
    for broken in [
        "tls_server_config:\n  key: |\n    HUSH\n  kay: x\n",
        "tls_server_config:\n  key: HUSH\n  key: HUSH\n",
        "tls_server_config: {key: HUSH, cert_file: [a]}\n",
        "basic_auth_users: {a: HUSH\n",
    ] {
        let told = parse(broken).unwrap_err().to_string();
        assert!(
            told.starts_with("yaml: ") && !told.contains("HUSH"),
            "{told}"
        );
    }
}

#[test]
fn an_error_says_where() {
    let told = parse("tls_server_config:\n  cert_filse: a\n")
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("cert_filse") && told.contains("line 2"),
        "{told}"
    );
    let told = WebFile::parse(b"a: b\n\xff", Path::new("")).unwrap_err();
    assert_eq!(told.to_string(), "yaml: line 2: not UTF-8");
}

#[test]
fn a_name_given_twice_is_an_error_however_it_is_written() {
    let told = |first: &str, second: &str| {
        let text = format!("basic_auth_users: {{{first}: x, {second}: y}}\n");
        parse(&text).unwrap_err().to_string()
    };
    for (first, second, name) in [
        ("7", "\"7\"", "7"),
        ("'12345'", "12345", "12345"),
        ("!!str 7", "7", "7"),
        ("-1", "\"-1\"", "-1"),
        ("0x10", "\"0x10\"", "0x10"),
        ("a", "!!binary YQ==", "a"),
    ] {
        let told = told(first, second);
        let expected = format!("key \"{name}\" already set in map");
        assert!(told.contains(&expected), "{told}");
    }
    assert!(told("a", "a").contains('a'));
    assert!(parse("basic_auth_users: {7: x, \"07\": y}\n").is_ok());
}

#[test]
fn merge_keys_are_refused_wherever_they_stand() {
    for text in [
        "<<: {rate_limit: {burst: 1}}\n",
        "rate_limit:\n  burst: 2\n  <<: {burst: 1}\n",
        "rate_limit:\n  <<:\n",
        "rate_limit: {!!merge <<: {burst: 1}}\n",
        "basic_auth_users: &a {x: y}\nhttp_server_config: {headers: {<<: *a}}\n",
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(
            told.contains("merge keys (<<) cannot be used here") && told.contains("line "),
            "{told}"
        );
    }
    // A name like any other.
    assert!(parse("basic_auth_users: {\"<<\": x}\n").is_ok());
}

#[test]
fn nothing_is_too_deep_or_too_much() {
    let deep = format!("a: {}", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
    let deep = format!("? {}", "{? ".repeat(100_000));
    assert!(parse(&deep).is_err());
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 'b'..='m' {
        let below = char::from_u32(u32::from(level) - 1).unwrap();
        let nine = format!("*{below},").repeat(9);
        laughs.extend([format!("{level}: &{level} [{nine}]\n")]);
    }
    assert!(parse(&laughs).is_err());
}

proptest! {
    #[test]
    fn whatever_the_file_says_nothing_panics(text in "\\PC{0,60}|[-a-z_:{}\\[\\]&*!|>'\"\n #?]{0,60}") {
        let _any = parse(&text);
    }

    #[test]
    fn whatever_a_value_is_nothing_panics(
        key in prop::sample::select(vec![
            "tls_server_config", "http_server_config", "basic_auth_users", "rate_limit",
        ]),
        inner in prop::sample::select(vec![
            "cert", "client_allowed_sans", "min_version", "cipher_suites", "http2", "headers",
            "interval", "burst", "alice",
        ]),
        value in "\\PC{0,20}|[-0-9.eE+xo_]{0,12}",
    ) {
        let _any = parse(&format!("{key}:\n  {inner}: {value}\n"));
    }
}
