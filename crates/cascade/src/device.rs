//! Where and how precisely a stage computes.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::Error;
use crate::network::host::{self, Isa};

/// The device that a stage should run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match (name, name.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(Error::Device(format!("`{name}` is not a device: auto, cpu or cuda:N"))),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device; the second value is its name.
    pub(crate) fn open(self) -> Result<(Device, String), Error> {
        match self {
            Self::Cpu => Ok((Device::Cpu, "cpu".into())),
            Self::Auto if !candle_core::utils::cuda_is_available() => Self::Cpu.open(),
            Self::Auto => Self::Cuda(0).open().or_else(|_| Self::Cpu.open()),
            Self::Cuda(number) => match Device::new_cuda(number) {
                Ok(device) => Ok((device, self.to_string())),
                Err(_) if !candle_core::utils::cuda_is_available() => Err(Error::Device(format!(
                    "{self} asked for, but this program was built without CUDA: use --device cpu, or build with --features cuda"
                ))),
                Err(error) => Err(Error::Device(format!("{self} does not open ({error}): use --device cpu"))),
            },
        }
    }
}

/// How precisely a stage computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// GGUF weights: int8 activations on a CPU, f32 on a card. Dense weights: f32 on a CPU, their own type on a card.
    #[default]
    Auto,
    /// Weights dequantised, everything in f32.
    F32,
    /// Weights and activations in bf16. Not for a CPU.
    Bf16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::Device(format!("`{name}` is not a precision: auto, f32 or bf16"))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// The instructions that the kernels for a CPU use. All compute the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The fastest that the CPU has.
    #[default]
    Auto,
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with VNNI.
    AvxVnni,
    /// AVX2.
    Avx2,
    /// Any CPU's.
    Portable,
}

impl Kernels {
    const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("avx512", Self::Avx512),
        ("avxvnni", Self::AvxVnni),
        ("avx2", Self::Avx2),
        ("portable", Self::Portable),
    ];
}

impl FromStr for Kernels {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, kernels)| kernels).ok_or_else(|| {
            Error::Device(format!("`{name}` are no kernels: auto, avx512, avxvnni, avx2 or portable"))
        })
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, kernels)| kernels == self).map_or("", |(name, _)| name))
    }
}

/// How a stage should be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where it computes.
    pub device: DeviceChoice,
    /// How precisely.
    pub precision: Precision,
    /// With which instructions, on a CPU.
    pub kernels: Kernels,
}

/// Precision as it was settled for one checkpoint on one device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    /// Quantised weights × activations of int8, see [`host`].
    Int8(Isa),
    /// Everything in this type.
    Dense(DType),
}

impl Numbers {
    /// Settles what was asked for weights that are dense in `stored`, or quantised and perhaps such that the host's
    /// kernels know them all.
    pub(crate) fn settle(
        options: &Options,
        device: &Device,
        stored: Option<DType>,
        fits_host: bool,
    ) -> Result<Self, Error> {
        let own = match stored {
            Some(DType::BF16 | DType::F16) => DType::BF16,
            _ => DType::F32,
        };
        match (options.precision, device.is_cpu()) {
            (Precision::Bf16, true) => {
                Err(Error::Device("bf16 is not for a CPU: use --precision f32 or auto".into()))
            }
            (Precision::Auto, true) if fits_host => Ok(Self::Int8(Isa::choose(options.kernels)?)),
            (Precision::Auto, true) | (Precision::F32, _) => Ok(Self::Dense(DType::F32)),
            (Precision::Bf16, false) => Ok(Self::Dense(DType::BF16)),
            (Precision::Auto, false) => Ok(Self::Dense(own)),
        }
    }

    /// The type that hidden states have between layers.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::Int8(_) => DType::F32,
            Self::Dense(dtype) => dtype,
        }
    }

    /// Name of the arithmetic on `device`.
    pub(crate) fn arithmetic(self, device: &Device) -> String {
        let machine = if device.is_cpu() { std::env::consts::ARCH } else { "cuda" };
        match self {
            Self::Int8(_) => host::ARITHMETIC.to_owned(),
            Self::Dense(DType::BF16) => format!("candle-0.11/{machine}/bf16"),
            Self::Dense(_) => format!("candle-0.11/{machine}/f32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_shown() {
        for (name, kernels) in Kernels::NAMES {
            assert_eq!((name.parse::<Kernels>().unwrap(), kernels.to_string()), (kernels, name.to_owned()));
        }
        assert!("sse".parse::<Kernels>().is_err());
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn a_cpu_takes_no_bf16() {
        let settle = |precision, fits_host| {
            let options = Options { precision, ..Default::default() };
            Numbers::settle(&options, &Device::Cpu, None, fits_host)
        };
        assert!(settle(Precision::Bf16, true).is_err());
        assert!(matches!(settle(Precision::Auto, true), Ok(Numbers::Int8(_))));
        assert!(matches!(settle(Precision::Auto, false), Ok(Numbers::Dense(DType::F32))));
    }
}
