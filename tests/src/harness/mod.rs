//! Test infrastructure: programs, clusters, faulty networks, clients, fixtures and measured quantities.

pub mod access;
pub mod agent;
pub mod browser;
pub mod certificates;
pub mod cluster;
pub mod compose;
pub mod external;
pub mod fixtures;
pub mod foreground;
pub mod gateway_api;
pub mod golden;
mod limit;
pub mod otlp;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod ptrace;
pub mod python;
pub mod quantity;
pub mod random_checkpoint;
pub mod raw_http1;
pub mod raw_http2;
pub mod wait;
pub mod window_load;
