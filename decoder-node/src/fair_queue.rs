//! Chooses the windows that take part in each decode step, fairly by principal (caller): a principal with many windows
//! does not delay one with few. A step computes one row for each block of a window.

use std::collections::HashMap;

use c3_node::batch::BatchBudget;
use c3_server::principal::Principal;

/// Rows computed for each principal that has windows. The counts of two principals differ by at most `shared_rows`, and
/// a new principal starts at the lowest count. No principal therefore accumulates credit while it is idle.
#[derive(Debug, Default)]
pub(crate) struct FairQueue(HashMap<Principal, usize>);

impl FairQueue {
    /// Returns, for each of `windows`, true if the window takes part in the next step. `windows` has the principal and
    /// the rows of each window, oldest first. If all windows have the same principal, all take part. Otherwise the
    /// chosen windows have at most `shared_rows` rows together, unless the first chosen window alone has more.
    pub(crate) fn choose(&mut self, windows: &[(Principal, usize)], shared_rows: usize) -> Vec<bool> {
        self.0.retain(|principal, _| windows.iter().any(|(other, _)| other == principal));
        let min = self.0.values().min().copied().unwrap_or(0);
        for (principal, _) in windows {
            self.0.entry(*principal).or_insert(min);
        }
        if self.0.len() < 2 {
            return vec![true; windows.len()];
        }
        let (mut budget, mut chosen) = (BatchBudget::new(shared_rows, 0), vec![false; windows.len()]);
        let next = |chosen: &[bool], given: &HashMap<Principal, usize>| {
            let left = (0..windows.len()).filter(|&window| !chosen[window]);
            left.min_by_key(|&window| (given[&windows[window].0], window))
        };
        while let Some(window) = next(&chosen, &self.0) {
            let (principal, rows) = windows[window];
            if !budget.take(rows) {
                break;
            }
            chosen[window] = true;
            *self.0.entry(principal).or_default() += rows;
        }
        let max = self.0.values().max().copied().unwrap_or(0);
        self.0.values_mut().for_each(|given| *given = (*given).max(max.saturating_sub(shared_rows)));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 32;
    const SHARED: usize = 64;
    const GREEDY: Principal = Principal(1);
    const STEADY: Principal = Principal(2);
    const THIRD: Principal = Principal(3);

    /// Returns the number of times that each principal's windows took part in `steps` steps.
    fn steps(queue: &mut FairQueue, windows: &[(Principal, usize)], steps: usize) -> HashMap<Principal, usize> {
        let mut counts = HashMap::new();
        for _ in 0..steps {
            for (&(principal, _), chosen) in windows.iter().zip(queue.choose(windows, SHARED)) {
                *counts.entry(principal).or_default() += usize::from(chosen);
            }
        }
        counts
    }

    #[test]
    fn a_single_principal_takes_all_rows_and_several_take_equal_shares() {
        let mut queue = FairQueue::default();
        let mut windows = vec![(GREEDY, ROWS); 10];
        assert_eq!(queue.choose(&windows, SHARED), [true; 10]);
        windows.push((STEADY, ROWS));
        // The rows of GREEDY while it was alone do not count against it.
        assert_eq!(steps(&mut queue, &windows, 20), [(GREEDY, 20), (STEADY, 20)].into());
        windows.push((THIRD, ROWS));
        let counts = steps(&mut queue, &windows, 30);
        assert!(counts.values().all(|&steps| steps == 20), "{counts:?}");
    }

    #[test]
    fn windows_that_all_fit_all_take_part_and_an_oversized_window_takes_part_too() {
        let mut queue = FairQueue::default();
        assert_eq!(queue.choose(&[(GREEDY, 40), (STEADY, 24)], SHARED), [true; 2]);
        let large = [(GREEDY, 9 * SHARED), (STEADY, ROWS)];
        let counts = steps(&mut queue, &large, 10);
        assert!(counts.values().all(|&steps| steps >= 3), "{counts:?}");
    }
}
