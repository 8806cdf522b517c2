//! How long the search for a free port can get.
//!
//! connect() tries the ports of one parity from a random place on, then those of the other
//! (`__inet_hash_connect` in net/ipv4/inet_hashtables.c), and looks each up in two hash tables.

use super::capacity::PortPool;
use super::held_ports::HeldPortSet;
use super::ports::PortSet;

/// The longest run of taken ports of one parity, in the order in which connect() tries them: at the
/// end of the range it goes on at the beginning. Reserved and blocked ports, which it passes over at
/// little cost, neither count nor end a run; a free or a reusable port ends it.
pub(super) fn longest_run(pool: &PortPool, taken: &HeldPortSet) -> u32 {
    let mut set = PortSet::new();
    taken.add_to(&mut set);
    let (min, max) = (pool.range.min(), pool.range.max());
    [min, min.saturating_add(1)]
        .into_iter()
        .map(|first| longest_of_parity((first..=max).step_by(2), &set, &pool.usable))
        .max()
        .unwrap_or(0)
}

fn longest_of_parity(ports: impl Iterator<Item = u16>, taken: &PortSet, usable: &PortSet) -> u32 {
    let (mut longest, mut run, mut first_run) = (0, 0, None);
    for port in ports.filter(|port| usable.contains(*port)) {
        if taken.contains(port) {
            run += 1;
            longest = longest.max(run);
        } else {
            first_run.get_or_insert(run);
            run = 0;
        }
    }
    // The run at the end goes on with the one at the beginning, unless there was no end.
    longest.max(run + first_run.unwrap_or(0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::ports::PortRange;
    use crate::domain::socket::PortOwner;

    fn run(taken: &[u16]) -> u32 {
        let reserved: PortSet = [104].into_iter().collect();
        let addr = "::1".parse().unwrap();
        let owners = [PortOwner {
            addr,
            port: 108,
            listening: true,
            v6_only: false,
        }];
        let range = PortRange::new(100, 119).unwrap();
        let pool = PortPool::new(range, Some(&reserved), &owners);
        let mut held = HeldPortSet::default();
        for port in taken {
            held.insert(*port);
        }
        longest_run(&pool, &held)
    }

    #[test]
    fn nothing_taken_is_no_run() {
        assert_eq!(run(&[]), 0);
    }

    #[test]
    fn parities_are_searched_apart() {
        assert_eq!(run(&[110, 111, 112, 113, 115]), 3);
    }

    #[test]
    fn reserved_and_blocked_ports_neither_count_nor_end_a_run() {
        assert_eq!(run(&[102, 106, 110]), 3);
    }

    #[test]
    fn the_search_goes_on_at_the_beginning_of_the_range() {
        assert_eq!(run(&[116, 118, 100, 102]), 4);
        assert_eq!(run(&[119, 101, 103]), 3);
    }

    #[test]
    fn with_all_of_one_parity_taken_each_is_tried_once() {
        let odd: Vec<u16> = (101..120).step_by(2).collect();
        assert_eq!(run(&odd), 10);
    }
}
