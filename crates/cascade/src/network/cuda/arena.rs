//! Device memory for the intermediate values of one pass.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DeviceRepr};

use crate::Error;

/// Alignment of every buffer, in bytes.
const ALIGNMENT: usize = 256;

/// One allocation, divided anew among the buffers of each pass. It grows to the largest pass and is then reused.
pub(super) struct Arena {
    stream: Arc<CudaStream>,
    bytes: Option<CudaSlice<u8>>,
}

/// Sizes of the buffers of a pass, in bytes, and their offsets in the arena.
#[derive(Default)]
pub(super) struct Plan {
    bytes: usize,
}

/// Offset of a planned buffer.
#[derive(Clone, Copy)]
pub(super) struct Planned(usize);

impl Plan {
    /// Plans a buffer of `count` values of `T`.
    pub(super) fn add<T>(&mut self, count: usize) -> Planned {
        let offset = self.bytes;
        self.bytes += (count * size_of::<T>()).next_multiple_of(ALIGNMENT);
        Planned(offset)
    }
}

/// Device address of the arena during one pass.
#[derive(Clone, Copy)]
pub(super) struct Base(u64);

impl Base {
    /// Returns the device address of a planned buffer.
    pub(super) fn at(self, planned: Planned) -> u64 {
        self.0 + planned.0 as u64
    }
}

impl Arena {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, bytes: None }
    }

    /// Returns memory for all buffers of `plan`. Their contents are unspecified. Fails if the card has no memory left.
    pub(super) fn reserve(&mut self, plan: &Plan) -> Result<Base, Error> {
        if self.bytes.as_ref().is_none_or(|bytes| bytes.len() < plan.bytes) {
            self.bytes = None;
            // SAFETY: kernels write every buffer of a pass before they read it.
            #[allow(unsafe_code)]
            let bytes = unsafe { self.stream.alloc::<u8>(plan.bytes.next_multiple_of(1 << 20))? };
            self.bytes = Some(bytes);
        }
        Ok(Base(self.bytes.as_ref().map_or(0, |bytes| bytes.device_ptr(&self.stream).0)))
    }

    /// Copies `count` values at `planned` to host memory, after all work that was submitted before.
    pub(super) fn download<T: DeviceRepr + Copy + Default>(
        &self,
        planned: Planned,
        count: usize,
    ) -> Result<Vec<T>, Error> {
        let Some(bytes) = &self.bytes else { return Ok(Vec::new()) };
        let from = bytes.slice(planned.0..planned.0 + count * size_of::<T>());
        let mut values = vec![T::default(); count];
        // SAFETY: the range has `count` values of `T`, aligned to `ALIGNMENT`. `T` is u32 or f32, for which every bit
        // pattern is valid.
        #[allow(unsafe_code)]
        let from = unsafe { from.transmute::<T>(count) };
        if let Some(from) = from {
            self.stream.memcpy_dtoh(&from, &mut values)?;
            self.stream.synchronize()?;
        }
        Ok(values)
    }

    /// Copies `values`, words or floats, to the buffer at `planned`.
    pub(super) fn upload<T: DeviceRepr>(&mut self, planned: Planned, values: &[T]) -> Result<(), Error> {
        let Some(bytes) = self.bytes.as_mut().filter(|_| !values.is_empty()) else { return Ok(()) };
        let mut to = bytes.slice_mut(planned.0..planned.0 + size_of_val(values));
        // SAFETY: the range has as many values of `T`, aligned to `ALIGNMENT`.
        #[allow(unsafe_code)]
        let to = unsafe { to.transmute_mut::<T>(values.len()) };
        if let Some(mut to) = to {
            self.stream.memcpy_htod(values, &mut to)?;
        }
        Ok(())
    }
}
