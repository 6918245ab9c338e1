//! Compression options: arguments of every command that compresses a text.

use std::str::FromStr;

use c3_client::{AutoBound, AutoRatio, LatentCodec, Stage, WriteOptions};
use c3_server::units::Size;

use crate::error::CliError;

/// Value of `--ratio` that lets the gateway choose a ratio for each shard, a part of the text of a few kilobytes.
const AUTO: &str = "auto";
/// Default fidelity bound of `--ratio auto`.
const FIDELITY_MIN: f64 = 0.999;

/// Compression options.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Compression")]
pub(crate) struct WriteArgs {
    /// Text tokens per latent token; `auto` lets the gateway choose for each shard (part of the text) [default: the
    /// model's, 20 for the default model]
    ///
    /// The default model was trained for the ratios 10, 20, 40 and 80 and accepts any whole number from 8 to 80.
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    ratio: Option<Ratio>,
    /// With --ratio auto: minimum fraction of tokens that the decoder predicts correctly [default: 0.999]
    ///
    /// The gateway uses the highest ratios that meet this bound, or the lowest of --ratios if none meets it.
    #[arg(long, value_name = "FRACTION", value_parser = fraction, conflicts_with = "stored_size_max")]
    fidelity_min: Option<f64>,
    /// With --ratio auto: maximum size of the document in the store
    ///
    /// The gateway uses the lowest ratios with which the document fits, or the highest of --ratios if it fits with
    /// none.
    #[arg(long, value_name = "SIZE")]
    stored_size_max: Option<Size>,
    /// With --ratio auto: ratios to choose from [default: 10,20,40,80]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = whole_ratio)]
    ratios: Vec<u32>,
    /// Name of the model to use, if the gateway serves several
    #[arg(long, value_name = "NAME")]
    pub(super) cascade: Option<String>,
    /// Encoding of the stored latents: f32, bf16, q8_0 or q4_0 [default: the model's]
    #[arg(long)]
    codec: Option<LatentCodec>,
    /// Skip verification; reading the document may then fail
    #[arg(long)]
    no_verify: bool,
}

/// Value of `--ratio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ratio {
    /// Text tokens per latent token.
    Fixed(u32),
    /// Chosen by the gateway for each shard.
    Auto,
}

impl FromStr for Ratio {
    type Err = String;

    /// Accepts `auto` and any whole number of 1 or more. Only the gateway knows the range of the model.
    fn from_str(typed: &str) -> Result<Self, String> {
        if typed == AUTO { Ok(Self::Auto) } else { whole_ratio(typed).map(Self::Fixed) }
    }
}

impl WriteArgs {
    /// Fails if a flag contradicts the value of `--ratio`. Clap cannot express rules that depend on a flag's value.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let has_bound = self.fidelity_min.is_some() || self.stored_size_max.is_some();
        let problem = match self.ratio {
            Some(Ratio::Auto) if self.no_verify => {
                "--no-verify cannot be used with --ratio auto, which chooses ratios by the result of verification"
            }
            Some(Ratio::Auto) => return Ok(()),
            _ if has_bound || !self.ratios.is_empty() => {
                "--fidelity-min, --stored-size-max and --ratios need --ratio auto"
            }
            _ => return Ok(()),
        };
        Err(CliError::Usage(problem.to_owned()))
    }

    /// Returns the stages whose nodes are needed to write a text with these options.
    pub(super) fn stages(&self) -> &'static [Stage] {
        if self.no_verify { &[Stage::Compressor] } else { &Stage::ALL }
    }

    /// Returns the fixed ratio or the candidates of `--ratio auto`; empty if the caller gave neither.
    pub(super) fn requested_ratios(&self) -> Vec<u32> {
        match self.ratio {
            Some(Ratio::Fixed(ratio)) => vec![ratio],
            _ => self.ratios.clone(),
        }
    }

    /// Returns the options for writing a text of `bytes` bytes; `None` means that the size is unknown.
    pub(crate) fn options(&self, bytes: Option<u64>) -> WriteOptions {
        let bound = match self.stored_size_max {
            Some(Size(bytes)) => AutoBound::StoredBytesMax(bytes),
            None => AutoBound::FidelityMin(self.fidelity_min.unwrap_or(FIDELITY_MIN)),
        };
        let (ratio, auto_ratio) = match self.ratio {
            Some(Ratio::Auto) => (None, Some(AutoRatio { ratios: self.ratios.clone(), bound })),
            Some(Ratio::Fixed(ratio)) => (Some(ratio), None),
            None => (None, None),
        };
        WriteOptions {
            cascade: self.cascade.clone(),
            ratio,
            codec: self.codec,
            skip_verification: self.no_verify,
            bytes,
            auto_ratio,
            ..WriteOptions::default()
        }
    }
}

fn whole_ratio(typed: &str) -> Result<u32, String> {
    match typed.parse() {
        Ok(0) | Err(_) => {
            Err("give a whole number of text tokens per latent; the default model takes 8 to 80".to_owned())
        }
        Ok(ratio) => Ok(ratio),
    }
}

fn fraction(typed: &str) -> Result<f64, String> {
    let fraction = typed.parse().ok().filter(|fraction| *fraction > 0.0 && *fraction <= 1.0);
    fraction.ok_or_else(|| "give a fraction above 0 and up to 1, for example 0.999".to_owned())
}
