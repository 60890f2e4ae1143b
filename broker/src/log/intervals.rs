//! A set of queue positions, small however many there are as long as they are neighbours.

use std::collections::BTreeMap;

/// A set of positions as disjoint ranges.
#[derive(Default)]
pub(crate) struct Intervals {
    /// First position to last position.
    ranges: BTreeMap<u64, u64>,
}

impl Intervals {
    pub(crate) fn insert(&mut self, mut from: u64, mut to: u64) {
        if to < from {
            return;
        }
        // Take in every range that touches the new one.
        while let Some((&first, &last)) = self.ranges.range(..=to.saturating_add(1)).next_back() {
            if last.saturating_add(1) < from {
                break;
            }
            self.ranges.remove(&first);
            from = from.min(first);
            to = to.max(last);
        }
        self.ranges.insert(from, to);
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        self.ranges.range(..=position).next_back().is_some_and(|(_, last)| *last >= position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_join_when_they_touch_or_overlap() {
        let mut set = Intervals::default();
        for (from, to) in [(10, 20), (30, 40), (22, 28), (21, 21), (1, 1), (5, 3)] {
            set.insert(from, to);
        }
        assert_eq!(set.ranges.into_iter().collect::<Vec<_>>(), [(1, 1), (10, 28), (30, 40)]);
        let mut set = Intervals::default();
        set.insert(2, 4);
        set.insert(6, 8);
        set.insert(1, 9);
        assert!(
            !set.contains(0) && set.contains(1) && set.contains(5) && set.contains(9) && !set.contains(10)
        );
    }
}
