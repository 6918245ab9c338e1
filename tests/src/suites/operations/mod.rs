//! Suite of what an operator relies on: the Helm chart, alerts, dashboards, scaling and backups.

mod backup;
mod queries;
mod scaling;
mod scripts;
pub mod table;
mod telemetry;
mod upgrade;
