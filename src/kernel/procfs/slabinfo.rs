//! The text of `/proc/slabinfo`, version 2.1, as slabinfo(5) describes it.
//!
//! Reads no file, and no cache but those of TIME-WAIT sockets. The kernel never merges them with
//! others (they are freed by RCU), but may have built none.

use super::error::Malformed;
use super::text::{numbered_lines, parse_unsigned};

/// What the names of the caches begin with: `tw_sock_TCP`, `tw_sock_TCPv6`, and on old kernels those
/// of memory control groups, `tw_sock_TCP(4:name)`.
const CACHE_PREFIX: &str = "tw_sock_";

const EXPECTED_COLUMNS: &str = "a cache of slabinfo 2.1";

/// The bytes that the slabs of TIME-WAIT sockets hold in all, used or not.
pub(super) fn parse(text: &str, page_size_bytes: u64) -> Result<Option<u64>, Malformed> {
    let mut time_wait_bytes: Option<u64> = None;
    for (number, line) in numbered_lines(text).filter(|(_, line)| line.starts_with(CACHE_PREFIX)) {
        let cache =
            Cache::parse(line).ok_or_else(|| Malformed::new(number, line, EXPECTED_COLUMNS))?;
        let sum = cache
            .bytes(page_size_bytes)
            .and_then(|bytes| bytes.checked_add(time_wait_bytes.unwrap_or(0)))
            .ok_or_else(|| Malformed::new(number, line, "a size that fits into 64 bits"))?;
        time_wait_bytes = Some(sum);
    }
    Ok(time_wait_bytes)
}

/// The columns of one cache that make up its size.
struct Cache {
    slabs: u64,
    pages_per_slab: u64,
}

impl Cache {
    /// `<name> <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
    /// <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let pages_per_slab = parse_unsigned(words.nth(5)?)?;
        // The two words on each side are checked, for a column more would shift all that follow.
        let is_marked = words.next()? == ":"
            && words.next()? == "tunables"
            && words.nth(3)? == ":"
            && words.next()? == "slabdata";
        let slabs = parse_unsigned(words.nth(1)?)?;
        is_marked.then_some(Self {
            slabs,
            pages_per_slab,
        })
    }

    fn bytes(&self, page_size_bytes: u64) -> Option<u64> {
        self.slabs
            .checked_mul(self.pages_per_slab)?
            .checked_mul(page_size_bytes)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 4_096;

    fn cache(name: &str, pages_per_slab: &str, slabs: &str) -> String {
        format!(
            "{name:<17} 32 32 256 16 {pages_per_slab} : tunables 0 0 0 : slabdata 1 {slabs} 0\n"
        )
    }

    #[test]
    fn the_caches_of_both_families_and_of_control_groups_are_added_up() {
        let text = "slabinfo - version: 2.1\n# name\n".to_owned()
            + &cache("TCP", "8", "1000")
            + &cache("tw_sock_TCPv6", "1", "2")
            + &cache("tw_sock_TCP", "2", "3")
            + &cache("tw_sock_TCP(4:web)", "1", "1");
        let memory = parse(&text, PAGE).unwrap();
        assert_eq!(memory, Some((2 + 6 + 1) * PAGE));
    }

    #[test]
    fn a_cache_without_slabs_holds_nothing_and_no_cache_is_unknown() {
        let empty = cache("tw_sock_TCP", "1", "0");
        assert_eq!(parse(&empty, PAGE).unwrap(), Some(0));
        let none = cache("TCP", "1", "1");
        assert_eq!(parse(&none, PAGE).unwrap(), None);
    }

    #[test]
    fn a_line_of_another_form_or_an_impossible_size_is_refused() {
        let huge = u64::MAX.to_string();
        for line in [
            "tw_sock_TCP 1 2\n".to_owned(),
            cache("tw_sock_TCP", "-1", "1"),
            cache("tw_sock_TCP", "1", "x"),
            cache("tw_sock_TCP 7", "1", "1"),
            cache("tw_sock_TCP", &huge, "2"),
            cache("tw_sock_TCP", "1", &huge),
        ] {
            let error = parse(&format!("\n{line}"), PAGE).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.text.as_str().starts_with("tw_sock_TCP"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,80}",
            shaped in "tw_sock_(( |:|tunables|slabdata|[0-9]{1,22}) ){0,17}",
            page_size: u64,
        ) {
            let _ = parse(&text, page_size);
            let _ = parse(&shaped, page_size);
        }
    }
}
