//! Reads rules from ScaledObjects in YAML or JSON.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Behavior, Change, Fallback, FallbackBehavior, Policy, Rule, SYNC_PERIOD, SelectPolicy, TOLERANCE, Trigger,
};

/// Default stabilization window for scaling down (`--horizontal-pod-autoscaler-downscale-stabilization`).
const DOWNSCALE_STABILIZATION: Duration = Duration::from_secs(300);

/// A manifest that yields no rule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is neither YAML nor JSON, or a field has a wrong type.
    #[error("invalid manifest: {0}")]
    Syntax(#[from] serde_yaml_ng::Error),
    /// [`Rule::from_manifest`] needs exactly one ScaledObject.
    #[error("{0} ScaledObjects in the manifest instead of one")]
    Count(usize),
    /// A value is outside the range that KEDA or Kubernetes allows.
    #[error("{object}: {problem}")]
    Value {
        /// Name of the ScaledObject.
        object: String,
        /// Description of the value and its range.
        problem: &'static str,
    },
    /// The ScaledObject uses a feature that this crate does not model.
    #[error("{object}: {feature} is not supported")]
    Unsupported {
        /// Name of the ScaledObject.
        object: String,
        /// Name of the feature.
        feature: &'static str,
    },
}

impl Rule {
    /// Reads the rule of a manifest with exactly one ScaledObject. Ignores other objects.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no or more than one ScaledObject, or for any reason of [`Rule::all_from_manifest`].
    pub fn from_manifest(manifest: &str) -> Result<Self, Error> {
        let mut rules = Self::all_from_manifest(manifest)?;
        match (rules.pop(), rules.len()) {
            (Some(rule), 0) => Ok(rule),
            (last, others) => Err(Error::Count(others + usize::from(last.is_some()))),
        }
    }

    /// Reads the rules of all ScaledObjects of a manifest, which may have several documents of YAML, such as the output
    /// of `helm template`. Ignores other objects.
    ///
    /// # Errors
    ///
    /// Returns an error if the manifest is malformed, or if a ScaledObject has a value that KEDA or Kubernetes refuses,
    /// or a feature that this crate does not model.
    pub fn all_from_manifest(manifest: &str) -> Result<Vec<Self>, Error> {
        let mut rules = Vec::new();
        for document in serde_yaml_ng::Deserializer::from_str(manifest) {
            let document = serde_yaml_ng::Value::deserialize(document)?;
            if document.get("kind").and_then(|kind| kind.as_str()) == Some("ScaledObject") {
                rules.push(serde_yaml_ng::from_value::<ScaledObject>(document)?.into_rule()?);
            }
        }
        Ok(rules)
    }
}

#[derive(Deserialize)]
struct ScaledObject {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    polling_interval: Option<u64>,
    min_replica_count: Option<usize>,
    max_replica_count: Option<usize>,
    fallback: Option<FallbackSpec>,
    #[serde(default)]
    advanced: Advanced,
    triggers: Vec<TriggerSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FallbackSpec {
    failure_threshold: u32,
    replicas: usize,
    #[serde(default)]
    behavior: FallbackBehavior,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Advanced {
    horizontal_pod_autoscaler_config: HpaConfig,
    scaling_modifiers: Option<serde_yaml_ng::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HpaConfig {
    behavior: Behaviors,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Behaviors {
    scale_up: BehaviorSpec,
    scale_down: BehaviorSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BehaviorSpec {
    stabilization_window_seconds: Option<u64>,
    select_policy: Option<String>,
    policies: Option<Vec<PolicySpec>>,
    tolerance: Option<Number>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicySpec {
    r#type: String,
    value: u32,
    period_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TriggerSpec {
    r#type: String,
    metric_type: Option<String>,
    #[serde(default)]
    use_cached_metrics: bool,
    metadata: TriggerMetadata,
}

#[derive(Deserialize)]
struct TriggerMetadata {
    query: String,
    threshold: Number,
}

/// A number, or a string that contains one: KEDA's metadata are strings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(f64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
        }
        .filter(|value| value.is_finite())
    }
}

impl ScaledObject {
    fn into_rule(self) -> Result<Rule, Error> {
        let Self { metadata: Metadata { name: object }, spec } = self;
        let check = |valid: bool, problem| {
            if valid { Ok(()) } else { Err(Error::Value { object: object.clone(), problem }) }
        };
        let unsupported = |feature| Error::Unsupported { object: object.clone(), feature };
        if spec.advanced.scaling_modifiers.is_some() {
            return Err(unsupported("scalingModifiers"));
        }
        check(!spec.triggers.is_empty(), "triggers must not be empty")?;
        let mut triggers = Vec::new();
        for trigger in &spec.triggers {
            if trigger.r#type != "prometheus" {
                return Err(unsupported("a trigger of another type than prometheus"));
            }
            if trigger.metric_type.as_deref().is_some_and(|metric_type| metric_type != "AverageValue") {
                return Err(unsupported("a metricType other than AverageValue"));
            }
            let threshold = trigger.metadata.threshold.value().unwrap_or(f64::NAN);
            check(threshold >= 0.001, "threshold must be a number of at least 0.001")?;
            triggers.push(Trigger {
                query: trigger.metadata.query.clone(),
                threshold,
                cached: trigger.use_cached_metrics,
            });
        }
        let min_replicas = spec.min_replica_count.unwrap_or(0).max(1);
        let max_replicas = spec.max_replica_count.unwrap_or(100);
        check(min_replicas <= max_replicas, "maxReplicaCount must be at least minReplicaCount")?;
        let behaviors = spec.advanced.horizontal_pod_autoscaler_config.behavior;
        let behavior = |spec: BehaviorSpec, default| {
            spec.into_behavior(default).map_err(|problem| Error::Value { object: object.clone(), problem })
        };
        let every = |change| Policy { change, period: SYNC_PERIOD };
        let scale_up = Behavior {
            stabilization_window: Duration::ZERO,
            select: SelectPolicy::Max,
            policies: vec![every(Change::Percent(100)), every(Change::Pods(4))],
            tolerance: TOLERANCE,
        };
        let scale_down = Behavior {
            stabilization_window: DOWNSCALE_STABILIZATION,
            policies: vec![every(Change::Percent(100))],
            ..scale_up.clone()
        };
        Ok(Rule {
            min_replicas,
            max_replicas,
            polling_interval: Duration::from_secs(spec.polling_interval.unwrap_or(30)),
            triggers,
            scale_up: behavior(behaviors.scale_up, scale_up)?,
            scale_down: behavior(behaviors.scale_down, scale_down)?,
            fallback: spec.fallback.map(|fallback| Fallback {
                failure_threshold: fallback.failure_threshold,
                replicas: fallback.replicas,
                behavior: fallback.behavior,
            }),
            name: object,
        })
    }
}

impl BehaviorSpec {
    /// Replaces the fields of `default` that are set here. Returns a description of a wrong value as error.
    fn into_behavior(self, default: Behavior) -> Result<Behavior, &'static str> {
        let select = match self.select_policy.as_deref() {
            None => default.select,
            Some("Max") => SelectPolicy::Max,
            Some("Min") => SelectPolicy::Min,
            Some("Disabled") => SelectPolicy::Disabled,
            Some(_) => return Err("selectPolicy must be Max, Min or Disabled"),
        };
        let window = self.stabilization_window_seconds.map(Duration::from_secs);
        let window = window.unwrap_or(default.stabilization_window);
        if window > Duration::from_secs(3600) {
            return Err("stabilizationWindowSeconds must be at most 3600");
        }
        let policies = match self.policies {
            None => default.policies,
            Some(policies) if policies.is_empty() => return Err("policies must not be empty"),
            Some(policies) => policies.into_iter().map(PolicySpec::into_policy).collect::<Result<_, _>>()?,
        };
        let tolerance = match self.tolerance {
            None => default.tolerance,
            Some(number) => number.value().filter(|value| *value >= 0.0).ok_or("tolerance must be at least 0")?,
        };
        Ok(Behavior { stabilization_window: window, select, policies, tolerance })
    }
}

impl PolicySpec {
    fn into_policy(self) -> Result<Policy, &'static str> {
        if self.value == 0 || !(1..=1800).contains(&self.period_seconds) {
            return Err("a policy needs a value above 0 and a periodSeconds of 1 to 1800");
        }
        let change = match self.r#type.as_str() {
            "Pods" => Change::Pods(self.value),
            "Percent" => Change::Percent(self.value),
            _ => return Err("the type of a policy must be Pods or Percent"),
        };
        Ok(Policy { change, period: Duration::from_secs(self.period_seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &str) -> String {
        format!("kind: ScaledObject\nmetadata: {{name: decoder}}\nspec: {spec}")
    }

    const TRIGGER: &str = "{type: prometheus, metadata: {query: q, threshold: '15'}}";

    #[test]
    fn missing_fields_have_the_defaults_of_keda_and_kubernetes() {
        let rule = Rule::from_manifest(&object(&format!("{{triggers: [{TRIGGER}]}}"))).unwrap();
        assert_eq!((rule.name.as_str(), rule.min_replicas, rule.max_replicas), ("decoder", 1, 100));
        assert_eq!((rule.polling_interval, rule.fallback), (Duration::from_secs(30), None));
        assert_eq!(rule.triggers, [Trigger { query: "q".to_owned(), threshold: 15.0, cached: false }]);
        let every = |change| Policy { change, period: Duration::from_secs(15) };
        assert_eq!(rule.scale_up.stabilization_window, Duration::ZERO);
        assert_eq!(rule.scale_up.policies, [every(Change::Percent(100)), every(Change::Pods(4))]);
        assert_eq!(rule.scale_down.stabilization_window, Duration::from_secs(300));
        assert_eq!(rule.scale_down.policies, [every(Change::Percent(100))]);
    }

    #[test]
    fn fields_replace_defaults_one_by_one() {
        let spec = format!(
            "{{minReplicaCount: 2, maxReplicaCount: 9, triggers: [{TRIGGER}],
              fallback: {{failureThreshold: 3, replicas: 4, behavior: currentReplicasIfHigher}},
              advanced: {{horizontalPodAutoscalerConfig: {{behavior: {{scaleDown: {{selectPolicy: Min,
                policies: [{{type: Pods, value: 1, periodSeconds: 60}}], tolerance: '0.2'}}}}}}}}}}"
        );
        let rule = Rule::from_manifest(&object(&spec)).unwrap();
        assert_eq!((rule.min_replicas, rule.max_replicas), (2, 9));
        let behavior = FallbackBehavior::CurrentReplicasIfHigher;
        assert_eq!(rule.fallback, Some(Fallback { failure_threshold: 3, replicas: 4, behavior }));
        let expected = Behavior {
            stabilization_window: Duration::from_secs(300),
            select: SelectPolicy::Min,
            policies: vec![Policy { change: Change::Pods(1), period: Duration::from_secs(60) }],
            tolerance: 0.2,
        };
        assert_eq!(rule.scale_down, expected);
    }

    #[test]
    fn json_and_several_documents_are_read() {
        let json = r#"{"kind": "ScaledObject", "metadata": {"name": "a"}, "spec": {"triggers":
            [{"type": "prometheus", "metadata": {"query": "q", "threshold": "1"}}]}}"#;
        assert_eq!(Rule::from_manifest(json).unwrap().name, "a");
        let one = object(&format!("{{triggers: [{TRIGGER}]}}"));
        let several = format!("kind: Service\n---\n{one}\n---\n# Empty\n---\n{one}\n");
        assert_eq!(Rule::all_from_manifest(&several).unwrap().len(), 2);
        assert!(matches!(Rule::from_manifest(&several), Err(Error::Count(2))));
        assert!(matches!(Rule::from_manifest("kind: Service"), Err(Error::Count(0))));
    }

    #[test]
    fn wrong_values_and_unknown_features_are_refused() {
        let refused = [
            "{triggers: []}".to_owned(),
            format!("{{maxReplicaCount: 0, triggers: [{TRIGGER}]}}"),
            "{triggers: [{type: cpu, metadata: {query: q, threshold: 1}}]}".to_owned(),
            "{triggers: [{type: prometheus, metadata: {query: q, threshold: x}}]}".to_owned(),
            "{triggers: [{type: prometheus, metricType: Value, metadata: {query: q, threshold: 1}}]}".to_owned(),
            format!("{{triggers: [{TRIGGER}], advanced: {{scalingModifiers: {{formula: a}}}}}}"),
        ];
        for spec in refused {
            let error = Rule::from_manifest(&object(&spec)).unwrap_err();
            assert!(matches!(error, Error::Value { .. } | Error::Unsupported { .. }), "{spec}: {error}");
        }
    }
}
