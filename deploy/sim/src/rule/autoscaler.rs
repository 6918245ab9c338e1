//! Applies a rule: one [`Autoscaler`] stands for the HPA and KEDA's metrics adapter of one ScaledObject.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Behavior, Change, Rule, SelectPolicy};

/// State of the autoscaler of one ScaledObject.
///
/// The caller asks once per sync period ([`super::SYNC_PERIOD`]) and applies the answer at once.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    rule: Rule,
    triggers: Vec<TriggerState>,
    /// Recommendations within the longest stabilization window, before the limits of rate and range.
    recommendations: VecDeque<(Duration, usize)>,
    /// Replicas added (positive) or removed (negative) within the longest period of the policies.
    changes: VecDeque<(Duration, i64)>,
}

/// Reading of one trigger by KEDA.
#[derive(Clone, Debug, Default)]
struct TriggerState {
    failures: u32,
    /// Time of the last query and its result. Only used if the trigger is cached.
    cached: Option<(Duration, Option<f64>)>,
}

impl Autoscaler {
    /// Creates an autoscaler without history.
    pub fn new(rule: Rule) -> Self {
        let triggers = vec![TriggerState::default(); rule.triggers.len()];
        Self { rule, triggers, recommendations: VecDeque::new(), changes: VecDeque::new() }
    }

    /// Returns the rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Returns the number of replicas that the HPA sets at this sync. Equals `current` if nothing changes.
    ///
    /// `now` is the time since any fixed moment and never goes back. `current` is the number of replicas that the
    /// Deployment requests, including replicas that still start. `totals` has the result of each trigger's query, in
    /// the order of the rule, or `None` if the query failed. Values that are not finite or negative count as failures.
    ///
    /// # Panics
    ///
    /// Panics if `totals` does not have one element for each trigger.
    pub fn recommend(&mut self, now: Duration, current: usize, totals: &[Option<f64>]) -> usize {
        assert_eq!(totals.len(), self.rule.triggers.len(), "one total for each trigger");
        let desired = match current {
            // A Deployment of size 0 turns the HPA off.
            0 => return 0,
            // Outside of the range, metrics do not matter and policies do not apply.
            _ if current > self.rule.max_replicas => self.rule.max_replicas,
            _ if current < self.rule.min_replicas => self.rule.min_replicas,
            _ => {
                let Some(desired) = self.desired(now, current, totals) else { return current };
                let stable = self.stabilize(now, current, desired);
                self.limit(now, current, stable)
            }
        };
        self.record_change(now, desired as i64 - current as i64);
        desired
    }

    /// Returns the replicas that the metrics ask for, or `None` if failed triggers forbid a decision: if all fail, or
    /// if some fail and the others would scale down.
    fn desired(&mut self, now: Duration, current: usize, totals: &[Option<f64>]) -> Option<usize> {
        let mut most = None::<usize>;
        let mut failed = false;
        for (index, total) in totals.iter().enumerate() {
            match self.read(now, current, index, *total) {
                Some(total) => most = most.max(Some(self.proportional(current, index, total))),
                None => failed = true,
            }
        }
        most.filter(|most| !failed || *most >= current)
    }

    /// Returns the value that KEDA reports to the HPA for a trigger: the result of its query or the cached one, or the
    /// fallback after too many failures. `None` is an error.
    fn read(&mut self, now: Duration, current: usize, index: usize, total: Option<f64>) -> Option<f64> {
        let (trigger, state) = (&self.rule.triggers[index], &mut self.triggers[index]);
        let mut total = total.filter(|total| total.is_finite() && *total >= 0.0);
        if trigger.cached {
            match state.cached {
                Some((at, cached)) if now.saturating_sub(at) < self.rule.polling_interval => total = cached,
                _ => state.cached = Some((now, total)),
            }
        }
        if total.is_some() {
            state.failures = 0;
            return total;
        }
        state.failures = state.failures.saturating_add(1);
        let fallback = self.rule.fallback.filter(|fallback| state.failures > fallback.failure_threshold)?;
        // KEDA converts the threshold to an integer here, so thresholds below 1 yield 0.
        Some(trigger.threshold.trunc() * fallback.requested(current) as f64)
    }

    /// Returns ceil(total / threshold), or `current` if the ratio of usage is within the tolerance.
    fn proportional(&self, current: usize, index: usize, total: f64) -> usize {
        // Kubernetes computes with thousandths.
        let total = (total * 1000.0).trunc();
        let threshold = (self.rule.triggers[index].threshold * 1000.0).round();
        let ratio = total / (threshold * current as f64);
        if (1.0 - self.rule.scale_down.tolerance..=1.0 + self.rule.scale_up.tolerance).contains(&ratio) {
            return current;
        }
        (total / threshold).ceil() as usize
    }

    /// Moves `current` only as far towards `desired` as every recommendation within the stabilization window of that
    /// direction agrees.
    fn stabilize(&mut self, now: Duration, current: usize, desired: usize) -> usize {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
        let (up, down) = (self.rule.scale_up.stabilization_window, self.rule.scale_down.stabilization_window);
        let within = |window: Duration| {
            let recent = self.recommendations.iter().filter(move |(at, _)| now.saturating_sub(*at) < window);
            recent.map(|(_, recommendation)| *recommendation)
        };
        let lowest = within(up).fold(desired, usize::min);
        let highest = within(down).fold(desired, usize::max);
        self.recommendations.push_back((now, desired));
        while self.recommendations.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= up.max(down)) {
            self.recommendations.pop_front();
        }
        // `lowest <= desired <= highest`, so the order of the comparisons does not matter.
        current.max(lowest).min(highest)
    }

    /// Applies the policies and the range of the rule.
    fn limit(&self, now: Duration, current: usize, desired: usize) -> usize {
        let Rule { min_replicas, max_replicas, scale_up, scale_down, .. } = &self.rule;
        if desired > current {
            let limits = self.limits(now, current, scale_up, |start, change| match change {
                Change::Pods(pods) => start + i64::from(pods),
                Change::Percent(percent) => (start * (100 + i64::from(percent)) + 99) / 100,
            });
            let limit = match scale_up.select {
                SelectPolicy::Max => limits.max(),
                SelectPolicy::Min => limits.min(),
                SelectPolicy::Disabled => None,
            };
            return desired.min(limit.unwrap_or(0).max(current)).min(*max_replicas);
        }
        if desired < current {
            let limits = self.limits(now, current, scale_down, |start, change| match change {
                Change::Pods(pods) => start - i64::from(pods),
                Change::Percent(percent) => start * (100 - i64::from(percent)) / 100,
            });
            let limit = match scale_down.select {
                SelectPolicy::Max => limits.min(),
                SelectPolicy::Min => limits.max(),
                SelectPolicy::Disabled => None,
            };
            return desired.max(limit.unwrap_or(current).min(current)).max(*min_replicas);
        }
        desired
    }

    /// Returns the farthest number of replicas that each policy permits. `farthest` computes it from the replicas at
    /// the start of the policy's period.
    fn limits<'a>(
        &'a self,
        now: Duration,
        current: usize,
        behavior: &'a Behavior,
        farthest: impl Fn(i64, Change) -> i64 + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        behavior.policies.iter().map(move |policy| {
            let recent = self.changes.iter().filter(|(at, _)| now.saturating_sub(*at) < policy.period);
            let start = current as i64 - recent.map(|(_, change)| *change).sum::<i64>();
            farthest(start, policy.change).max(0) as usize
        })
    }

    fn record_change(&mut self, now: Duration, change: i64) {
        let policies = self.rule.scale_up.policies.iter().chain(&self.rule.scale_down.policies);
        let longest = policies.map(|policy| policy.period).max().unwrap_or_default();
        while self.changes.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= longest) {
            self.changes.pop_front();
        }
        if change != 0 {
            self.changes.push_back((now, change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Fallback, FallbackBehavior, Policy, SYNC_PERIOD, TOLERANCE, Trigger};

    fn behavior(window: u64, policies: &[(Change, u64)]) -> Behavior {
        let policy =
            |(change, period): &(Change, u64)| Policy { change: *change, period: Duration::from_secs(*period) };
        Behavior {
            stabilization_window: Duration::from_secs(window),
            select: SelectPolicy::Max,
            policies: policies.iter().map(policy).collect(),
            tolerance: TOLERANCE,
        }
    }

    /// A rule with one trigger for each threshold, the default policies and no stabilization.
    fn rule(thresholds: &[f64]) -> Rule {
        let trigger = |threshold: &f64| Trigger { query: String::new(), threshold: *threshold, cached: false };
        Rule {
            name: "test".to_owned(),
            min_replicas: 1,
            max_replicas: 1000,
            polling_interval: Duration::from_secs(60),
            triggers: thresholds.iter().map(trigger).collect(),
            scale_up: behavior(0, &[(Change::Percent(100), 15), (Change::Pods(4), 15)]),
            scale_down: behavior(0, &[(Change::Percent(100), 15)]),
            fallback: None,
        }
    }

    /// Runs one sync for each element of `totals` and returns the replicas after each.
    fn run(rule: Rule, start: usize, totals: &[Option<f64>]) -> Vec<usize> {
        let mut autoscaler = Autoscaler::new(rule);
        let mut current = start;
        let sync = |(tick, total): (usize, &Option<f64>)| {
            current = autoscaler.recommend(SYNC_PERIOD * tick as u32, current, &[*total]);
            current
        };
        totals.iter().enumerate().map(sync).collect()
    }

    #[test]
    fn the_ratio_of_usage_and_target_scales_the_replicas() {
        // "If the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled"
        assert_eq!(run(rule(&[0.1]), 4, &[Some(0.2 * 4.0)]), [8]);
        // "If the current value is instead 50m, you'll halve the number of replicas"
        assert_eq!(run(rule(&[0.1]), 4, &[Some(0.05 * 4.0)]), [2]);
    }

    #[test]
    fn a_ratio_within_the_tolerance_keeps_the_replicas() {
        for (ratio, expected) in [(0.9, 10), (1.0, 10), (1.1, 10), (0.89, 9), (1.11, 12)] {
            assert_eq!(run(rule(&[15.0]), 10, &[Some(ratio * 150.0)]), [expected], "{ratio}");
        }
    }

    #[test]
    fn totals_are_compared_in_thousandths() {
        // 2.1 / 0.7 is a little above 3 in floating point.
        assert_eq!(run(rule(&[0.7]), 1, &[Some(2.1)]), [3]);
    }

    #[test]
    fn the_trigger_that_needs_most_replicas_decides() {
        let mut autoscaler = Autoscaler::new(rule(&[15.0, 0.7]));
        assert_eq!(autoscaler.recommend(Duration::ZERO, 4, &[Some(15.0), Some(4.2)]), 6);
        assert_eq!(autoscaler.recommend(SYNC_PERIOD, 6, &[Some(150.0), Some(4.2)]), 10);
    }

    #[test]
    fn scaling_down_from_80_replicas_follows_the_example_of_the_documentation() {
        // At most 4 pods or 10 % per minute: "if there are 80 replicas and the target has to be scaled down to 10
        // replicas then during the first step 8 replicas will be reduced. In the next iteration when the number of
        // replicas is 72, 10% of the pods is 7.2 but the number is rounded up to 8."
        let mut rule = rule(&[1.0]);
        rule.scale_down = behavior(0, &[(Change::Pods(4), 60), (Change::Percent(10), 60)]);
        let replicas = run(rule, 80, &[Some(10.0); 4 * 14]);
        let minutes = Vec::from_iter(replicas.chunks(4).map(|minute| {
            assert!(minute.iter().all(|replicas| *replicas == minute[0]), "a second step within a minute: {minute:?}");
            minute[0]
        }));
        assert_eq!(minutes, [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10]);
    }

    #[test]
    fn the_policy_of_the_smallest_change_decides_with_min_and_none_with_disabled() {
        let mut rule = rule(&[1.0]);
        rule.scale_down = behavior(0, &[(Change::Percent(10), 60), (Change::Pods(5), 60)]);
        rule.scale_down.select = SelectPolicy::Min;
        assert_eq!(run(rule.clone(), 80, &[Some(10.0)]), [75]);
        assert_eq!(run(rule.clone(), 20, &[Some(10.0)]), [18]);
        rule.scale_down.select = SelectPolicy::Disabled;
        assert_eq!(run(rule.clone(), 80, &[Some(10.0)]), [80]);
        rule.scale_up.select = SelectPolicy::Disabled;
        assert_eq!(run(rule, 80, &[Some(200.0)]), [80]);
    }

    #[test]
    fn default_policies_add_4_pods_or_double_in_each_sync() {
        assert_eq!(run(rule(&[1.0]), 1, &[Some(100.0); 6]), [5, 10, 20, 40, 80, 100]);
    }

    #[test]
    fn the_highest_recommendation_of_the_window_delays_scaling_down() {
        let mut rule = rule(&[1.0]);
        rule.scale_down.stabilization_window = Duration::from_secs(60);
        // The first recommendation is the number of replicas at the start.
        let totals = [8.0, 8.0, 4.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0].map(Some);
        assert_eq!(run(rule, 8, &totals), [8, 8, 8, 8, 8, 6, 6, 4, 4]);
    }

    #[test]
    fn the_lowest_recommendation_of_the_window_delays_scaling_up() {
        let mut rule = rule(&[1.0]);
        rule.scale_up.stabilization_window = Duration::from_secs(30);
        let totals = [2.0, 6.0, 5.0, 6.0].map(Some);
        assert_eq!(run(rule, 2, &totals), [2, 2, 5, 5]);
    }

    #[test]
    fn limits_of_the_rule_hold_at_once() {
        let mut rule = rule(&[1.0]);
        (rule.min_replicas, rule.max_replicas) = (3, 10);
        assert_eq!(run(rule.clone(), 4, &[Some(0.0)]), [3]);
        assert_eq!(run(rule.clone(), 9, &[Some(50.0)]), [10]);
        assert_eq!(run(rule.clone(), 1, &[Some(0.0)]), [3]);
        assert_eq!(run(rule.clone(), 20, &[Some(50.0)]), [10]);
        assert_eq!(run(rule, 0, &[Some(50.0)]), [0]);
    }

    #[test]
    fn replicas_do_not_fall_while_a_trigger_fails() {
        let mut autoscaler = Autoscaler::new(rule(&[1.0, 1.0]));
        assert_eq!(autoscaler.recommend(Duration::ZERO, 4, &[None, Some(2.0)]), 4);
        assert_eq!(autoscaler.recommend(SYNC_PERIOD, 4, &[None, Some(6.0)]), 6);
        assert_eq!(autoscaler.recommend(SYNC_PERIOD * 2, 6, &[None, Some(f64::NAN)]), 6);
        assert_eq!(autoscaler.recommend(SYNC_PERIOD * 3, 6, &[Some(2.0), Some(2.0)]), 2);
    }

    #[test]
    fn the_fallback_replaces_a_trigger_after_too_many_failures() {
        let mut rule = rule(&[2.0]);
        rule.fallback = Some(Fallback { failure_threshold: 2, replicas: 6, behavior: FallbackBehavior::Static });
        assert_eq!(run(rule.clone(), 9, &[None, None, None, Some(18.0), None]), [9, 9, 6, 9, 9]);
        let fallback = |behavior| Some(Fallback { failure_threshold: 0, replicas: 6, behavior });
        rule.fallback = fallback(FallbackBehavior::CurrentReplicasIfHigher);
        assert_eq!((run(rule.clone(), 9, &[None]), run(rule.clone(), 4, &[None])), (vec![9], vec![6]));
        rule.fallback = fallback(FallbackBehavior::CurrentReplicasIfLower);
        assert_eq!((run(rule.clone(), 9, &[None]), run(rule.clone(), 4, &[None])), (vec![6], vec![4]));
        rule.fallback = fallback(FallbackBehavior::CurrentReplicas);
        assert_eq!(run(rule.clone(), 9, &[None]), [9]);
        // The truncated threshold is 0.
        rule.triggers[0].threshold = 0.7;
        assert_eq!(run(rule, 9, &[None]), [1]);
    }

    #[test]
    fn a_cached_trigger_is_read_once_per_polling_interval() {
        let mut rule = rule(&[1.0]);
        rule.triggers[0].cached = true;
        let totals = [2.0, 4.0, 4.0, 4.0, 4.0, 3.0].map(Some);
        assert_eq!(run(rule, 2, &totals), [2, 2, 2, 2, 4, 4]);
    }
}
