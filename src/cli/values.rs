//! The forms of single flags' values.
//!
//! Each parser either returns a value that needs no further check or an error that says what to write
//! instead; clap puts the flag's name in front.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use crate::collector::NamespaceChoice;
use crate::domain::address::Address;
use crate::domain::options::PinnedDestination;
use crate::web::decimal_port;

/// Values separated by white space: one on the command line, several in an environment variable.
#[derive(Clone, Debug)]
pub(super) struct Words<T>(pub(super) Vec<T>);

/// Reads every word by its `FromStr`.
pub(super) fn words<T: FromStr<Err: Display>>(text: &str) -> Result<Words<T>, String> {
    words_with(text, str::parse)
}

/// Reads every word by a function.
pub(super) fn words_with<T, E: Display>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Words<T>, String> {
    let values = text.split_whitespace().map(|word| {
        parse(word).map_err(|error| {
            if word == text {
                // clap has named it already.
                error.to_string()
            } else {
                format!("{word:?}: {error}")
            }
        })
    });
    match values.collect::<Result<Vec<T>, _>>()? {
        none if none.is_empty() => Err("the value is empty".to_owned()),
        some => Ok(Words(some)),
    }
}

/// The namespaces to read. The exporter's own always is among them, so `self` in a list adds nothing.
pub(super) fn namespaces(text: &str) -> Result<NamespaceChoice, String> {
    match text.trim() {
        "named" => return Ok(NamespaceChoice::Named),
        "all" => return Ok(NamespaceChoice::All),
        _ => {}
    }
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        match name {
            "" => return Err("write self, named, all, or names separated by commas".to_owned()),
            "named" | "all" => {
                return Err(format!("{name} cannot stand in a list: write it alone"));
            }
            _ if name.contains(['/', '\0']) || matches!(name, "." | "..") => {
                return Err(format!(
                    "{name:?} cannot be the name of a network namespace: a name is that of a file, without a \"/\""
                ));
            }
            _ if name == "self" || names.iter().any(|known| known == name) => {}
            _ => names.push(name.to_owned()),
        }
    }
    Ok(if names.is_empty() {
        NamespaceChoice::OwnOnly
    } else {
        NamespaceChoice::Listed(names)
    })
}

/// A number within these bounds.
pub(super) fn number(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("write a number from {least} to {most}"))
    }
}

/// The mount point of a file system. Without it every file would be absent, and a mistyped path would
/// go unnoticed.
pub(super) fn directory(path: PathBuf) -> Result<PathBuf, &'static str> {
    path.is_dir()
        .then_some(path)
        .ok_or("there is no such directory")
}

/// A port that sockets can have: not 0.
pub(super) fn port(text: &str) -> Result<u16, &'static str> {
    decimal_port(text)
        .filter(|port| *port != 0)
        .ok_or("a port is a number from 1 to 65535")
}

/// `[SRC_ADDR,]DST_ADDR:DST_PORT`, or the labels' values in their order, separated by commas.
pub(super) fn pinned_destination(text: &str) -> Result<PinnedDestination, String> {
    const FORM: &str = "write [SRC_ADDR,]DST_ADDR:DST_PORT or SRC_ADDR,DST_ADDR,DST_PORT";
    let mut parts: Vec<&str> = text.split(',').collect();
    if let [dst_and_port] | [_, dst_and_port] = parts[..] {
        let (dst, port) = dst_and_port.rsplit_once(':').ok_or(FORM)?;
        // `2001:db8::1:443` is an address without a port.
        if dst.contains(':') && !dst.starts_with('[') {
            return Err(
                "write an IPv6 address in brackets: [SRC_ADDR,][DST_ADDR]:DST_PORT".to_owned(),
            );
        }
        parts.pop();
        parts.extend([dst, port]);
    }
    let (src, dst, dst_port) = match parts[..] {
        [dst, port] => (None, dst, port),
        [src, dst, port] => (Some(src), dst, port),
        _ => return Err(FORM.to_owned()),
    };
    let any = ": leave it out to mean any";
    Ok(PinnedDestination {
        src_addr: src.map(|src| address("SRC_ADDR", src, any)).transpose()?,
        dst_addr: address("DST_ADDR", dst, "")?,
        dst_port: port(dst_port).map_err(|error| format!("DST_PORT {dst_port:?}: {error}"))?,
    })
}

fn address(part: &str, text: &str, remedy: &str) -> Result<Address, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.contains(':'))
        .unwrap_or(text);
    match bare.parse::<Address>() {
        Err(_) => Err(format!(
            "{part} {text:?} is not an IP address (host names are not resolved)"
        )),
        Ok(address) if address.is_wildcard() => Err(format!(
            "{part} {text:?} is a wildcard, which no connection has{remedy}"
        )),
        Ok(address) => Ok(address),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_a_choice_or_a_list_whatever_spaces_are_around() {
        let listed = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            Ok(NamespaceChoice::Listed(names))
        };
        assert_eq!(namespaces(" named\n"), Ok(NamespaceChoice::Named));
        assert_eq!(namespaces("all "), Ok(NamespaceChoice::All));
        assert_eq!(namespaces("self, self"), Ok(NamespaceChoice::OwnOnly));
        assert_eq!(namespaces(" b ,self,a b,-c,b"), listed(&["b", "a b", "-c"]));
        for wrong in ["", "a,", "named,a", "a/b", ".."] {
            assert!(namespaces(wrong).is_err(), "{wrong}");
        }
    }

    fn destination(src: Option<&str>, dst: &str, dst_port: u16) -> PinnedDestination {
        PinnedDestination {
            src_addr: src.map(|src| src.parse().unwrap()),
            dst_addr: dst.parse().unwrap(),
            dst_port,
        }
    }

    #[test]
    fn a_destination_has_two_spellings() {
        let v4 = destination(Some("10.0.0.1"), "192.0.2.1", 443);
        assert_eq!(pinned_destination("10.0.0.1,192.0.2.1:443"), Ok(v4));
        assert_eq!(pinned_destination("10.0.0.1,192.0.2.1,443"), Ok(v4));
        let any = destination(None, "192.0.2.1", 443);
        assert_eq!(pinned_destination("192.0.2.1:443"), Ok(any));
        let v6 = destination(Some("2001:db8::2"), "2001:db8::1", 1);
        for text in [
            "[2001:db8::2],[2001:db8::1]:1",
            "2001:db8::2,[2001:db8::1]:1",
            "2001:db8::2,2001:db8::1,1",
        ] {
            assert_eq!(pinned_destination(text), Ok(v6), "{text}");
        }
        let mapped = pinned_destination("[::ffff:192.0.2.1]:443");
        assert_eq!(mapped, Ok(any));
    }

    #[test]
    fn other_destinations_are_refused_with_their_reason() {
        let refused = |text: &str, says: &str| {
            let error = pinned_destination(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        };
        for text in ["", "192.0.2.1", "a,b,c,d"] {
            refused(text, "write [SRC_ADDR,]DST_ADDR:DST_PORT or");
        }
        refused("2001:db8::1:443", "in brackets");
        for text in [
            "db.example:5432",
            ":80",
            "[192.0.2.1]:80",
            "[::1:80",
            ",1.2.3.4:5",
        ] {
            refused(text, "is not an IP address");
        }
        for text in ["0.0.0.0:80", "[::]:80", "0.0.0.0,192.0.2.1:80"] {
            refused(text, "is a wildcard");
        }
        for text in [
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
        ] {
            refused(text, "DST_PORT");
        }
    }

    #[test]
    fn words_name_the_wrong_one_among_several() {
        let ports = |text: &str| words_with(text, port).map(|words| words.0);
        assert_eq!(ports(" 1  2\n3 "), Ok(vec![1, 2, 3]));
        assert!(ports("1 x").unwrap_err().starts_with("\"x\": "));
        assert!(ports("x").unwrap_err().starts_with("a port is"));
        assert_eq!(ports("  ").unwrap_err(), "the value is empty");
    }
}
