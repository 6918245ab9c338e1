//! An opened GPU: its context, its stream and our kernels.

use std::sync::Arc;

use cudarc::cublas::sys::cublasStatus_t;
use cudarc::driver::{CudaContext, CudaStream, DriverError, sys};

use super::kernels::Kernels;
use crate::Error;

/// Minimum compute capability: the kernels need the tensor-core instructions of Ampere.
const CAPABILITY_MIN: (i32, i32) = (8, 0);

/// An opened GPU. Clones share it.
#[derive(Clone)]
pub(crate) struct Card(Arc<Opened>);

struct Opened {
    number: usize,
    stream: Arc<CudaStream>,
    kernels: Kernels,
    description: String,
    memory: u64,
    architecture: String,
    multiprocessors: usize,
    overlaps_kernels: bool,
}

impl Card {
    /// Returns true if the machine has a GPU and its driver is installed.
    pub(crate) fn any() -> bool {
        driver_installed() && CudaContext::device_count().is_ok_and(|count| count > 0)
    }

    /// Opens the GPU with index `number`. Fails with [`Error::Device`] if there is none, it is too old, or it has no
    /// memory left.
    pub(crate) fn open(number: usize) -> Result<Self, Error> {
        let refuse = |problem: String| Error::Device(format!("cuda:{number}: {problem}: use --device cpu"));
        if !driver_installed() {
            return Err(refuse("the NVIDIA driver (libcuda.so.1) is not installed".into()));
        }
        let count = CudaContext::device_count().map_err(|error| refuse(format!("no GPU is usable ({error})")))?;
        if number >= count.max(0) as usize {
            return Err(Error::Device(format!(
                "cuda:{number} does not exist: this machine has {count} GPUs, numbered from 0; use --device cpu or \
                 another number"
            )));
        }
        let open = || -> Result<Self, DriverError> {
            let context = CudaContext::new(number)?;
            // SAFETY: all work of a card runs on one stream, in order, so no event is needed to order it.
            #[allow(unsafe_code)]
            unsafe {
                context.disable_event_tracking();
            }
            keep_freed_memory(&context)?;
            let stream = context.new_stream()?;
            let (major, minor) = context.compute_capability()?;
            let memory = context.total_mem()? as u64;
            let gib = memory as f64 / f64::from(1 << 30);
            let description = format!("{}, {gib:.0} GiB, compute capability {major}.{minor}", context.name()?.trim());
            let multiprocessors =
                context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize;
            let kernels = Kernels::load(&context)?;
            let architecture = format!("sm_{major}{minor}");
            let overlaps_kernels = major >= 9;
            Ok(Self(Arc::new(Opened {
                number,
                stream,
                kernels,
                description,
                memory,
                architecture,
                multiprocessors,
                overlaps_kernels,
            })))
        };
        if let Ok((major, minor)) = CudaContext::new(number).and_then(|context| context.compute_capability())
            && (major, minor) < CAPABILITY_MIN
        {
            return Err(refuse(format!("compute capability {major}.{minor} is too old, 8.0 or later is needed")));
        }
        open().map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::Device(format!(
                "cuda:{number} has no memory left: end other programs on the GPU, or use another GPU"
            )),
            _ => refuse(format!("the GPU cannot be opened ({error})")),
        })
    }

    /// Index of the GPU.
    pub(crate) fn number(&self) -> usize {
        self.0.number
    }

    /// Name of the compute capability, for example `sm_90`.
    pub(super) fn architecture(&self) -> &str {
        &self.0.architecture
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        self.0.memory
    }

    /// Name, memory and compute capability.
    pub(crate) fn description(&self) -> &str {
        &self.0.description
    }

    /// Waits for all submitted work. Fails if any work has failed: the card then refuses all further work.
    pub(super) fn check(&self) -> Result<(), Error> {
        Ok(self.stream().synchronize()?)
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.0.stream
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.0.kernels
    }

    /// Returns true if a kernel may start while earlier kernels of the stream still run (Hopper and later).
    pub(super) fn overlaps_kernels(&self) -> bool {
        self.0.overlaps_kernels
    }

    pub(super) fn multiprocessors(&self) -> usize {
        self.0.multiprocessors
    }
}

/// Returns true if the driver's library can be loaded. Calling the driver without it would panic.
fn driver_installed() -> bool {
    // SAFETY: loads the driver's library and runs its initialisers, as every CUDA program does.
    #[allow(unsafe_code)]
    unsafe {
        sys::is_culib_present()
    }
}

/// Keeps freed memory in the pool of the card, so that the next pass gets it without asking the system.
fn keep_freed_memory(context: &CudaContext) -> Result<(), DriverError> {
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: `pool` and `threshold` outlive the calls, and the attribute takes a u64.
    #[allow(unsafe_code)]
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result()?;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result()
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfDeviceMemory,
            _ => Self::Gpu(error.to_string()),
        }
    }
}

impl From<cudarc::cublas::result::CublasError> for Error {
    fn from(error: cudarc::cublas::result::CublasError) -> Self {
        match error.0 {
            cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => Self::OutOfDeviceMemory,
            _ => Self::Gpu(error.to_string()),
        }
    }
}
