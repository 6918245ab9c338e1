//! Autoscaling rule of a ScaledObject, as KEDA and the HorizontalPodAutoscaler (HPA) apply it.
//!
//! Follows the documentation of Kubernetes ("Horizontal Pod Autoscaling", sections *Algorithm details* and
//! *Configurable scaling behavior*) and the ScaledObject specification of KEDA 2.17. Scaling to and from zero is not
//! modelled: it is done by KEDA's operator, not by the HPA.

mod autoscaler;
mod manifest;

use std::time::Duration;

pub use autoscaler::Autoscaler;
pub use manifest::Error;

/// Default interval at which the HPA computes the number of replicas
/// (`--horizontal-pod-autoscaler-sync-period` of the controller manager).
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

/// Default tolerance of the HPA: relative difference from the target below which it keeps the replicas.
pub const TOLERANCE: f64 = 0.1;

/// Autoscaling rule of one ScaledObject.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name of the ScaledObject.
    pub name: String,
    /// Minimum replicas of the HPA, at least 1. KEDA uses 1 if `minReplicaCount` is 0.
    pub min_replicas: usize,
    /// Maximum replicas, at least `min_replicas`.
    pub max_replicas: usize,
    /// Interval for which KEDA keeps the values of triggers with `useCachedMetrics`. Other triggers are queried at each
    /// sync of the HPA.
    pub polling_interval: Duration,
    /// Metrics that decide, at least one. The one that needs most replicas wins.
    pub triggers: Vec<Trigger>,
    /// Limits on adding replicas.
    pub scale_up: Behavior,
    /// Limits on removing replicas.
    pub scale_down: Behavior,
    /// Reaction to a metrics source that fails. Without it, replicas never fall while a trigger fails.
    pub fallback: Option<Fallback>,
}

/// A metric with a target of type `AverageValue`.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Query that yields the total over all replicas.
    pub query: String,
    /// Target for the total divided by the replicas, above 0.
    pub threshold: f64,
    /// KEDA queries the metric once per polling interval instead of once per sync.
    pub cached: bool,
}

/// Limits on changes of the replicas in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// Time for which earlier recommendations count: the lowest for scaling up, the highest for scaling down.
    pub stabilization_window: Duration,
    /// Policy that decides if there are several.
    pub select: SelectPolicy,
    /// Maximum changes per period.
    pub policies: Vec<Policy>,
    /// Relative difference from the target below which the replicas do not change in this direction.
    pub tolerance: f64,
}

/// Choice among several policies of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The policy that permits the largest change.
    Max,
    /// The policy that permits the smallest change.
    Min,
    /// Replicas never change in this direction.
    Disabled,
}

/// Maximum change of the replicas within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Size of the change.
    pub change: Change,
    /// Length of the sliding period, above 0.
    pub period: Duration,
}

/// Size of a change of the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A number of pods.
    Pods(u32),
    /// A percentage of the replicas at the start of the period.
    Percent(u32),
}

/// Replicas that KEDA requests while a trigger fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Consecutive failures of a trigger that are tolerated. During these, the HPA has no value for the trigger.
    pub failure_threshold: u32,
    /// Number that `behavior` refers to.
    pub replicas: usize,
    /// Relation between `replicas` and the current replicas.
    pub behavior: FallbackBehavior,
}

/// Number of replicas that a failed trigger requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FallbackBehavior {
    /// The replicas of the fallback.
    #[default]
    Static,
    /// The current replicas.
    CurrentReplicas,
    /// The larger one of both.
    CurrentReplicasIfHigher,
    /// The smaller one of both.
    CurrentReplicasIfLower,
}

impl Fallback {
    /// Returns the replicas that a failed trigger requests.
    fn requested(&self, current: usize) -> usize {
        match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => self.replicas.max(current),
            FallbackBehavior::CurrentReplicasIfLower => self.replicas.min(current),
        }
    }
}
