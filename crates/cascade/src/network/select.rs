//! Selection of the backend that runs a network.

use super::cpu::{self, Isa};
use super::{InputLayer, Network, candle};
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::options::{Device, Dtype, Options};

/// Loads the network of an opened stage.
///
/// `input` is the stage's own input layer. [`Network::argmax`] excludes the ids in `masked`. Fails with
/// [`Error::Device`] if the device does not support the options, with [`Error::Checkpoint`] or [`Error::Candle`] if a
/// tensor is missing or malformed.
pub(crate) fn load(
    checkpoint: &mut Checkpoint,
    input: InputLayer,
    masked: Vec<u32>,
    options: &Options,
) -> Result<Box<dyn Network>, Error> {
    match checkpoint.device.clone() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::load(checkpoint, &device, input, masked, options.dtype),
        Device::Cpu => {
            let Checkpoint { network: config, weights, .. } = checkpoint;
            match cpu_isa(options, cpu::supports(weights, config))? {
                Some(isa) => Ok(Box::new(cpu::Network::load(weights, config, isa, input, masked)?)),
                None => Ok(Box::new(candle::Network::load(weights, config, input, masked)?)),
            }
        }
    }
}

/// Returns the instruction set of the CPU kernels, or `None` if candle computes in f32. `supported` is true if the
/// kernels support all weights. Fails with [`Error::Device`] if the options are not available on a CPU.
fn cpu_isa(options: &Options, supported: bool) -> Result<Option<Isa>, Error> {
    match options.dtype {
        Dtype::F32 => Ok(None),
        Dtype::Auto | Dtype::Int8 if supported => Isa::select(options.kernels).map(Some),
        Dtype::Auto => Ok(None),
        Dtype::Int8 => Err(Error::Device(
            "int8 needs weights in Q4_0 or Q8_0, which this checkpoint does not have: use --dtype auto".into(),
        )),
        dtype @ (Dtype::F16 | Dtype::Bf16) => {
            Err(Error::Device(format!("{dtype} is not supported on a CPU: use --dtype auto or f32")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_runs_neither_bf16_nor_f16() {
        let select = |dtype, supported| cpu_isa(&Options { dtype, ..Default::default() }, supported);
        assert!(select(Dtype::Bf16, true).is_err());
        assert!(select(Dtype::F16, true).is_err());
        assert!(select(Dtype::Int8, false).is_err());
        assert!(matches!(select(Dtype::Auto, true), Ok(Some(_))));
        assert!(matches!(select(Dtype::Auto, false), Ok(None)));
        assert!(matches!(select(Dtype::F32, true), Ok(None)));
    }
}
