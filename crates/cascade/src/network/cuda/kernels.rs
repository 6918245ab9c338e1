//! Our kernels, loaded from the binaries that the build script embeds.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUfunction_attribute};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DeviceRepr, DriverError};
use cudarc::nvrtc::Ptx;

use super::Card;

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
        dense_swiglu_f32, dense_swiglu_f16, dense_swiglu_bf16,
        dense_argmax, dense_ban,
    ],
    dense_attention: [
        dense_append_f32, dense_append_f16, dense_append_bf16,
        dense_attend_f32, dense_attend_f16, dense_attend_bf16,
        dense_flash_f16_64, dense_flash_f16_128, dense_flash_bf16_64, dense_flash_bf16_128,
    ],
    dense_gemv: [
        dense_gemv_1_f32, dense_gemv_1_f16, dense_gemv_1_bf16,
        dense_gemv_4_f32, dense_gemv_4_f16, dense_gemv_4_bf16,
        dense_gemv_swiglu_1_f32, dense_gemv_swiglu_1_f16, dense_gemv_swiglu_1_bf16,
        dense_gemv_swiglu_4_f32, dense_gemv_swiglu_4_f16, dense_gemv_swiglu_4_bf16,
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
    // Kernels with different divisions of a multiprocessor's memory cannot overlap.
    function.set_attribute(CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100)?;
    Ok(function)
}

/// Launches a kernel: `launch!(card, function, grid, block, shared bytes, [arguments])`. Pointers are `u64`.
///
/// The caller guarantees that the arguments match the kernel's parameters, and that every pointer is valid for what the
/// kernel reads and writes until the stream has run it.
macro_rules! launch {
    ($card:expr, $function:expr, $grid:expr, $block:expr, $shared:expr, [$($argument:expr),* $(,)?]) => {{
        // SAFETY: see the macro's contract. All buffers are freed in stream order, after the kernel.
        #[allow(unsafe_code)]
        unsafe {
            $crate::network::cuda::kernels::launch_kernel(
                &$card,
                $function,
                $grid,
                ($block as u32, $shared as u32),
                &mut [$($crate::network::cuda::kernels::argument(&$argument)),*],
            )?;
        }
    }};
}

pub(super) use launch;

/// Returns a pointer to an argument of a kernel.
pub(super) fn argument<T: DeviceRepr>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

/// Launches a kernel on the card's stream with blocks of (threads, shared bytes). From Hopper on, it may start while
/// earlier kernels still run: it waits for them itself, see `await_earlier_kernels` in `cuda/common.cuh`.
///
/// # Safety
///
/// As for [`launch`]. `arguments` point to values that live during the call.
#[allow(unsafe_code)]
pub(super) unsafe fn launch_kernel(
    card: &Card,
    function: &CudaFunction,
    grid: (u32, u32, u32),
    block: (u32, u32),
    arguments: &mut [*mut c_void],
) -> Result<(), DriverError> {
    let mut overlap = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let config = sys::CUlaunchConfig {
        gridDimX: grid.0,
        gridDimY: grid.1,
        gridDimZ: grid.2,
        blockDimX: block.0,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: block.1,
        hStream: card.stream().cu_stream(),
        attrs: &raw mut overlap,
        numAttrs: u32::from(card.overlaps_kernels()),
    };
    card.stream().context().bind_to_thread()?;
    // SAFETY: the configuration and its attribute live during the call. For the arguments see above.
    unsafe {
        sys::cuLaunchKernelEx(&raw const config, function.cu_function(), arguments.as_mut_ptr(), std::ptr::null_mut())
            .result()
    }
}
