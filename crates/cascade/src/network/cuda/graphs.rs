//! CUDA graphs of passes that occur again and again, such as the steps of greedy decoding.
//!
//! A graph launches all kernels of a pass with one call. It saves the host's time per kernel and shortens the pauses
//! between kernels, which matter if each kernel takes microseconds.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaStream, sys};

use super::pass::Shape;
use crate::Error;

/// Maximum rows of a pass with a graph. The kernels of larger passes take longer than their launches.
const ROWS_MAX: usize = 512;
/// Maximum number of kernels' shapes that are remembered.
const SHAPES_MAX: usize = 256;

/// All that the recorded launches of a pass depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) shape: Shape,
    /// Device address of the arena.
    pub(super) arena: u64,
    /// Device address of the rotary table.
    pub(super) rotary: u64,
}

/// Graphs by key, or `None` for passes that ran only once.
#[derive(Default)]
pub(super) struct Graphs(HashMap<Key, Option<Recorded>>);

struct Recorded(CudaGraph);

// SAFETY: a graph may be used by any thread, but by one at a time. The lock of the network's state ensures this.
#[allow(unsafe_code)]
unsafe impl Send for Recorded {}

impl Graphs {
    /// Runs the kernels that `launch` launches on `stream`. From the second time on, a short pass with the same key
    /// runs as a graph. Launches may depend on `key` and on constants only, and may neither allocate nor copy from the
    /// host.
    pub(super) fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        key: Key,
        launch: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if key.shape.rows.count > ROWS_MAX || key.shape.forks.count > 0 {
            return launch();
        }
        match self.0.get(&key) {
            Some(Some(Recorded(graph))) => Ok(graph.launch()?),
            Some(None) => {
                let recorded = Recorded::record(stream, launch)?;
                recorded.0.launch()?;
                self.0.insert(key, Some(recorded));
                Ok(())
            }
            None => {
                if self.0.len() == SHAPES_MAX {
                    self.0.clear();
                }
                self.0.insert(key, None);
                launch()
            }
        }
    }
}

impl Recorded {
    fn record(stream: &Arc<CudaStream>, launch: impl FnOnce() -> Result<(), Error>) -> Result<Self, Error> {
        stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = launch();
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        launched?;
        graph?.map(Self).ok_or_else(|| Error::Gpu("no kernel was recorded".into()))
    }
}
