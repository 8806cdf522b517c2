//! The forms of single flags' values.
//!
//! Each parser either gives a value that needs no further check or an error that says what to write
//! instead. Knows no flag's name: clap puts it in front.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::collector::{NamespaceChoice, SourceChoice};
use crate::config::decimal_port;
use crate::domain::address::Address;
use crate::domain::options::PinnedDestination;

/// Values separated by white space: one on the command line, several in an environment variable.
#[derive(Clone, Debug)]
pub(super) struct Words<T>(Vec<T>);

impl<T> Words<T> {
    /// All values of all mentions.
    pub(super) fn flatten(mentions: Vec<Self>) -> impl Iterator<Item = T> {
        mentions.into_iter().flat_map(|words| words.0)
    }
}

/// No value at all where at least one belongs.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordsError<E: std::error::Error + 'static> {
    #[error("the value is empty")]
    Empty,
    #[error("{word:?}: {source}")]
    Bad { word: String, source: E },
    /// There is only one word, which clap has named already.
    #[error(transparent)]
    Only(E),
}

/// Reads every word by its `FromStr`.
pub(super) fn words<T: FromStr>(text: &str) -> Result<Words<T>, WordsError<T::Err>>
where
    T::Err: std::error::Error + 'static,
{
    words_with(text, str::parse)
}

/// Reads every word by a function.
pub(super) fn words_with<T, E: std::error::Error + 'static>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Words<T>, WordsError<E>> {
    let values: Result<Vec<T>, _> = text
        .split_whitespace()
        .map(|word| {
            parse(word).map_err(|source| {
                if word == text {
                    WordsError::Only(source)
                } else {
                    WordsError::Bad {
                        word: word.to_owned(),
                        source,
                    }
                }
            })
        })
        .collect();
    match values? {
        none if none.is_empty() => Err(WordsError::Empty),
        some => Ok(Words(some)),
    }
}

/// Where sockets are read from, as the flag has it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum SourceFlag {
    Auto,
    Netlink,
    Procfs,
}

impl From<SourceFlag> for SourceChoice {
    fn from(flag: SourceFlag) -> Self {
        match flag {
            SourceFlag::Auto => Self::Auto,
            SourceFlag::Netlink => Self::Netlink,
            SourceFlag::Procfs => Self::Procfs,
        }
    }
}

/// A list of namespaces that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NamespacesError {
    #[error("write self, named, all, or names separated by commas")]
    Empty,
    #[error("{word} cannot stand in a list: it is a choice by itself")]
    Choice { word: String },
    #[error(
        "{name:?} cannot be the name of a network namespace: it is a file's name, without a \"/\""
    )]
    Name { name: String },
}

/// Which namespaces are looked at. The own one always is, so that `self` in a list says nothing.
pub(super) fn namespaces(text: &str) -> Result<NamespaceChoice, NamespacesError> {
    match text.trim() {
        "self" => return Ok(NamespaceChoice::OwnOnly),
        "named" => return Ok(NamespaceChoice::Named),
        "all" => return Ok(NamespaceChoice::All),
        _ => {}
    }
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        match name {
            "" => return Err(NamespacesError::Empty),
            "self" => {}
            "named" | "all" => {
                let word = name.to_owned();
                return Err(NamespacesError::Choice { word });
            }
            _ if name.contains(['/', '\0']) || matches!(name, "." | "..") => {
                let name = name.to_owned();
                return Err(NamespacesError::Name { name });
            }
            _ if names.iter().any(|known| known == name) => {}
            _ => names.push(name.to_owned()),
        }
    }
    Ok(if names.is_empty() {
        NamespaceChoice::OwnOnly
    } else {
        NamespaceChoice::Listed(names)
    })
}

/// Each may have some hundred series.
const MAX_NAMESPACES: usize = 10_000;

/// How many namespaces are told.
pub(super) fn most_namespaces(text: &str) -> Result<usize, KindError> {
    match text.parse() {
        Ok(most) if (1..=MAX_NAMESPACES).contains(&most) => Ok(most),
        _ => Err(KindError::Namespaces),
    }
}

/// The most values a breakdown may tell: each is a series on every host.
const MAX_TOP: usize = 1000;

/// A value that is not of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KindError {
    #[error("write true or false")]
    Boolean,
    #[error("write a number from 1 to {MAX_TOP}")]
    Top,
    #[error("write a number from 1 to {MAX_NAMESPACES}")]
    Namespaces,
    #[error("write a number, 0 for no limit")]
    MaxRequests,
    #[error("there is no such directory")]
    Directory,
}

/// What the environment variable of a flag without a value may hold.
pub(super) fn boolean(text: &str) -> Result<bool, KindError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(KindError::Boolean),
    }
}

/// How many values of a breakdown are told.
pub(super) fn top(text: &str) -> Result<usize, KindError> {
    match text.parse() {
        Ok(top) if (1..=MAX_TOP).contains(&top) => Ok(top),
        _ => Err(KindError::Top),
    }
}

/// How many scrapes may be under way.
pub(super) fn max_requests(text: &str) -> Result<usize, KindError> {
    text.parse().map_err(|_| KindError::MaxRequests)
}

/// Where a file system is mounted. Without it every file would be absent, which is no failure, and
/// nobody would be told of a slip.
pub(super) fn directory(path: PathBuf) -> Result<PathBuf, KindError> {
    if path.is_dir() {
        Ok(path)
    } else {
        Err(KindError::Directory)
    }
}

/// A port that sockets can have: not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PinnedPort(u16);

impl PinnedPort {
    pub(super) const fn get(self) -> u16 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a port is a number from 1 to 65535")]
pub(super) struct PortError;

impl FromStr for PinnedPort {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match decimal_port(text) {
            None | Some(0) => Err(PortError),
            Some(port) => Ok(Self(port)),
        }
    }
}

/// Why a text names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DestinationError {
    #[error("write [SRC_ADDR,]DST_ADDR:DST_PORT or SRC_ADDR,DST_ADDR,DST_PORT")]
    Form,
    #[error("write an IPv6 address in brackets: [SRC_ADDR,][DST_ADDR]:DST_PORT")]
    NoBrackets,
    #[error("{part} {text:?} is not an IP address (host names are not looked up)")]
    BadAddress { part: Part, text: String },
    #[error("{part} {text:?} is a wildcard, which no connection has{}", .part.remedy())]
    Wildcard { part: Part, text: String },
    #[error("DST_PORT {text:?}: {source}")]
    BadPort { text: String, source: PortError },
}

/// Which address of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Src,
    Dst,
}

impl Part {
    const fn remedy(self) -> &'static str {
        match self {
            Self::Src => ": leave it out to mean any",
            Self::Dst => "",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Src => "SRC_ADDR",
            Self::Dst => "DST_ADDR",
        })
    }
}

/// `[SRC_ADDR,]DST_ADDR:DST_PORT`, or the labels' values in their order, separated by commas.
pub(super) fn pinned_destination(text: &str) -> Result<PinnedDestination, DestinationError> {
    let parts: Vec<&str> = text.split(',').collect();
    let (src, dst, port) = match parts.as_slice() {
        [dst_and_port] => {
            let (dst, port) = split_port(dst_and_port)?;
            (None, dst, port)
        }
        [src, dst_and_port] => {
            let (dst, port) = split_port(dst_and_port)?;
            (Some(*src), dst, port)
        }
        [src, dst, port] => (Some(*src), *dst, *port),
        _ => return Err(DestinationError::Form),
    };
    let PinnedPort(dst_port) = port.parse().map_err(|source| DestinationError::BadPort {
        text: port.to_owned(),
        source,
    })?;
    Ok(PinnedDestination {
        src_addr: src.map(|src| address(Part::Src, src)).transpose()?,
        dst_addr: address(Part::Dst, dst)?,
        dst_port,
    })
}

fn split_port(text: &str) -> Result<(&str, &str), DestinationError> {
    let (host, port) = text.rsplit_once(':').ok_or(DestinationError::Form)?;
    // `2001:db8::1:443` is an address as a whole, and none with a port.
    if host.contains(':') && !host.starts_with('[') {
        return Err(DestinationError::NoBrackets);
    }
    Ok((host, port))
}

fn address(part: Part, text: &str) -> Result<Address, DestinationError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.contains(':'))
        .unwrap_or(text);
    let address: Address = bare.parse().map_err(|_| DestinationError::BadAddress {
        part,
        text: text.to_owned(),
    })?;
    if address.is_wildcard() {
        return Err(DestinationError::Wildcard {
            part,
            text: text.to_owned(),
        });
    }
    Ok(address)
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
        use DestinationError as E;
        assert_eq!(pinned_destination(""), Err(E::Form));
        assert_eq!(pinned_destination("192.0.2.1"), Err(E::Form));
        assert_eq!(pinned_destination("a,b,c,d"), Err(E::Form));
        assert_eq!(pinned_destination("2001:db8::1:443"), Err(E::NoBrackets));
        for text in [
            "db.example:5432",
            ":80",
            "[192.0.2.1]:80",
            "[::1:80",
            ",1.2.3.4:5",
        ] {
            let error = pinned_destination(text);
            assert!(
                matches!(error, Err(E::BadAddress { .. })),
                "{text}: {error:?}"
            );
        }
        for text in ["0.0.0.0:80", "[::]:80", "0.0.0.0,192.0.2.1:80"] {
            let error = pinned_destination(text);
            assert!(matches!(error, Err(E::Wildcard { .. })), "{text}");
        }
        for text in [
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
        ] {
            let error = pinned_destination(text);
            assert!(matches!(error, Err(E::BadPort { .. })), "{text}");
        }
    }

    #[test]
    fn words_name_the_wrong_one_among_several() {
        assert_eq!(words::<PinnedPort>(" 1  2\n3 ").unwrap().0.len(), 3);
        let error = words::<PinnedPort>("1 x").unwrap_err().to_string();
        assert!(error.starts_with("\"x\": "), "{error}");
        let error = words::<PinnedPort>("x").unwrap_err().to_string();
        assert_eq!(error, PortError.to_string());
        assert!(matches!(words::<PinnedPort>("  "), Err(WordsError::Empty)));
    }
}
