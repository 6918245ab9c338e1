//! The kernels of a dense network for one data type.

use cudarc::driver::CudaFunction;

use super::weights::Precision;
use crate::network::cuda::Card;

/// The kernels for one data type.
pub(super) struct Functions {
    pub(super) embed: CudaFunction,
    pub(super) rms_norm: CudaFunction,
    pub(super) append: CudaFunction,
    pub(super) attend: CudaFunction,
    pub(super) swiglu: CudaFunction,
    /// For one row, and for up to [`super::GEMV_ROWS_MAX`].
    pub(super) gemv: [CudaFunction; 2],
    /// The same with SwiGLU.
    pub(super) gemv_swiglu: [CudaFunction; 2],
    /// `None` if flash attention does not support the data type or the head width.
    pub(super) flash: Option<CudaFunction>,
}

impl Functions {
    pub(super) fn select(card: &Card, precision: Precision, dim: usize) -> Self {
        let all = card.kernels();
        let flash = match (precision, dim) {
            (Precision::F16, 64) => Some(all.dense_flash_f16_64.clone()),
            (Precision::F16, 128) => Some(all.dense_flash_f16_128.clone()),
            (Precision::Bf16, 64) => Some(all.dense_flash_bf16_64.clone()),
            (Precision::Bf16, 128) => Some(all.dense_flash_bf16_128.clone()),
            _ => None,
        };
        let of = |f32: &CudaFunction, f16: &CudaFunction, bf16: &CudaFunction| match precision {
            Precision::F32 => f32.clone(),
            Precision::F16 => f16.clone(),
            Precision::Bf16 => bf16.clone(),
        };
        Self {
            embed: of(&all.dense_embed_f32, &all.dense_embed_f16, &all.dense_embed_bf16),
            rms_norm: of(&all.dense_rms_norm_f32, &all.dense_rms_norm_f16, &all.dense_rms_norm_bf16),
            append: of(&all.dense_append_f32, &all.dense_append_f16, &all.dense_append_bf16),
            attend: of(&all.dense_attend_f32, &all.dense_attend_f16, &all.dense_attend_bf16),
            swiglu: of(&all.dense_swiglu_f32, &all.dense_swiglu_f16, &all.dense_swiglu_bf16),
            gemv: [
                of(&all.dense_gemv_1_f32, &all.dense_gemv_1_f16, &all.dense_gemv_1_bf16),
                of(&all.dense_gemv_4_f32, &all.dense_gemv_4_f16, &all.dense_gemv_4_bf16),
            ],
            gemv_swiglu: [
                of(&all.dense_gemv_swiglu_1_f32, &all.dense_gemv_swiglu_1_f16, &all.dense_gemv_swiglu_1_bf16),
                of(&all.dense_gemv_swiglu_4_f32, &all.dense_gemv_swiglu_4_f16, &all.dense_gemv_swiglu_4_bf16),
            ],
            flash,
        }
    }
}
