//! How a text is to be compressed: the arguments of every command that writes.

use std::str::FromStr;

use c3_client::{AutoBound, AutoRatio, LatentCodec, WriteOptions};

/// What `--ratio` takes in place of a number.
const AUTO: &str = "auto";
/// Fidelity that chosen ratios keep where no bound is given.
const FIDELITY_MIN: f64 = 0.999;

/// How a text is to be compressed.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct WriteArgs {
    /// Text tokens that a latent token stands for: 10, 20, 40 and 80 are what the default model was made for, and it
    /// takes any whole number from 8 to 80; `auto` chooses [default: the model's, 20 for the default model]
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    pub(crate) ratio: Option<Ratio>,
    /// With `--ratio auto`: share of tokens that must need no help; the highest ratios are chosen [default: 0.999]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "stored_bytes_max")]
    pub(crate) fidelity_min: Option<f64>,
    /// With `--ratio auto`: most bytes that are stored; the lowest ratios are chosen
    #[arg(long, value_name = "BYTES")]
    pub(crate) stored_bytes_max: Option<u64>,
    /// With `--ratio auto`: what to choose from [default: 10,20,40,80]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = number)]
    pub(crate) ratios: Vec<u32>,
    /// Name of the model, where the gateway serves several
    #[arg(long, value_name = "NAME")]
    pub(crate) cascade: Option<String>,
    /// How latents are written: f32, bf16, q8_0 or q4_0 [default: the model's]
    #[arg(long)]
    pub(crate) codec: Option<LatentCodec>,
    /// Do not look whether the text comes back
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// A ratio, or that it is to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ratio {
    /// Text tokens a latent.
    Fixed(u32),
    /// Chosen for each shard.
    Auto,
}

impl FromStr for Ratio {
    type Err = String;

    /// A ratio that some model might take; which one it is the gateway knows.
    fn from_str(typed: &str) -> Result<Self, String> {
        if typed == AUTO { Ok(Self::Auto) } else { number(typed).map(Self::Fixed) }
    }
}

impl WriteArgs {
    /// Refuses what does not go together: which flags mean something depends on a value.
    pub(crate) fn check(&self) -> Result<(), String> {
        let bounds = self.fidelity_min.is_some() || self.stored_bytes_max.is_some();
        match self.ratio {
            Some(Ratio::Auto) if self.no_verify => {
                Err("--no-verify: ratios are chosen by what verification says".to_owned())
            }
            Some(Ratio::Auto) => Ok(()),
            _ if bounds || !self.ratios.is_empty() => {
                Err("--fidelity-min, --stored-bytes-max and --ratios need --ratio auto".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The ratios that are asked for.
    pub(crate) fn asked(&self) -> Vec<u32> {
        match self.ratio {
            Some(Ratio::Fixed(ratio)) => vec![ratio],
            _ => self.ratios.clone(),
        }
    }

    /// The options of a call for a text of `bytes` bytes, where known.
    pub(crate) fn options(&self, bytes: Option<u64>) -> WriteOptions {
        let bound = match self.stored_bytes_max {
            Some(most) => AutoBound::StoredBytesMax(most),
            None => AutoBound::FidelityMin(self.fidelity_min.unwrap_or(FIDELITY_MIN)),
        };
        let auto = || AutoRatio { ratios: self.ratios.clone(), bound };
        WriteOptions {
            cascade: self.cascade.clone(),
            ratio: match self.ratio {
                Some(Ratio::Fixed(ratio)) => Some(ratio),
                _ => None,
            },
            codec: self.codec,
            skip_verification: self.no_verify,
            bytes,
            auto_ratio: (self.ratio == Some(Ratio::Auto)).then(auto),
            ..WriteOptions::default()
        }
    }
}

fn number(typed: &str) -> Result<u32, String> {
    match typed.parse() {
        Ok(0) | Err(_) => {
            Err("not a whole number of text tokens; the default model takes 8 to 80".to_owned())
        }
        Ok(ratio) => Ok(ratio),
    }
}

fn share(typed: &str) -> Result<f64, String> {
    let share = typed.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "give a share over 0 and up to 1, as in 0.999".to_owned())
}
