//! Device, precision and instruction set of a stage.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::Error;

/// Implements `FromStr` and `Display` for an enum from the names of its variants.
macro_rules! named {
    ($type:ident, $expected:literal, [$(($name:literal, $variant:ident)),*]) => {
        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self, Error> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(Error::Device(format!(concat!("`{}` is not ", $expected), name))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),* })
            }
        }
    };
}

/// Device that a stage runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA device 0 if it can be opened, otherwise the CPU.
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
    /// Opens the device and returns it with its name, `cpu` or `cuda:N`. Fails with [`Error::Device`].
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
                Err(error) => Err(Error::Device(format!("{self} cannot be opened ({error}): use --device cpu"))),
            },
        }
    }
}

/// Numeric precision of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// On a CPU: the int8 kernels if they support all weights (GGUF only), otherwise f32. On a GPU: bf16 for dense
    /// weights stored as bf16 or f16, otherwise f32.
    #[default]
    Auto,
    /// Weights and activations in f32. Quantised weights are dequantised when they are loaded.
    F32,
    /// Weights and activations in bf16. Not supported on a CPU.
    Bf16,
}

named!(Precision, "a precision: use auto, f32 or bf16", [("auto", Auto), ("f32", F32), ("bf16", Bf16)]);

/// Instruction set of the CPU kernels. Every instruction set computes the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The fastest instruction set that the CPU supports.
    #[default]
    Auto,
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with VNNI.
    AvxVnni,
    /// AVX2.
    Avx2,
    /// Plain Rust, for any CPU.
    Portable,
}

named!(
    Kernels,
    "an instruction set: use auto, avx512, avxvnni, avx2 or portable",
    [("auto", Auto), ("avx512", Avx512), ("avxvnni", AvxVnni), ("avx2", Avx2), ("portable", Portable)]
);

/// Options for loading a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Options {
    /// Device to compute on: auto, cpu or cuda:N. auto is cuda:0 if it can be opened, otherwise cpu.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_DEVICE", value_name = "DEVICE", default_value_t))]
    pub device: DeviceChoice,
    /// Numeric precision: auto, f32 or bf16.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_PRECISION", value_name = "PRECISION", default_value_t))]
    pub precision: Precision,
    /// Instruction set of the CPU kernels: auto, avx512, avxvnni, avx2 or portable. All give the same results.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_KERNELS", value_name = "KERNELS", default_value_t))]
    pub kernels: Kernels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse_as_displayed() {
        for name in ["auto", "avx512", "avxvnni", "avx2", "portable"] {
            assert_eq!(name.parse::<Kernels>().unwrap().to_string(), name);
        }
        for name in ["auto", "f32", "bf16"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
        assert!("sse".parse::<Kernels>().is_err());
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }
}
