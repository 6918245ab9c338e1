//! Autoscaler that knows the future: a lower bound for the replicas that a rule needs.

use std::time::Duration;

use super::{Day, START, STEP, STEPS, Stage};
use crate::rule::Rule;

/// Share of the time in which the oracle's nodes compute. Above it, queues grow long with random arrivals.
const UTILISATION: f64 = 0.9;

/// Time over which the load is averaged.
const SMOOTHING: Duration = Duration::from_secs(60);

/// Returns the fewest replicas, for each minute of the day, whose utilisation is at most 90 %: the highest load
/// (average of the following minute) until a pod that starts now is ready, divided by 0.9 and rounded up, within the
/// range of the rule.
///
/// The oracle does not know of the zone outage and pays for no pod that drains, so no rule can fall below it while it
/// keeps the same utilisation.
pub fn schedule(day: &Day, stage: Stage, rule: &Rule) -> Vec<usize> {
    let seconds = STEP.as_secs_f64();
    let window = (SMOOTHING.as_secs_f64() / seconds) as usize;
    let ahead = (START.as_secs_f64() / seconds) as usize;
    let arrivals = day.arrivals(stage);
    let mut sum = arrivals[..window].iter().sum::<f64>();
    // The load of a step is the average of the minute that starts there.
    let mut loads = vec![sum / SMOOTHING.as_secs_f64()];
    for step in window..STEPS {
        sum += arrivals[step] - arrivals[step - window];
        loads.push(sum / SMOOTHING.as_secs_f64());
    }
    let minute = |start: usize| {
        let end = (start + ahead).min(loads.len());
        let highest = loads[start.min(end - 1)..end].iter().copied().fold(0.0, f64::max);
        ((highest / UTILISATION).ceil() as usize).clamp(rule.min_replicas, rule.max_replicas)
    };
    (0..STEPS).step_by(window).map(minute).collect()
}
