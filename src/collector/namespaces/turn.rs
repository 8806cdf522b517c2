//! Whose turn it is to be walked, where there is not time for all.

/// When a namespace is to be walked: the lowest first.
///
/// It is the number of its last walk among all walks. One that was cut off by the deadline keeps the turn it had, so
/// that it is among the first of the next run; but not if it had the time of a whole run, or it would take
/// all others' turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

impl Turn {
    /// After the walk with this number.
    pub(super) const fn after_walk(self, walk: u64, was_first: bool, was_cut_off: bool) -> Self {
        if was_cut_off && !was_first {
            self
        } else {
            Self(walk)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each was read in 60 runs, given how long each takes and what time a run has.
    fn read(costs: &[u32], time: u32) -> Vec<u32> {
        let mut turns: Vec<(Turn, usize)> =
            (0..costs.len()).map(|n| (Turn::default(), n)).collect();
        let mut times = vec![0; costs.len()];
        let mut walks = 0;
        for _run in 0..60 {
            turns.sort_unstable();
            let mut left = time;
            for (place, (turn, index)) in turns.iter_mut().enumerate() {
                if left == 0 {
                    break;
                }
                let cost = costs.get(*index).copied().unwrap_or_default();
                let is_cut_off = cost > left;
                left = left.saturating_sub(cost);
                walks += 1;
                *turn = turn.after_walk(walks, place == 0, is_cut_off);
                if let Some(times) = times.get_mut(*index) {
                    *times += u32::from(!is_cut_off);
                }
            }
        }
        times
    }

    #[test]
    fn each_is_read_as_often_as_any_other_wherever_the_deadline_falls() {
        for time in 10..=60 {
            let times = read(&[10; 6], time);
            let (least, most) = (times.iter().min(), times.iter().max());
            assert!(
                most.zip(least)
                    .is_some_and(|(most, least)| most - least <= 1),
                "{time}: {times:?}"
            );
        }
    }

    #[test]
    fn one_that_takes_longer_than_there_is_takes_no_other_turns() {
        for time in [15, 25, 39] {
            let times = read(&[10, 40, 10, 10], time);
            let others = [0, 2, 3].map(|index| times.get(index).copied().unwrap_or_default());
            assert!(others.iter().all(|times| *times >= 15), "{time}: {times:?}");
        }
    }
}
