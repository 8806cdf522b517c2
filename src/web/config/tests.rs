//! Parsing without a file: see also tests/it/web_config and tests/fixtures/web-config.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<WebFile, String> {
    WebFile::parse(text.as_bytes())
}

/// What is wrong with it.
fn fault(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err()
}

#[test]
fn an_empty_file_is_every_default() {
    for text in ["", "\n", "# nothing\n", "---\n", "null\n", "{}\n"] {
        let file = parse(text).unwrap();
        assert!(!file.tls.is_enabled(), "{text:?}");
        assert!(file.users.is_empty() && file.headers.is_empty());
        assert_eq!(file.rate_limit, None);
    }
}

#[test]
fn booleans_are_read_as_go_reads_them() {
    let http2 = |value: &str| parse(&format!("http_server_config:\n  http2: {value}\n"));
    for good in [
        "true", "True", "yes", "on", "y", "true # c", "false", "no", "off", "n", "", "~",
    ] {
        assert!(http2(good).is_ok(), "{good}");
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
fn the_end_of_a_document_may_be_marked_and_no_other_may_follow() {
    for text in [
        "...\n",
        "---\n...\n",
        "rate_limit:\n  burst: 1\n...\n# c\n\n",
    ] {
        assert!(parse(text).is_ok(), "{text:?}");
    }
    for text in [
        "rate_limit:\n  burst: 1\n...\n---\nrate_limit:\n",
        "rate_limit:\n  burst: 1\n---\nrate_limit:\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

const USERS: &str = "basic_auth_users:\n  \
    a: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

#[test]
fn no_prefix_of_a_file_allows_what_the_file_forbids() {
    let tls = "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c\n  \
        client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [a, b]\n";
    for text in [
        format!("{tls}{USERS}"),
        format!("{USERS}{tls}"),
        format!("http_server_config:\n  http2: true\n{USERS}"),
        USERS.replace("\n  ", " {").replace('\n', "}\n"),
    ] {
        let whole = parse(&text).unwrap();
        for end in 0..text.len() {
            let Ok(cut) = parse(&text[..end]) else {
                continue;
            };
            let asks_all = !cut.users.is_empty() && (cut.lost_since(&whole).is_none());
            let is_refused = cut.lost_since(&whole).is_some();
            assert!(is_refused || asks_all, "{}", &text[..end]);
        }
        assert!(parse(&text).unwrap().lost_since(&whole).is_none());
    }
}

#[test]
fn a_file_truncated_byte_by_byte_allows_nothing() {
    let tls = "tls_server_config:\n  client_allowed_sans: [a]\n  client_auth_type: RequireAnyClientCert\n";
    for file in [tls, USERS] {
        let mut accepted = parse(file).unwrap();
        for end in (0..file.len()).rev() {
            let cut = &file[..end];
            let Ok(parsed) = parse(cut) else { continue };
            if parsed.lost_since(&accepted).is_none() {
                // No policy has a name that is the beginning of another.
                let asks = !parsed.users.is_empty() || cut.contains("client_auth_type: R");
                assert!(asks, "{cut}");
                accepted = parsed;
            }
        }
    }
}

#[test]
fn an_intended_change_is_not_a_loss() {
    let users = parse(USERS).unwrap();
    for (text, expected) in [
        ("", Some("basic_auth_users")),
        ("basic_auth_users:\n", Some("basic_auth_users")),
        ("rate_limit: {burst: 1}\n", Some("basic_auth_users")),
        ("basic_auth_users: {}\n", None),
        ("basic_auth_users: {b: c}\n", None),
    ] {
        let lost = parse(text).unwrap().lost_since(&users);
        assert_eq!(lost.map(|(key, _)| key), expected, "{text:?}");
        let open = parse("").unwrap();
        assert_eq!(parse(text).unwrap().lost_since(&open), None, "{text:?}");
    }
    let tls = |text: &str| parse(&format!("tls_server_config: {{{text}}}\n")).unwrap();
    let strict = tls("client_auth_type: RequireAnyClientCert, client_allowed_sans: [a]");
    for (text, expected) in [
        ("cert_file: a", Some("client_auth_type")),
        ("client_auth_type:", Some("client_auth_type")),
        ("client_auth_type: NoClientCert", None),
        (
            "client_auth_type: RequireAnyClientCert",
            Some("client_allowed_sans"),
        ),
        (
            "client_auth_type: RequireAnyClientCert, client_allowed_sans: [b]",
            None,
        ),
    ] {
        let lost = tls(text).lost_since(&strict);
        assert_eq!(lost.map(|(key, _)| key), expected, "{text:?}");
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
fn no_error_has_anything_secret() {
    for broken in [
        "tls_server_config:\n  key: |\n    HUSH\n  kay: x\n",
        "tls_server_config:\n  key: HUSH\n  key: HUSH\n",
        "tls_server_config: {key: HUSH, cert_file: [a]}\n",
        "basic_auth_users: {a: HUSH\n",
    ] {
        let said = fault(broken);
        assert!(
            said.starts_with("yaml: ") && !said.contains("HUSH"),
            "{said}"
        );
    }
}

#[test]
fn an_error_says_where() {
    let said = fault("tls_server_config:\n  cert_filse: a\n");
    assert!(
        said.contains("cert_filse") && said.contains("line 2"),
        "{said}"
    );
    let said = WebFile::parse(b"a: b\n\xff").map(|_| ()).unwrap_err();
    assert_eq!(said, "yaml: line 2: not UTF-8");
}

#[test]
fn a_name_given_twice_is_an_error_however_it_is_written() {
    let said = |first: &str, second: &str| {
        let text = format!("basic_auth_users: {{{first}: x, {second}: y}}\n");
        fault(&text)
    };
    for (first, second, name) in [
        ("7", "\"7\"", "7"),
        ("'12345'", "12345", "12345"),
        ("!!str 7", "7", "7"),
        ("-1", "\"-1\"", "-1"),
        ("0x10", "\"0x10\"", "0x10"),
        ("a", "!!binary YQ==", "a"),
    ] {
        let said = said(first, second);
        let expected = format!("key \"{name}\" already set in map");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(said("a", "a").contains('a'));
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
        let said = fault(text);
        assert!(
            said.contains("merge keys (<<) cannot be used here") && said.contains("line "),
            "{said}"
        );
    }
    // A name like any other.
    assert!(parse("basic_auth_users: {\"<<\": x}\n").is_ok());
}

#[test]
fn deep_or_large_files_are_refused() {
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
    fn no_file_makes_it_panic(text in "\\PC{0,60}|[-a-z_:{}\\[\\]&*!|>'\"\n #?]{0,60}") {
        let _any = parse(&text);
    }

    #[test]
    fn no_value_makes_it_panic(
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
