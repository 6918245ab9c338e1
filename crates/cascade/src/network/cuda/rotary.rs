//! Rotary angles on the card.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use crate::Error;

/// Positions of a new table. It grows if a pass has later ones.
const POSITIONS: usize = 4096;

/// Cosines and sines of all positions so far: `[position][cosines, sines][dim / 2]`.
pub(super) struct RotaryTable {
    stream: Arc<CudaStream>,
    values: CudaSlice<f32>,
    positions: usize,
    /// Returns the values of one position.
    of_position: Box<dyn Fn(usize) -> Vec<f32> + Send + Sync>,
}

impl RotaryTable {
    /// Creates a table from a function that returns the cosines, then the sines of a position.
    pub(super) fn new(
        stream: &Arc<CudaStream>,
        of_position: impl Fn(usize) -> Vec<f32> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let values = stream.clone_htod(&(0..POSITIONS).flat_map(&of_position).collect::<Vec<f32>>())?;
        Ok(Self { stream: stream.clone(), values, positions: POSITIONS, of_position: Box::new(of_position) })
    }

    /// Grows the table to cover the positions below `positions`.
    pub(super) fn cover(&mut self, positions: usize) -> Result<(), Error> {
        if positions > self.positions {
            self.positions = positions.next_power_of_two();
            let values: Vec<f32> = (0..self.positions).flat_map(&self.of_position).collect();
            self.values = self.stream.clone_htod(&values)?;
        }
        Ok(())
    }

    /// Returns the device address of the table.
    pub(super) fn address(&self) -> u64 {
        self.values.device_ptr(&self.stream).0
    }
}
