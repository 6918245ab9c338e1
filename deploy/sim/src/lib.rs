//! Autoscaling of the nodes without a cluster: the rule of a ScaledObject, and a simulation that checks it on days of
//! load.
//!
//! [`rule`] computes replicas from metrics as KEDA and Kubernetes do. It has no clock and no I/O, so it also fits a
//! test that starts real programs. [`model`] simulates both stages on a day of load, and [`outcome`] compares the
//! result with its bounds. README.md lists what the simulation leaves out.

pub mod model;
pub mod outcome;
pub mod rule;
