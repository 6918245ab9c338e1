//! Our kernels, loaded from the binaries that the build script embeds.

use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;

/// Shared memory that a thread block may request: all that compute capability 8.6 has. Later cards have more.
const SHARED_BYTES_MAX: i32 = 99 * 1024;

/// Defines [`Kernels`] with a field per kernel.
macro_rules! kernels {
    ($($module:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        /// The kernels by name.
        pub(super) struct Kernels {
            $($(pub(super) $name: CudaFunction,)*)*
        }

        impl Kernels {
            /// Loads the kernels for the card of `context`.
            pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
                $(
                    let binary = include_bytes!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".fatbin"));
                    let $module = load_module(context, binary)?;
                )*
                Ok(Self { $($($name: load_function(&$module, stringify!($name))?,)*)* })
            }
        }
    };
}

kernels! {
    shared: [reduce_argmax, project, copy_vectors],
    dense: [
        dense_embed_f32, dense_embed_f16, dense_embed_bf16,
        dense_rms_norm_f32, dense_rms_norm_f16, dense_rms_norm_bf16,
        dense_append_f32, dense_append_f16, dense_append_bf16,
        dense_attend_f32, dense_attend_f16, dense_attend_bf16,
        dense_swiglu_f32, dense_swiglu_f16, dense_swiglu_bf16,
        dense_flash_f16_64, dense_flash_f16_128, dense_flash_bf16_64, dense_flash_bf16_128, dense_argmax,
    ],
    int8_rows: [int8_embed, int8_rms_norm],
    int8_attention: [
        int8_append, int8_attend_causal, int8_attend_slots, int8_attend_slots_3, int8_copy_causal,
    ],
    int8_gemm: [
        int8_gemm_small, int8_gemm_large, int8_gemm_add_small, int8_gemm_add_large,
        int8_gemm_swiglu_small, int8_gemm_swiglu_large, int8_gemm_argmax_small, int8_gemm_argmax_large,
    ],
}

fn load_module(context: &Arc<CudaContext>, binary: &[u8]) -> Result<Arc<CudaModule>, DriverError> {
    context.load_module(Ptx::from_binary(binary.to_vec()))
}

fn load_function(module: &Arc<CudaModule>, name: &str) -> Result<CudaFunction, DriverError> {
    let function = module.load_function(name)?;
    function.set_attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, SHARED_BYTES_MAX)?;
    Ok(function)
}

/// Launches a kernel: `launch!(stream, function, grid, block, shared bytes, [arguments])`. Pointers are `u64`.
///
/// The caller guarantees that the arguments match the kernel's parameters, and that every pointer is valid for what the
/// kernel reads and writes until the stream has run it.
macro_rules! launch {
    ($stream:expr, $function:expr, $grid:expr, $block:expr, $shared:expr, [$($argument:expr),* $(,)?]) => {{
        use cudarc::driver::PushKernelArg;
        let config = cudarc::driver::LaunchConfig {
            grid_dim: $grid,
            block_dim: ($block as u32, 1, 1),
            shared_mem_bytes: $shared as u32,
        };
        let mut builder = $stream.launch_builder($function);
        $(
            let argument = $argument;
            builder.arg(&argument);
        )*
        // SAFETY: see the macro's contract. All buffers are freed in stream order, after the kernel.
        #[allow(unsafe_code)]
        unsafe { builder.launch(config)? };
    }};
}

pub(super) use launch;
