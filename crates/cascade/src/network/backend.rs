//! Selection of the backend that runs a network, and the name of the backend's arithmetic.

use candle_core::{DType, Device};

use super::cpu::{self, Isa};
use crate::Error;
use crate::options::{Options, Precision};

/// Backend and precision for one checkpoint on one device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    /// Our CPU kernels: quantised weights, int8 activations. See [`cpu`].
    Cpu(Isa),
    /// Candle, with weights and activations of this data type.
    Candle(DType),
}

impl Backend {
    /// Selects the backend.
    ///
    /// `stored` is the data type of dense weights, `None` if the weights are quantised. `cpu_supported` is true if the
    /// CPU kernels support all weights. Fails with [`Error::Device`] if the options require bf16 on a CPU, or if the
    /// CPU kernels are selected with an instruction set that this CPU lacks.
    pub(super) fn select(
        options: &Options,
        device: &Device,
        stored: Option<DType>,
        cpu_supported: bool,
    ) -> Result<Self, Error> {
        let native = match stored {
            Some(DType::BF16 | DType::F16) => DType::BF16,
            _ => DType::F32,
        };
        match (options.precision, device.is_cpu()) {
            (Precision::Bf16, true) => {
                Err(Error::Device("bf16 is not supported on a CPU: use --precision f32 or auto".into()))
            }
            (Precision::Auto, true) if cpu_supported => Ok(Self::Cpu(Isa::select(options.kernels)?)),
            (Precision::Auto, true) | (Precision::F32, _) => Ok(Self::Candle(DType::F32)),
            (Precision::Bf16, false) => Ok(Self::Candle(DType::BF16)),
            (Precision::Auto, false) => Ok(Self::Candle(native)),
        }
    }

    /// Returns the data type of hidden states between layers.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Cpu(_) => DType::F32,
            Self::Candle(dtype) => dtype,
        }
    }

    /// Returns the name of the arithmetic on `device`.
    pub(super) fn arithmetic(self, device: &Device) -> String {
        let machine = if device.is_cpu() { std::env::consts::ARCH } else { "cuda" };
        match self {
            Self::Cpu(_) => cpu::ARITHMETIC.to_owned(),
            Self::Candle(DType::BF16) => format!("candle-0.11/{machine}/bf16"),
            Self::Candle(_) => format!("candle-0.11/{machine}/f32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_does_not_run_bf16() {
        let select = |precision, cpu_supported| {
            let options = Options { precision, ..Default::default() };
            Backend::select(&options, &Device::Cpu, None, cpu_supported)
        };
        assert!(select(Precision::Bf16, true).is_err());
        assert!(matches!(select(Precision::Auto, true), Ok(Backend::Cpu(_))));
        assert!(matches!(select(Precision::Auto, false), Ok(Backend::Candle(DType::F32))));
    }
}
