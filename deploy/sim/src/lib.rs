//! Autoscaling of the nodes without a cluster: the rule of a ScaledObject.
//!
//! [`rule`] computes replicas from metrics as KEDA and Kubernetes do. It has no clock and no I/O, so it also fits a
//! test that starts real programs.

pub mod rule;
