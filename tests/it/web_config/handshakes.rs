//! TLS with real clients.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rcgen::SanType;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::{CipherSuite, NamedGroup, version};
use timewait_exporter::web::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::certificates::{Ca, Folder, Pair, self_signed_client};
use super::client::{Client, curl};
use crate::support::patiently;
use crate::support::server::{Running, collector, generous, outcome};

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// A server with this file.
pub async fn serve(folder: &Folder, text: &str) -> Running {
    serve_with(folder, text, generous()).await
}

pub async fn serve_with(folder: &Folder, text: &str, limits: Limits) -> Running {
    let path = folder.write("web.yml", text);
    let flag = format!("--web.config.file={path}");
    Running::with(collector(|_| outcome(true)), &[&flag], limits).await
}

/// The result of a request: 200, or the server's alert, by rustls' name for it.
async fn end_of(client: &Client, address: SocketAddr) -> Result<(), String> {
    match client.get(address, "/-/healthy", None).await {
        Ok(answer) => {
            assert_eq!(answer.status, 200);
            Ok(())
        }
        Err(error) => {
            let text = format!("{error:?}");
            let (_, alert) = text
                .split_once("received fatal alert: ")
                .or_else(|| text.split_once("AlertReceived("))
                .unwrap_or_else(|| panic!("no alert: {text}"));
            let end = alert.find(|c: char| !c.is_alphanumeric()).unwrap();
            Err(alert[..end].to_owned())
        }
    }
}

#[tokio::test]
async fn http1_is_the_only_protocol_whatever_the_file_says_about_http2() {
    let folder = Folder::new();
    let mut client = Client::new(&folder.ca.pem());
    for http2 in [
        "",
        "http_server_config:\n  http2: true\n",
        "http_server_config:\n  http2: false\n",
    ] {
        let server = serve(&folder, &format!("{TLS}{http2}")).await;
        let address = server.addresses[0];
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            client.alpn = offered;
            let stream = client.connect(address).await.unwrap();
            assert_eq!(
                stream.get_ref().1.alpn_protocol(),
                agreed,
                "{http2}{offered:?}"
            );
            for path in ["/metrics", "/", "/api/v1/report", "/-/healthy", "/-/ready"] {
                let answer = client.get(address, path, None).await.unwrap();
                assert_eq!(answer.status, 200, "{path}");
                assert!(!answer.body.is_empty());
            }
            assert_eq!(
                client.get(address, "/nothing", None).await.unwrap().status,
                404
            );
        }
        client.alpn = &["h2"];
        let alert = end_of(&client, address).await.unwrap_err();
        assert_eq!(alert, "NoApplicationProtocol");
    }
}

#[tokio::test]
async fn curl_is_served_and_refuses_a_wrong_certificate() {
    let folder = Folder::new();
    let server = serve(&folder, TLS).await;
    let at =
        |server: &Running| format!("https://localhost:{}/-/healthy", server.addresses[0].port());
    let url = at(&server);
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let version = "%{http_version} %{http_code}";
    let Some((status, said)) = curl(&["--cacert", ca, "-w", version, "-4", &url]).await else {
        return;
    };
    assert_eq!((status, said.contains("1.1 200")), (0, true), "{said}");
    // 60: the peer's certificate cannot be authenticated.
    let other = folder.write("other-ca.pem", &Ca::new("another CA").pem());
    let (status, said) = curl(&["--cacert", &other, "-4", &url]).await.unwrap();
    assert_eq!(status, 60, "{said}");
    let (status, said) = curl(&[
        "--cacert",
        ca,
        "--tls-max",
        "1.1",
        "--ciphers",
        "DEFAULT@SECLEVEL=0",
        "-4",
        &url,
    ])
    .await
    .unwrap();
    assert_eq!(status, 35, "TLS 1.1: {said}");
    folder
        .ca
        .server("elsewhere.example")
        .write(folder.path(), "server");
    let (status, said) = curl(&["--cacert", ca, "-4", &url]).await.unwrap();
    assert_eq!(status, 60, "wrong name: {said}");
    folder.ca.expired_server().write(folder.path(), "server");
    let (status, said) = curl(&["--cacert", ca, "-4", &url]).await.unwrap();
    assert_eq!((status, said.contains("expired")), (60, true), "{said}");
    // Afterwards it still serves.
    folder.server.write(folder.path(), "server");
    let (status, said) = curl(&["--cacert", ca, "-4", &url]).await.unwrap();
    assert_eq!(status, 0, "{said}");
}

#[tokio::test]
async fn a_rust_client_refuses_a_wrong_server() {
    let folder = Folder::new();
    let server = serve(&folder, TLS).await;
    let refusal = async |client: &Client| {
        let error = client
            .get(server.addresses[0], "/", None)
            .await
            .unwrap_err();
        error.to_string()
    };
    let client = Client::new(&folder.ca.pem());
    let stranger = Client::new(&Ca::new("another CA").pem());
    assert!(refusal(&stranger).await.contains("UnknownIssuer"));
    let mut elsewhere = client.clone();
    elsewhere.server_name = "elsewhere.example";
    assert!(refusal(&elsewhere).await.contains("not valid for name"));
    folder.ca.expired_server().write(folder.path(), "server");
    assert!(refusal(&client).await.contains("expired"));
}

#[tokio::test]
async fn each_client_auth_policy_accepts_the_right_clients() {
    const NONE: Result<(), &str> = Err("CertificateRequired");
    const UNKNOWN: Result<(), &str> = Err("UnknownCA");
    const EXPIRED: Result<(), &str> = Err("CertificateExpired");
    let folder = Folder::new();
    let client = Client::new(&folder.ca.pem());
    let certificates: [(&str, Option<Pair>); 5] = [
        ("none", None),
        ("good", Some(folder.ca.client(&[]))),
        ("other CA", Some(Ca::new("another CA").client(&[]))),
        ("expired", Some(folder.ca.expired_client())),
        ("self-signed", Some(self_signed_client(false))),
    ];
    let all = [Ok(()); 5];
    let any = [NONE, Ok(()), Ok(()), Ok(()), Ok(())];
    let verified = |none| [none, Ok(()), UNKNOWN, EXPIRED, UNKNOWN];
    for (policy, has_ca, expected) in [
        ("NoClientCert", false, all),
        ("RequestClientCert", false, all),
        ("RequestClientCert", true, all),
        ("RequireAnyClientCert", false, any),
        ("RequireAnyClientCert", true, any),
        ("VerifyClientCertIfGiven", true, verified(Ok(()))),
        ("RequireAndVerifyClientCert", true, verified(NONE)),
        (
            "VerifyClientCertIfGiven",
            false,
            [Ok(()), UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN],
        ),
    ] {
        let ca = if has_ca {
            "  client_ca_file: ca.pem\n"
        } else {
            ""
        };
        for only in [&version::TLS12, &version::TLS13] {
            let text = format!("{TLS}  client_auth_type: {policy}\n{ca}");
            let server = serve(&folder, &text).await;
            for ((name, certificate), expected) in certificates.iter().zip(expected) {
                let mut client = client.clone();
                client.certificate.clone_from(certificate);
                client.versions = vec![only];
                let end = end_of(&client, server.addresses[0]).await;
                // TLS 1.2 has no specific alert for this.
                let is_12 = only.version == version::TLS12.version;
                if is_12 && expected == NONE {
                    assert!(end.is_err(), "{policy} {name}");
                    continue;
                }
                let end = end.as_ref().copied().map_err(String::as_str);
                assert_eq!(end, expected, "{policy} {has_ca} {name} {only:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_itself_in_the_list_of_cas_is_accepted() {
    let folder = Folder::new();
    for is_ca in [false, true] {
        let pair = self_signed_client(is_ca);
        folder.write("clients.pem", &format!("{}{}", folder.ca.pem(), pair.cert));
        let text = format!(
            "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.pem\n"
        );
        let server = serve(&folder, &text).await;
        let client = Client::new(&folder.ca.pem());
        assert_eq!(
            end_of(&client.clone().with(&pair), server.addresses[0]).await,
            Ok(())
        );
        let other = client.with(&self_signed_client(is_ca));
        assert!(end_of(&other, server.addresses[0]).await.is_err());
    }
}

#[tokio::test]
async fn a_list_of_names_accepts_certificates_with_one_of_them() {
    let folder = Folder::new();
    let san = |text: &str| text.to_owned().try_into().unwrap();
    let dns = folder
        .ca
        .client(&[SanType::DnsName(san("prometheus.example"))]);
    let mail = folder
        .ca
        .client(&[SanType::Rfc822Name(san("ops@example.org"))]);
    let uri = folder
        .ca
        .client(&[SanType::URI(san("spiffe://example/prometheus"))]);
    let v4 = folder
        .ca
        .client(&[SanType::IpAddress("192.0.2.7".parse::<IpAddr>().unwrap())]);
    let v6 = folder
        .ca
        .client(&[SanType::IpAddress("2001:db8::7".parse::<IpAddr>().unwrap())]);
    let second = folder.ca.client(&[
        SanType::DnsName(san("elsewhere.example")),
        SanType::DnsName(san("prometheus.example")),
    ]);
    let good = [dns, mail, uri, v4, v6, second];
    let bad = [
        folder.ca.client(&[]),
        folder
            .ca
            .client(&[SanType::DnsName(san("PROMETHEUS.example"))]),
        folder
            .ca
            .client(&[SanType::DnsName(san("sub.prometheus.example"))]),
        // The right name from the wrong CA.
        Ca::new("another CA").client(&[SanType::DnsName(san("prometheus.example"))]),
    ];
    let policy = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let names = "  client_allowed_sans: [prometheus.example, ops@example.org, \
        \"spiffe://example/prometheus\", 192.0.2.7, \"2001:db8::7\"]\n";
    let server = serve(&folder, &format!("{TLS}{policy}{names}")).await;
    let client = Client::new(&folder.ca.pem());
    for pair in &good {
        let client = client.clone().with(pair);
        assert_eq!(end_of(&client, server.addresses[0]).await, Ok(()));
    }
    for pair in &bad {
        let client = client.clone().with(pair);
        assert!(end_of(&client, server.addresses[0]).await.is_err());
    }
    assert!(end_of(&client, server.addresses[0]).await.is_err());
    // An empty list accepts no client, nor does any list without a client certificate.
    for (policy, list) in [
        ("RequireAndVerifyClientCert", "[]"),
        ("VerifyClientCertIfGiven", "[prometheus.example]"),
        ("RequestClientCert", "[prometheus.example]"),
    ] {
        let text = format!(
            "{TLS}  client_auth_type: {policy}\n  client_ca_file: ca.pem\n  client_allowed_sans: {list}\n"
        );
        let server = serve(&folder, &text).await;
        assert!(
            end_of(&client, server.addresses[0]).await.is_err(),
            "{policy}"
        );
        let named = client.clone().with(&good[0]);
        let is_in = end_of(&named, server.addresses[0]).await.is_ok();
        assert_eq!(is_in, list != "[]", "{policy}");
    }
}

/// The negotiated version, suite and group.
async fn agreed(client: &Client, server: &Running) -> Option<(u16, CipherSuite, NamedGroup)> {
    let stream = client.connect(server.addresses[0]).await.ok()?;
    let connection = stream.get_ref().1;
    Some((
        u16::from(connection.protocol_version()?),
        connection.negotiated_cipher_suite()?.suite(),
        connection.negotiated_key_exchange_group()?.name(),
    ))
}

#[tokio::test]
async fn versions_suites_and_curves_are_those_of_the_file() {
    let folder = Folder::new();
    let client = Client::new(&folder.ca.pem());
    let with = |lines: &str| format!("{TLS}{lines}");
    let server = serve(&folder, TLS).await;
    assert_eq!(agreed(&client, &server).await.unwrap().0, 0x304);
    let mut old = client.clone();
    old.versions = vec![&version::TLS12];
    assert_eq!(agreed(&old, &server).await.unwrap().0, 0x303);

    let server = serve(&folder, &with("  max_version: TLS12\n")).await;
    assert_eq!(agreed(&client, &server).await.unwrap().0, 0x303);
    let server = serve(&folder, &with("  min_version: TLS13\n")).await;
    assert_eq!(agreed(&client, &server).await.unwrap().0, 0x304);
    assert_eq!(agreed(&old, &server).await, None);

    // The client prefers the second; the file defines whose order counts.
    old.provider.cipher_suites = vec![
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ];
    let suites = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n";
    let server = serve(&folder, &with(suites)).await;
    let agreed_suite = agreed(&old, &server).await.unwrap().1;
    assert_eq!(
        agreed_suite,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    );
    let own = format!("{suites}  prefer_server_cipher_suites: false\n");
    let server = serve(&folder, &with(&own)).await;
    let agreed_suite = agreed(&old, &server).await.unwrap().1;
    assert_eq!(
        agreed_suite,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    );
    // None in common.
    old.provider.cipher_suites = vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
    assert_eq!(agreed(&old, &server).await, None);
    // As in Go, the list does not apply to TLS 1.3.
    assert_eq!(agreed(&client, &server).await.unwrap().0, 0x304);

    let server = serve(
        &folder,
        &with("  curve_preferences: [CurveP521, CurveP384]\n"),
    )
    .await;
    assert_eq!(
        agreed(&client, &server).await.unwrap().2,
        NamedGroup::secp384r1
    );
    let mut other = client.clone();
    other.provider.kx_groups = vec![kx_group::X25519];
    assert_eq!(agreed(&other, &server).await, None);
}

#[tokio::test]
async fn a_plain_request_to_a_tls_port_gets_an_error_that_says_so() {
    let folder = Folder::new();
    let server = serve(&folder, TLS).await;
    for request in [
        "GET /metrics HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let said = String::from_utf8(client.closed().await).unwrap();
        assert!(
            said.starts_with("HTTP/1.0 400 Bad Request\r\n\r\n"),
            "{said}"
        );
        assert!(
            said.contains("Client sent an HTTP request to an HTTPS server."),
            "{said}"
        );
    }
    // Anything else gets an alert, or nothing.
    let mut client = server.connect().await;
    client.send("hello, is there anybody?\r\n\r\n").await;
    assert!(!client.closed().await.starts_with(b"HTTP"));
}

#[tokio::test]
async fn stalled_handshakes_delay_no_other_client_and_time_out() {
    let folder = Folder::new();
    let limits = Limits {
        receive: Duration::from_millis(300),
        connections: 60,
        ..generous()
    };
    let server = serve_with(&folder, TLS, limits).await;
    let client = Client::new(&folder.ca.pem());
    let mut stalled = Vec::new();
    for number in 0..50 {
        let mut one = server.connect().await;
        // Some send nothing, some the beginning of a record, some half of one.
        let beginning: &[u8] = match number % 3 {
            0 => &[],
            1 => &[22, 3, 1],
            _ => &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3],
        };
        one.stream.write_all(beginning).await.unwrap();
        stalled.push(one);
    }
    assert_eq!(end_of(&client, server.addresses[0]).await, Ok(()));
    for one in stalled {
        assert_eq!(one.closed().await, b"");
    }
    assert_eq!(end_of(&client, server.addresses[0]).await, Ok(()));
}

#[tokio::test]
async fn at_the_connection_limit_a_stalled_handshake_is_closed() {
    let folder = Folder::new();
    let limits = Limits {
        connections: 2,
        ..generous()
    };
    let server = serve_with(&folder, TLS, limits).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let client = Client::new(&folder.ca.pem());
    assert_eq!(end_of(&client, server.addresses[0]).await, Ok(()));
    assert_eq!(first.closed().await, b"");
}

#[tokio::test]
async fn junk_in_a_handshake_ends_its_own_connection_only() {
    let folder = Folder::new();
    let server = serve(&folder, TLS).await;
    let client = Client::new(&folder.ca.pem());
    let mut random = 1_u64;
    for _ in 0..200 {
        let mut one = server.connect().await;
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                random.to_be_bytes()[0]
            })
            .collect();
        let mut record = vec![22, 3, 1, 0, 64];
        record.extend(bytes);
        one.stream.write_all(&record).await.unwrap();
        let _half = one.stream.shutdown().await;
        one.closed().await;
    }
    assert_eq!(end_of(&client, server.addresses[0]).await, Ok(()));
}

#[tokio::test]
async fn the_certificate_is_read_for_every_handshake() {
    let folder = Folder::new();
    let server = serve(&folder, TLS).await;
    let address = server.addresses[0];
    let client = Client::new(&folder.ca.pem());
    let shown = async || {
        let stream = client.connect(address).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    assert_eq!(shown().await, first);
    folder.ca.server("localhost").write(folder.path(), "server");
    assert_ne!(shown().await, first);
    // Invalid: an alert, and no connection without TLS.
    folder.write("server.pem", "junk");
    let alert = end_of(&client, address).await.unwrap_err();
    assert_eq!(alert, "InternalError");
    // The same with a key that does not match, a file that is junk, or one without TLS.
    folder.ca.server("localhost").write(folder.path(), "server");
    folder.write("server.key", &folder.server.key);
    assert!(end_of(&client, address).await.is_err());
    folder.server.write(folder.path(), "server");
    assert_eq!(end_of(&client, address).await, Ok(()));
    for broken in ["junk", "", "tls_server_config:\n  cert_file: server.pem\n"] {
        folder.write("web.yml", broken);
        assert!(end_of(&client, address).await.is_err(), "{broken}");
        let mut plain = server.connect().await;
        plain.ask("GET", "/metrics", "").await;
        assert!(
            !plain.closed().await.starts_with(b"HTTP/1.1 200"),
            "{broken}"
        );
    }
    folder.write("web.yml", TLS);
    assert_eq!(end_of(&client, address).await, Ok(()));
    assert_eq!(shown().await, first);
    // The requirements for clients change as well.
    let text = format!("{TLS}  client_auth_type: RequireAnyClientCert\n");
    folder.write("web.yml", &text);
    assert!(end_of(&client, address).await.is_err());
}

#[tokio::test]
async fn a_connection_keeps_its_certificate_and_ends_gracefully() {
    let folder = Folder::new();
    let mut server = serve(&folder, TLS).await;
    let mut client = Client::new(&folder.ca.pem());
    client.alpn = &["http/1.1"];
    let mut stream = client.connect(server.addresses[0]).await.unwrap();
    let ask = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut buffer = vec![0; 4096];
    for _ in 0..3 {
        stream.write_all(ask).await.unwrap();
        let length = patiently(stream.read(&mut buffer)).await.unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200"));
        folder.write("server.pem", "junk");
    }
    server.shut_down();
    server.drained().await;
    let length = patiently(stream.read(&mut buffer)).await.unwrap_or(0);
    assert_eq!(length, 0);
}
