//! `/proc/net/sockstat` and `sockstat6`: how many sockets there are.

use super::ProcRoot;
use super::error::{Malformed, ReadError};
use super::if_there;
use super::text::{count, numbered_lines, words};
use crate::domain::snapshot::Counts;

/// What the line begins with, the name on it, and the name among the counts.
const WANTED: [(&str, &str, &str); 7] = [
    ("TCP:", "inuse", "inuse"),
    ("TCP:", "orphan", "orphan"),
    ("TCP:", "tw", "tw"),
    ("TCP6:", "inuse", "inuse"),
    ("sockets:", "used", "used"),
    ("UDP:", "inuse", "UDP inuse"),
    ("UDP6:", "inuse", "UDP inuse"),
];

impl ProcRoot {
    /// The TCP line of `net/sockstat`, with the sockets of `net/sockstat6` (absent where IPv6 is
    /// off) added to `inuse`, and `used` of all sockets.
    ///
    /// # Errors
    /// `net/sockstat` cannot be read, or one of the files not understood.
    pub fn read_socket_statistics(&self) -> Result<Counts, ReadError> {
        let mut counts = Counts::default();
        let read = |name, counts: &mut Counts| self.network.parse(name, |text| add(counts, text));
        read("sockstat", &mut counts)?;
        // Without a socket of any kind there is none of IPv6 either. (Linux < 4.17 counts those of all
        // namespaces.)
        if counts.get("used") != Some(0) {
            if_there(read("sockstat6", &mut counts))?;
        }
        Ok(counts)
    }
}

/// Adds what the text of one of the two files says of TCP, UDP and all sockets: on each line a protocol,
/// then names and values in turns, as `sockstat_seq_show` in net/ipv4/proc.c prints them. `inuse` of sockstat is that
/// of IPv4 sockets alone, `UDP inuse` that of sockets with a local port.
fn add(counts: &mut Counts, text: &str) -> Result<(), Malformed> {
    for (number, line) in numbered_lines(text) {
        let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
        let wanted = WANTED.iter().filter(|(of, ..)| *of == protocol);
        for (_, name, known_as) in wanted {
            for pair in words(rest).chunks(2) {
                match pair {
                    // Another value may be anything (`mem` is signed).
                    [word, value] if word == name => {
                        counts.add(known_as, count(number, value, 10)?);
                    }
                    [_, _] | [] => {}
                    [word, ..] => return Err(Malformed::new(number, word, "a name and its value")),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{fs, io};

    use proptest::prelude::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::tests::{KERNELS, fixture, tree};
    use super::*;

    fn parsed(text: &str) -> Result<Counts, Malformed> {
        let mut counts = Counts::default();
        add(&mut counts, text)?;
        Ok(counts)
    }

    #[test]
    fn socket_counts_are_found_by_name_and_those_of_other_names_may_be_anything() {
        let text =
            "sockets: used 12\nUDP: inuse 9 mem 0\nFRAG: x\nTCP: mem -3 tw 7 new x inuse 5\n";
        let expected = [("used", 12), ("UDP inuse", 9), ("inuse", 5), ("tw", 7)];
        assert!(parsed(text).unwrap().iter().eq(expected));
        let v6 = parsed("TCP6: inuse 3\nUDP6: inuse 1\n").unwrap();
        assert!(v6.iter().eq([("inuse", 3), ("UDP inuse", 1)]));
        assert_eq!(parsed("RAW: inuse 3\n").unwrap(), Counts::default());
    }

    #[test]
    fn a_line_that_is_cut_or_has_no_count_is_refused() {
        for (text, offending) in [
            ("\nTCP: inuse\n", "inuse"),
            ("\nTCP: inuse -1\n", "-1"),
            ("\nTCP: tw 1x\n", "1x"),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!((error.line, &*error.text), (2, offending));
        }
    }

    #[test]
    fn sockets_in_use_are_those_of_both_families() {
        for kernel in KERNELS {
            let statistics = fixture(kernel).read_socket_statistics().unwrap();
            assert_eq!(statistics.get("inuse"), Some(14 + 6), "{kernel}");
            assert_eq!(statistics.get("orphan"), Some(4), "{kernel}");
            assert_eq!(statistics.get("tw"), Some(21), "{kernel}");
        }
        let (_directory, root) = tree(&[("net/sockstat", b"TCP: inuse 3 orphan 0 tw 0\n")]);
        assert_eq!(root.read_socket_statistics().unwrap().get("inuse"), Some(3));
    }

    #[test]
    fn sockets_that_cannot_be_counted_are_an_error() {
        let (directory, root) = tree(&[("net/other", b"")]);
        let error = root.read_socket_statistics().unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
        let path = directory.path().join("net/sockstat");
        assert_eq!(error.path, path);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = root.read_socket_statistics().unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "TCP: inuse 3\n").unwrap();
        fs::write(directory.path().join("net/sockstat6"), "TCP6: inuse x\n").unwrap();
        root.read_socket_statistics().unwrap_err();
    }

    #[test]
    fn the_real_counts_of_this_host_are_understood() {
        let statistics = ProcRoot::new("/proc").read_socket_statistics().unwrap();
        assert!(statistics.get("inuse").is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "(TCP6?:( ?(inuse|tw|[0-9]{1,22}|-))*\n){0,3}",
        ) {
            let _ = parsed(&text);
            let _ = parsed(&shaped);
        }
    }
}
