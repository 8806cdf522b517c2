//! How long the search for a free port can get.
//!
//! connect() tries the ports of one parity from a random place on, then those of the other
//! (`__inet_hash_connect` in net/ipv4/inet_hashtables.c), and finds each in two hash tables.

use super::capacity::PortPool;
use super::ports::PortSet;
use super::small_port_set::SmallPortSet;

/// How many ports in use connect() may have to examine for this destination: the longest run of them
/// of one parity, in the order in which it tries them; at the end of the range it goes on at the
/// beginning. Reserved, blocked and bind-owned ports, which it skips at little cost, neither
/// count nor end a run; a free or a reusable port ends it.
///
/// With `ip_local_port_step_width` (Linux >= 7.2) the order is a random one: any of them may come first.
pub(super) fn most_examined(pool: &PortPool, taken: &SmallPortSet) -> u32 {
    if pool.tries_at_random {
        return taken.len_within(&pool.usable);
    }
    let mut set = PortSet::new();
    taken.add_to(&mut set);
    let longest = |parity| longest_of_parity(parity, &set, &pool.usable);
    longest(0x5555_5555_5555_5555).max(longest(0xaaaa_aaaa_aaaa_aaaa))
}

/// Usable ports lie inside the range, so that their order in the set is that of the search. Words in
/// which all or none are taken, as most are, are not read bit by bit.
fn longest_of_parity(parity: u64, taken: &PortSet, usable: &PortSet) -> u32 {
    let words = taken.bits().iter().zip(usable.bits());
    let words = words.map(|(taken, usable)| (taken & usable & parity, usable & parity));
    let ports: u32 = words.clone().map(|(_, usable)| usable.count_ones()).sum();
    let (mut longest, mut current) = (0, 0);
    // Twice: at the end of the range the search goes on at its beginning.
    for (taken, usable) in words.clone().chain(words) {
        if taken == usable {
            current += usable.count_ones();
        } else if taken == 0 {
            current = 0;
        } else {
            let mut left = usable;
            while left != 0 {
                let port = left & left.wrapping_neg();
                current = if taken & port == 0 { 0 } else { current + 1 };
                longest = longest.max(current);
                left ^= port;
            }
        }
        longest = longest.max(current);
    }
    longest.min(ports)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::ports::PortRange;
    use crate::domain::settings::Settings;
    use crate::domain::snapshot::PortSets;

    fn examined(taken: &[u16], step_width: Option<i64>) -> u32 {
        let sets = PortSets {
            reserved: Some([104].into_iter().collect()),
            listening: [108].into_iter().collect(),
            ..PortSets::default()
        };
        let settings = Settings {
            port_range: PortRange::new(100, 119),
            ip_local_port_step_width: step_width,
            ..Settings::default()
        };
        let pool = PortPool::new(&settings, &sets).unwrap();
        let mut set = SmallPortSet::default();
        for port in taken {
            set.insert(*port);
        }
        most_examined(&pool, &set)
    }

    fn run(taken: &[u16]) -> u32 {
        examined(taken, None)
    }

    #[test]
    fn with_a_step_width_every_port_in_use_may_come_first() {
        let taken = [104, 108, 110, 111, 115];
        assert_eq!(examined(&taken, Some(0)), 1);
        assert_eq!(examined(&taken, Some(1_000)), 3);
    }

    #[test]
    fn no_port_in_use_is_no_run() {
        assert_eq!(run(&[]), 0);
    }

    #[test]
    fn parities_are_searched_separately() {
        assert_eq!(run(&[110, 111, 112, 113, 115]), 3);
    }

    #[test]
    fn reserved_and_blocked_ports_neither_count_nor_end_a_run() {
        assert_eq!(run(&[102, 106, 110]), 3);
    }

    #[test]
    fn the_search_continues_at_the_beginning_of_the_range() {
        assert_eq!(run(&[116, 118, 100, 102]), 4);
        assert_eq!(run(&[119, 101, 103]), 3);
    }

    #[test]
    fn with_all_of_one_parity_in_use_each_is_tried_once() {
        let odd: Vec<u16> = (101..120).step_by(2).collect();
        assert_eq!(run(&odd), 10);
    }
}
