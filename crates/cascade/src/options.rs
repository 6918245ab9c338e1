//! Device, precision and instruction set of a stage.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::Error;

/// Device that a stage runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match (name, name.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(Error::Device(format!("`{name}` is not a device: use auto, cpu or cuda:N"))),
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
    /// Opens the device and returns it with its name, `cpu` or `cuda:N`.
    pub(crate) fn open(self) -> Result<(Device, String), Error> {
        match self {
            Self::Cpu => Ok((Device::Cpu, "cpu".into())),
            Self::Auto if !candle_core::utils::cuda_is_available() => Self::Cpu.open(),
            Self::Auto => Self::Cuda(0).open().or_else(|_| Self::Cpu.open()),
            Self::Cuda(number) => match Device::new_cuda(number) {
                Ok(device) => Ok((device, self.to_string())),
                Err(_) if !candle_core::utils::cuda_is_available() => Err(Error::Device(format!(
                    "{self}: this program was built without CUDA: use --device cpu, or build with --features cuda"
                ))),
                Err(error) => {
                    Err(Error::Device(format!("{self} cannot be opened ({error}): use --device cpu")))
                }
            },
        }
    }
}

/// Numeric precision of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// GGUF weights: int8 activations on a CPU, f32 on a GPU. Dense weights: f32 on a CPU, their stored type on a
    /// GPU.
    #[default]
    Auto,
    /// Everything in f32. Quantised weights are dequantised at load.
    F32,
    /// Weights and activations in bf16. GPU only.
    Bf16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::Device(format!("`{name}` is not a precision: use auto, f32 or bf16"))),
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

/// Instruction set of the CPU kernels. All compute the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The fastest that the CPU supports.
    #[default]
    Auto,
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with VNNI.
    AvxVnni,
    /// AVX2.
    Avx2,
    /// Plain code for any CPU.
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
            Error::Device(format!(
                "`{name}` is not an instruction set: use auto, avx512, avxvnni, avx2 or portable"
            ))
        })
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, kernels)| kernels == self).map_or("", |(name, _)| name))
    }
}

/// Options for loading a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Options {
    /// Device to compute on: auto, cpu or cuda:N.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_DEVICE", value_name = "DEVICE", default_value_t))]
    pub device: DeviceChoice,
    /// Numeric precision: auto, f32 or bf16.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_PRECISION", value_name = "PRECISION", default_value_t))]
    pub precision: Precision,
    /// Instruction set of the CPU kernels: auto, avx512, avxvnni, avx2 or portable. All compute the same bits.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_KERNELS", value_name = "KERNELS", default_value_t))]
    pub kernels: Kernels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_as_displayed() {
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
}
