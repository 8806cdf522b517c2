//! How long the search for a free port can get.
//!
//! connect() tries the ports of one parity from a random place on, then those of the other
//! (`__inet_hash_connect` in net/ipv4/inet_hashtables.c), and looks each up in two hash tables.

use super::capacity::PortPool;
use super::ports::PortSet;
use super::small_port_set::SmallPortSet;

/// The longest run of taken ports of one parity, in the order in which connect() tries them: at the
/// end of the range it goes on at the beginning. Reserved and blocked ports, which it passes over at
/// little cost, neither count nor end a run; a free or a reusable port ends it.
pub(super) fn longest_run(pool: &PortPool, taken: &SmallPortSet) -> u32 {
    let mut set = PortSet::new();
    taken.add_to(&mut set);
    [0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa]
        .into_iter()
        .map(|parity| longest_of_parity(parity, &set, &pool.usable))
        .max()
        .unwrap_or(0)
}

/// Usable ports lie inside the range, so that their order in the set is that of the search. Words in
/// which all or none are taken, as most are, are not looked at bit by bit.
fn longest_of_parity(parity: u64, taken: &PortSet, usable: &PortSet) -> u32 {
    let mut runs = Runs::default();
    for (taken, usable) in taken.words().zip(usable.words()) {
        let usable = usable & parity;
        let taken = taken & usable;
        if taken == usable {
            runs.go_on(usable.count_ones());
        } else if taken == 0 {
            runs.end();
        } else {
            let mut left = usable;
            while left != 0 {
                let port = left & left.wrapping_neg();
                if taken & port == 0 {
                    runs.end();
                } else {
                    runs.go_on(1);
                }
                left ^= port;
            }
        }
    }
    runs.longest()
}

/// Runs of taken ports in a ring.
#[derive(Debug, Default)]
struct Runs {
    longest: u32,
    current: u32,
    /// The one at the beginning, once it has ended.
    first: Option<u32>,
}

impl Runs {
    fn go_on(&mut self, ports: u32) {
        self.current += ports;
        self.longest = self.longest.max(self.current);
    }

    fn end(&mut self) {
        self.first.get_or_insert(self.current);
        self.current = 0;
    }

    /// The run at the end goes on with the one at the beginning, unless there was no end.
    fn longest(&self) -> u32 {
        self.longest.max(self.current + self.first.unwrap_or(0))
    }
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
        let mut held = SmallPortSet::default();
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
