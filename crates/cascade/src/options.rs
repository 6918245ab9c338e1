//! Device, data type and instruction set of a stage.

use std::fmt;
use std::str::FromStr;

use crate::Error;
#[cfg(feature = "cuda")]
use crate::network::cuda::Card;

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
    /// CUDA device 0 if there is one, otherwise the CPU.
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

/// An opened device.
#[derive(Clone)]
pub(crate) enum Device {
    Cpu,
    #[cfg(feature = "cuda")]
    Cuda(Card),
}

impl Device {
    /// Returns name, memory and compute capability of a GPU; `None` for a CPU.
    pub(crate) fn accelerator(&self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(card) => Some(card.description().to_owned()),
        }
    }

    /// Returns the bytes of memory of a GPU; `None` for a CPU.
    pub(crate) fn memory(&self) -> Option<u64> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(card) => Some(card.memory()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Self::Cuda(card) => write!(f, "cuda:{}", card.number()),
        }
    }
}

impl DeviceChoice {
    /// Opens the device. Fails with [`Error::Device`] if it does not exist or is not supported.
    #[cfg(feature = "cuda")]
    pub(crate) fn open(self) -> Result<Device, Error> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if !Card::any() => Ok(Device::Cpu),
            Self::Auto => Self::Cuda(0).open(),
            Self::Cuda(number) => Card::open(number).map(Device::Cuda),
        }
    }

    /// Opens the device. Fails with [`Error::Device`] if it is a GPU, which this program was built without.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn open(self) -> Result<Device, Error> {
        match self {
            Self::Cpu | Self::Auto => Ok(Device::Cpu),
            Self::Cuda(_) => Err(Error::Device(format!(
                "{self}: this program was built without CUDA: use --device cpu, or build with --features cuda"
            ))),
        }
    }
}

/// Data type in which a stage computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// The fastest data type that the device supports for the checkpoint.
    ///
    /// A decoder with quantised weights uses `int8` on every device, so that all of them compute the same bits. A
    /// compressor with quantised weights uses `int8` on a CPU and `f16` on a GPU. Dense weights use `f32` on a CPU and
    /// `bf16` on a GPU.
    #[default]
    Auto,
    /// Weights as stored, int8 activations: the arithmetic `c3-int8-2`. For weights in Q4_0 or Q8_0 only.
    Int8,
    /// Weights and activations in f32. Quantised weights are dequantised when they are loaded.
    F32,
    /// Weights and activations in f16. On a GPU only.
    F16,
    /// Weights and activations in bf16. On a GPU only.
    Bf16,
}

named!(
    Dtype,
    "a data type: use auto, int8, f32, f16 or bf16",
    [("auto", Auto), ("int8", Int8), ("f32", F32), ("f16", F16), ("bf16", Bf16)]
);

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
    /// Device to compute on: auto, cpu or cuda:N. auto is cuda:0 if the machine has a GPU, otherwise cpu.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_DEVICE", value_name = "DEVICE", default_value_t))]
    pub device: DeviceChoice,
    /// Data type: auto, int8, f32, f16 or bf16.
    #[cfg_attr(feature = "clap", arg(long, env = "C3_DTYPE", value_name = "DTYPE", default_value_t))]
    pub dtype: Dtype,
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
        for name in ["auto", "int8", "f32", "f16", "bf16"] {
            assert_eq!(name.parse::<Dtype>().unwrap().to_string(), name);
        }
        assert!("sse".parse::<Kernels>().is_err());
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }
}
