//! Which windows take part in a step where several callers have some: all while they fit, else by turns, so that a caller
//! with few windows does not wait for those of one with many.

use std::collections::HashMap;

use c3_node::queue::Room;
use c3_server::caller::Caller;

/// Rows that each caller had, counted so that nobody is further behind than one step: who had nothing to do has no claim
/// to what others had then.
#[derive(Debug, Default)]
pub(crate) struct Turns(HashMap<Caller, usize>);

impl Turns {
    /// Which windows take part in the next step, of windows of these callers and rows, oldest first. Windows of several
    /// callers share `shared_rows`; those of one alone all take part.
    pub(crate) fn next(&mut self, windows: &[(Caller, usize)], shared_rows: usize) -> Vec<bool> {
        self.0.retain(|caller, _| windows.iter().any(|(other, _)| other == caller));
        let least = self.0.values().min().copied().unwrap_or(0);
        for (caller, _) in windows {
            self.0.entry(*caller).or_insert(least);
        }
        if self.0.len() < 2 {
            return vec![true; windows.len()];
        }
        let (mut room, mut chosen) = (Room::new(shared_rows, 0), vec![false; windows.len()]);
        let next = |chosen: &[bool], had: &HashMap<Caller, usize>| {
            let left = (0..windows.len()).filter(|&window| !chosen[window]);
            left.min_by_key(|&window| (had[&windows[window].0], window))
        };
        while let Some(window) = next(&chosen, &self.0) {
            let (caller, rows) = windows[window];
            if !room.fits(rows) {
                break;
            }
            chosen[window] = true;
            *self.0.entry(caller).or_default() += rows;
        }
        let most = self.0.values().max().copied().unwrap_or(0);
        self.0.values_mut().for_each(|had| *had = (*had).max(most.saturating_sub(shared_rows)));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 32;
    const SHARED: usize = 64;
    const GREEDY: Caller = Caller(1);
    const STEADY: Caller = Caller(2);
    const THIRD: Caller = Caller(3);

    /// Steps in which each caller's windows took part, of so many steps.
    fn steps(turns: &mut Turns, windows: &[(Caller, usize)], steps: usize) -> HashMap<Caller, usize> {
        let mut had = HashMap::new();
        for _ in 0..steps {
            for (&(caller, _), chosen) in windows.iter().zip(turns.next(windows, SHARED)) {
                *had.entry(caller).or_default() += usize::from(chosen);
            }
        }
        had
    }

    #[test]
    fn one_caller_alone_has_all_and_two_have_the_same() {
        let mut turns = Turns::default();
        let mut windows = vec![(GREEDY, ROWS); 10];
        assert_eq!(turns.next(&windows, SHARED), [true; 10]);
        windows.push((STEADY, ROWS));
        // What it had while it was alone does not count against it.
        assert_eq!(steps(&mut turns, &windows, 20), [(GREEDY, 20), (STEADY, 20)].into());
        windows.push((THIRD, ROWS));
        let had = steps(&mut turns, &windows, 30);
        assert!(had.values().all(|&steps| steps == 20), "{had:?}");
    }

    #[test]
    fn all_take_part_where_all_fit_and_the_largest_takes_part_too() {
        let mut turns = Turns::default();
        assert_eq!(turns.next(&[(GREEDY, 40), (STEADY, 24)], SHARED), [true; 2]);
        let large = [(GREEDY, 9 * SHARED), (STEADY, ROWS)];
        let had = steps(&mut turns, &large, 10);
        assert!(had.values().all(|&steps| steps >= 3), "{had:?}");
    }
}
