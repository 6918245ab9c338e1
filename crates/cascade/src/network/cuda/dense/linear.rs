//! Linear layers with dense weights: an own kernel for few rows, cuBLAS for many.

use std::ffi::c_void;

use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cublasSetWorkspace_v2, cudaDataType,
};
use cudarc::cublas::{CudaBlas, result};
use cudarc::driver::{CudaSlice, DevicePtr};

use super::weights::Linear;
use super::{DenseNetwork, Finished, State, THREADS};
use crate::Error;
use crate::network::cuda::Card;
use crate::network::cuda::kernels::launch;

/// Maximum rows of a linear layer that our own kernel computes. It reads the weights once, faster than cuBLAS.
const GEMV_ROWS_MAX: usize = 4;
/// Shared memory of its thread blocks for weights that are being copied: `RING` chunks of 16 bytes per thread.
const GEMV_RING_BYTES: usize = 8 * THREADS * 16;
/// Maximum bytes of its input in shared memory, with a row of floats if it normalises the input.
const GEMV_INPUT_BYTES_MAX: usize = 66 << 10;
/// Its thread blocks per multiprocessor.
const GEMV_BLOCKS: usize = 4;
/// Bytes that cuBLAS may use, as NVIDIA recommends for Hopper. With memory of its own it allocates none in graphs.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Form of the result of a linear layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Rows of the network's data type.
    Rows,
    /// f32 rows.
    Floats,
    /// Added to f32 rows.
    Added,
    /// SwiGLU of the first and the second half, in rows of the network's data type. Only [`DenseNetwork::gemv`] has
    /// it.
    Swiglu,
}

/// Input of a linear layer, by address.
#[derive(Clone, Copy)]
pub(super) enum LinearInput<'a> {
    /// Rows of the network's data type.
    Rows(u64),
    /// RMSNorm of f32 rows.
    Normalised { hidden: u64, weight: &'a CudaSlice<f32> },
}

impl LinearInput<'_> {
    /// Bytes per value that [`DenseNetwork::gemv`] needs to normalise a row.
    fn scratch_bytes(self) -> usize {
        match self {
            Self::Rows(_) => 0,
            Self::Normalised { .. } => size_of::<f32>(),
        }
    }
}

impl DenseNetwork {
    /// Computes a linear layer for `count` rows to the address `out`, without its bias. Normalised rows go through the
    /// pass's buffer of rows.
    pub(super) fn linear(
        &self,
        pass: &Finished<'_>,
        linear: &Linear,
        input: LinearInput<'_>,
        count: usize,
        out: u64,
        output: Output,
    ) -> Result<(), Error> {
        if self.is_gemv(linear, input, count) {
            return self.gemv(linear, input, count, out, output);
        }
        let rows = match input {
            LinearInput::Rows(rows) => rows,
            LinearInput::Normalised { hidden, weight } => {
                let rows = pass.base.at(pass.buffers.rows);
                self.rms_norm(hidden, 0, weight, count, rows, 0)?;
                rows
            }
        };
        self.gemm(&pass.state, linear, rows, count, out, output)
    }

    /// Returns true if [`Self::gemv`] can compute a layer for `count` rows.
    pub(super) fn is_gemv(&self, linear: &Linear, input: LinearInput<'_>, count: usize) -> bool {
        let bytes = linear.inputs * (count * self.precision.bytes() + input.scratch_bytes());
        count <= GEMV_ROWS_MAX && bytes <= GEMV_INPUT_BYTES_MAX
    }

    /// Computes a linear layer for a few rows with our own kernel.
    pub(super) fn gemv(
        &self,
        linear: &Linear,
        input: LinearInput<'_>,
        count: usize,
        out: u64,
        output: Output,
    ) -> Result<(), Error> {
        let stream = self.card.stream();
        let swiglu = output == Output::Swiglu;
        let [one, few] = if swiglu { &self.kernels.gemv_swiglu } else { &self.kernels.gemv };
        let (rows, hidden, norm) = match input {
            LinearInput::Rows(rows) => (rows, 0, 0),
            LinearInput::Normalised { hidden, weight } => (0, hidden, weight.device_ptr(stream).0),
        };
        let (out, floats) = if matches!(output, Output::Rows | Output::Swiglu) { (out, 0) } else { (0, out) };
        let input_bytes = linear.inputs * (count * self.precision.bytes() + input.scratch_bytes());
        let items = if swiglu { linear.outputs / 2 } else { linear.outputs };
        let blocks_max = GEMV_BLOCKS * self.card.multiprocessors();
        // Two warps per output if a warp per output would leave half of them idle.
        let team = if 2 * items <= blocks_max * THREADS / 32 { 64 } else { 32 };
        let blocks = items.div_ceil(THREADS / team).min(blocks_max);
        launch!(
            self.card,
            if count == 1 { one } else { few },
            (blocks as u32, 1, 1),
            THREADS,
            GEMV_RING_BYTES + input_bytes,
            [
                linear.weight.device_ptr(stream).0,
                linear.outputs as i32,
                linear.inputs as i32,
                count as i32,
                rows,
                hidden,
                norm,
                self.config.rms_norm_eps,
                out,
                floats,
                i32::from(output == Output::Added),
                team as i32,
            ]
        );
        Ok(())
    }

    /// Computes `x W^T` for `rows` rows at address `x` with cuBLAS.
    fn gemm(&self, state: &State, linear: &Linear, x: u64, rows: usize, out: u64, output: Output) -> Result<(), Error> {
        let (alpha, beta) = (1.0f32, if output == Output::Added { 1.0f32 } else { 0.0 });
        let out_type = if output == Output::Rows { self.precision.cuda() } else { cudaDataType::CUDA_R_32F };
        let (inputs, outputs) = (linear.inputs as i32, linear.outputs as i32);
        let weight = linear.weight.device_ptr(self.card.stream()).0;
        // cuBLAS has column-major matrices: it computes the transposed product W x^T.
        // SAFETY: the buffers have the sizes that the dimensions say, and live until the stream has run the product:
        // the arena is reused in stream order only. `alpha` and `beta` are read during the call.
        #[allow(unsafe_code)]
        unsafe {
            result::gemm_ex(
                *state.blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                outputs,
                rows as i32,
                inputs,
                (&raw const alpha).cast(),
                weight as *const c_void,
                self.precision.cuda(),
                inputs,
                x as *const c_void,
                self.precision.cuda(),
                inputs,
                (&raw const beta).cast(),
                out as *mut c_void,
                out_type,
                outputs,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )?;
        }
        Ok(())
    }
}

/// Creates a cuBLAS handle with memory of its own.
pub(super) fn blas(card: &Card) -> Result<(CudaBlas, CudaSlice<u8>), Error> {
    let blas = CudaBlas::new(card.stream().clone())?;
    // SAFETY: nobody reads the memory before cuBLAS writes it. It lives as long as the handle.
    #[allow(unsafe_code)]
    let workspace = unsafe {
        let workspace = card.stream().alloc::<u8>(WORKSPACE_BYTES)?;
        let address = workspace.device_ptr(card.stream()).0 as *mut c_void;
        cublasSetWorkspace_v2(*blas.handle(), address, WORKSPACE_BYTES).result()?;
        workspace
    };
    Ok((blas, workspace))
}
