//! Simulation of the nodes of one stage on a day of load.

mod day;
mod oracle;
mod pool;

use std::time::Duration;

pub use day::{Day, Event, EventKind, Load};
pub use oracle::schedule;
pub use pool::{BUSY_AVERAGE, Signals, Trace, simulate};

/// Length of a simulation step. Gateways read the load of a node at this interval, with its health checks.
pub const STEP: Duration = Duration::from_millis(500);

/// Steps of a day.
pub const STEPS: usize = 2 * 24 * 60 * 60;

/// Time from the creation of a pod until the node is ready: image, checkpoint and warm-up.
pub const START: Duration = Duration::from_secs(90);

/// Additional time until a pod starts during a zone outage, because the other zones have no spare machines.
pub const PROVISIONING: Duration = Duration::from_secs(180);

/// One of the two stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Turns text into latents. Works for writes only.
    Compressor,
    /// Turns latents into text. Works for reads, and verifies writes.
    Decoder,
}

impl Stage {
    /// Both stages.
    pub const ALL: [Self; 2] = [Self::Compressor, Self::Decoder];

    /// Name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compressor => "compressor",
            Self::Decoder => "decoder",
        }
    }
}
