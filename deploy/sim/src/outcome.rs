//! Comparison of a rule with its bounds: flaps, replica-hours and waits of a simulated day.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::time::Duration;

use crate::model::{
    BUSY_AVERAGE, Day, Event, EventKind, START, STEP, STEPS, Signals, Stage, Trace, schedule, simulate,
};
use crate::rule::{Autoscaler, Rule, SYNC_PERIOD, Trigger};

/// Maximum ratio of the replica-hours to those of the oracle.
pub const COST_MAX: f64 = 1.3;

/// Maximum share of the time outside start-ups in which the wait is above [`WAIT_QUIET`]: a 99th percentile.
pub const SLOW_MAX: f64 = 0.01;

/// Maximum share of all time in which the wait is above [`WAIT_ANY`]. Includes start-ups: those of six bursts a day are
/// 1.7 % of the time.
pub const LATE_MAX: f64 = 0.02;

/// Objective for the wait outside start-ups.
pub const WAIT_QUIET: Duration = Duration::from_secs(10);

/// Objective for the wait at any time.
pub const WAIT_ANY: Duration = Duration::from_secs(30);

/// Changes of direction within this time are flaps, unless demand justifies them.
const FLAP: Duration = Duration::from_secs(600);

/// Time from a change of demand until the metrics at a sync show it: one scrape, one sync, and three time constants of
/// the averaged busy share.
const REACTION: Duration = Duration::from_secs(2 * SYNC_PERIOD.as_secs() + 3 * BUSY_AVERAGE.as_secs());

/// Time after a rise of demand in which new nodes start and compute the backlog of the start. Waits count as start-up.
const START_UP: Duration = Duration::from_secs(2 * (2 * SYNC_PERIOD.as_secs() + START.as_secs()));

/// Result of a rule for a stage and a day, or the sum of several results.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Changes of direction within 10 minutes that demand does not justify.
    pub flaps: usize,
    /// Hours of all pods.
    pub replica_hours: f64,
    /// Hours of the pods of the oracle.
    pub oracle_hours: f64,
    /// Hours simulated.
    pub hours: f64,
    /// Hours in which the wait was above [`WAIT_ANY`].
    pub late_hours: f64,
    /// Hours outside start-ups.
    pub quiet_hours: f64,
    /// Hours outside start-ups in which the wait was above [`WAIT_QUIET`].
    pub slow_hours: f64,
    /// Longest wait in seconds.
    pub wait_max: f64,
}

/// A rule that the simulation cannot feed.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: cannot simulate the query {query:?}")]
pub struct UnknownMetric {
    rule: String,
    query: String,
}

/// Query of a trigger. There is one scrape per sync, so the samples of the latest syncs are those of Prometheus.
struct Metric {
    read: fn(&Signals) -> f64,
    /// Samples that the query averages.
    samples: usize,
    recent: VecDeque<f64>,
}

impl Outcome {
    /// Returns the replica-hours relative to those of the oracle.
    pub fn cost(&self) -> f64 {
        self.replica_hours / self.oracle_hours
    }

    /// Returns the share of the time in which the wait was above [`WAIT_ANY`].
    pub fn late(&self) -> f64 {
        self.late_hours / self.hours
    }

    /// Returns the share of the time outside start-ups in which the wait was above [`WAIT_QUIET`].
    pub fn slow(&self) -> f64 {
        self.slow_hours / self.quiet_hours
    }

    /// Returns whether every bound is held.
    pub fn within_bounds(&self) -> bool {
        self.flaps == 0 && self.cost() <= COST_MAX && self.late() <= LATE_MAX && self.slow() <= SLOW_MAX
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.flaps += other.flaps;
        self.replica_hours += other.replica_hours;
        self.oracle_hours += other.oracle_hours;
        self.hours += other.hours;
        self.late_hours += other.late_hours;
        self.quiet_hours += other.quiet_hours;
        self.slow_hours += other.slow_hours;
        self.wait_max = self.wait_max.max(other.wait_max);
    }
}

/// Simulates a stage for a day under a rule.
///
/// # Errors
///
/// Returns an error if a query of the rule has none of the simulated metrics. Of a query, only the name of the metric
/// and the range of `avg_over_time` count: it must yield the total of the stage.
pub fn evaluate(day: &Day, stage: Stage, rule: &Rule) -> Result<Outcome, UnknownMetric> {
    let metrics = rule.triggers.iter().map(|trigger| Metric::of(rule, trigger));
    let mut metrics = metrics.collect::<Result<Vec<_>, _>>()?;
    let oracle = schedule(day, stage, rule);
    let mut autoscaler = Autoscaler::new(rule.clone());
    let trace = simulate(day, stage, oracle[0], |now, current, signals| {
        let totals = metrics.iter_mut().map(|metric| metric.total(signals));
        autoscaler.recommend(now, current, &Vec::from_iter(totals))
    });
    Ok(outcome(&trace, &oracle, &day.events(stage)))
}

impl Metric {
    fn of(rule: &Rule, trigger: &Trigger) -> Result<Self, UnknownMetric> {
        let query = trigger.query.as_str();
        let unknown = || UnknownMetric { rule: rule.name.clone(), query: query.to_owned() };
        let read: fn(&Signals) -> f64 = if query.contains("c3_stage_backlog_seconds") {
            |signals| signals.backlog_seconds
        } else if query.contains("c3_stage_busy_nodes") {
            |signals| signals.busy_nodes
        } else {
            return Err(unknown());
        };
        let samples = match (query.contains("avg_over_time("), query.split_once('[')) {
            (false, None) => 1,
            (true, Some((_, range))) => {
                let range = range.split_once(']').and_then(|(range, _)| seconds(range));
                range.ok_or_else(unknown)?.div_ceil(SYNC_PERIOD.as_secs())
            }
            _ => return Err(unknown()),
        };
        Ok(Self { read, samples: samples as usize, recent: VecDeque::new() })
    }

    /// Returns the result of the query, or `None` if it fails. Prometheus takes no samples while it does not answer.
    fn total(&mut self, signals: Option<Signals>) -> Option<f64> {
        let Some(signals) = signals else {
            self.recent.clear();
            return None;
        };
        self.recent.push_back((self.read)(&signals));
        if self.recent.len() > self.samples {
            self.recent.pop_front();
        }
        Some(self.recent.iter().sum::<f64>() / self.recent.len() as f64)
    }
}

/// Parses a duration of PromQL in seconds or minutes.
fn seconds(duration: &str) -> Option<u64> {
    let number = |unit| duration.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    number('s').or_else(|| number('m').map(|minutes| 60 * minutes)).filter(|seconds| *seconds > 0)
}

fn outcome(trace: &Trace, oracle: &[usize], events: &[Event]) -> Outcome {
    let rises = events.iter().filter(|event| event.kind == EventKind::Rise);
    let rises = Vec::from_iter(rises.map(|event| event.at..event.at + steps(START_UP)));
    let (mut late, mut quiet, mut slow) = (0, 0, 0);
    for (step, wait) in trace.waits.iter().enumerate() {
        late += usize::from(*wait > WAIT_ANY.as_secs_f64());
        if !rises.iter().any(|rise| rise.contains(&step)) {
            quiet += 1;
            slow += usize::from(*wait > WAIT_QUIET.as_secs_f64());
        }
    }
    let hours = |steps: usize| steps as f64 * STEP.as_secs_f64() / 3600.0;
    Outcome {
        flaps: flaps(&trace.replicas, events).len(),
        replica_hours: trace.replica_seconds / 3600.0,
        oracle_hours: oracle.iter().sum::<usize>() as f64 / 60.0,
        hours: hours(STEPS),
        late_hours: hours(late),
        quiet_hours: hours(quiet),
        slow_hours: hours(slow),
        wait_max: trace.waits.iter().copied().fold(0.0, f64::max),
    }
}

/// Returns the steps of all flaps. A flap is a change of the replicas within 10 minutes after one in the other
/// direction, unless demand moved in the direction of the second change meanwhile:
///
/// - Adding is justified by a rise since the metrics of the removal.
/// - Removing is justified by a fall since the metrics of the addition, or a fall before them that the autoscaler could
///   not know yet because it still computed the backlog of the rise ([`START_UP`]).
fn flaps(replicas: &[usize], events: &[Event]) -> Vec<usize> {
    let mut flaps = Vec::new();
    let mut last = None::<(usize, EventKind)>;
    for (step, pair) in replicas.windows(2).enumerate() {
        let kind = match pair[0].cmp(&pair[1]) {
            std::cmp::Ordering::Less => EventKind::Rise,
            std::cmp::Ordering::Greater => EventKind::Fall,
            std::cmp::Ordering::Equal => continue,
        };
        if let Some((at, before)) = last
            && before != kind
            && step - at < steps(FLAP)
        {
            let since = at.saturating_sub(steps(if kind == EventKind::Rise { REACTION } else { START_UP }));
            let justified = events.iter().any(|event| event.kind == kind && (since..=step).contains(&event.at));
            if !justified {
                flaps.push(step);
            }
        }
        last = Some((step, kind));
    }
    flaps
}

fn steps(duration: Duration) -> usize {
    (duration.as_millis() / STEP.as_millis()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Load;

    const MANIFEST: &str = include_str!("../scaled-object.yaml");

    fn rules() -> Vec<Rule> {
        Rule::all_from_manifest(MANIFEST).unwrap()
    }

    /// Replicas for two hours that change at the given minutes.
    fn replicas(changes: &[(usize, usize)]) -> Vec<usize> {
        let at =
            |step: usize| changes.iter().rev().find(|(minute, _)| minute * 120 <= step).map_or(5, |change| change.1);
        (0..2 * 3600 * 2).map(at).collect()
    }

    fn event(minute: usize, kind: EventKind) -> Event {
        Event { at: minute * 120, kind }
    }

    #[test]
    fn a_change_of_direction_within_10_minutes_is_a_flap() {
        assert_eq!(flaps(&replicas(&[(20, 4), (29, 5)]), &[]).len(), 1);
        assert_eq!(flaps(&replicas(&[(20, 6), (29, 5)]), &[]).len(), 1);
        assert_eq!(flaps(&replicas(&[(20, 6), (24, 5), (28, 6)]), &[]).len(), 2);
        assert_eq!(flaps(&replicas(&[(20, 4), (31, 5)]), &[]).len(), 0);
        assert_eq!(flaps(&replicas(&[(20, 4), (25, 3), (29, 2)]), &[]).len(), 0);
    }

    #[test]
    fn demand_justifies_a_change_in_its_direction_only() {
        let (down_up, up_down) = (replicas(&[(20, 4), (29, 5)]), replicas(&[(20, 6), (29, 5)]));
        for (kind, flaps_of) in [(EventKind::Rise, [0, 1]), (EventKind::Fall, [1, 0])] {
            let found = [&down_up, &up_down].map(|replicas| flaps(replicas, &[event(25, kind)]).len());
            assert_eq!(found, flaps_of, "{kind:?}");
        }
        // Before the removal, and after the addition.
        assert_eq!(flaps(&down_up, &[event(18, EventKind::Rise), event(30, EventKind::Rise)]).len(), 1);
    }

    #[test]
    fn two_days_of_the_example_are_close_to_the_bounds() {
        let mut total = Outcome::default();
        for seed in [1, 2] {
            let day = Day::generate(seed, Load::default());
            for (stage, rule) in Stage::ALL.into_iter().zip(rules()) {
                total += evaluate(&day, stage, &rule).unwrap();
            }
        }
        // Costs of single days differ: those of 20 days are within `COST_MAX`.
        assert!(total.flaps == 0 && total.slow() <= SLOW_MAX && total.late() <= LATE_MAX, "{total:?}");
        assert!(total.cost() <= 1.4, "{total:?}");
    }

    #[test]
    fn a_rule_without_stabilization_flaps() {
        let mut rule = rules().remove(0);
        rule.scale_down.stabilization_window = Duration::ZERO;
        rule.scale_up.stabilization_window = Duration::ZERO;
        let outcome = evaluate(&Day::generate(1, Load::default()), Stage::Compressor, &rule).unwrap();
        assert!(outcome.flaps > 100, "{outcome:?}");
    }

    #[test]
    fn a_rule_that_never_scales_up_misses_the_objective() {
        let mut rule = rules().remove(0);
        rule.scale_up.select = crate::rule::SelectPolicy::Disabled;
        let outcome = evaluate(&Day::generate(1, Load::default()), Stage::Compressor, &rule).unwrap();
        assert!(outcome.slow() > SLOW_MAX && outcome.late() > LATE_MAX, "{outcome:?}");
    }

    #[test]
    fn the_oracle_holds_the_objective() {
        let (mut day, stage) = (Day::generate(1, Load::default()), Stage::Decoder);
        // The oracle does not know of it.
        day.zone_outage = STEPS..STEPS;
        let oracle = schedule(&day, stage, &rules()[1]);
        let minute = |now: Duration| oracle[(now.as_secs() / 60) as usize];
        let trace = simulate(&day, stage, oracle[0], |now, _, _| minute(now));
        let outcome = outcome(&trace, &oracle, &[]);
        assert!(outcome.slow() < SLOW_MAX && outcome.late() < LATE_MAX, "{outcome:?}");
    }

    #[test]
    fn queries_of_other_metrics_are_refused() {
        let mut rule = rules().remove(0);
        for query in ["up", "rate(c3_stage_busy_nodes[1m])", "avg_over_time(c3_stage_busy_nodes[1y])"] {
            rule.triggers[0].query = query.to_owned();
            assert!(Metric::of(&rule, &rule.triggers[0]).is_err(), "{query}");
        }
        rule.triggers[0].query = "max(avg_over_time(c3_stage_busy_nodes[1m]))".to_owned();
        assert_eq!(Metric::of(&rule, &rule.triggers[0]).unwrap().samples, 4);
    }
}
