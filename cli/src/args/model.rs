//! Flags of the nodes that run inside this process.

use std::ffi::OsString;

use c3_server::arguments::ignore_empty_variables;

use crate::error::CliError;

/// Flags for the most common node settings. All other node settings can be changed only by environment variables.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Directory of the model's files [default: the model built into this program]
    #[arg(long, value_name = "DIR", env = "C3_MODEL")]
    model: Option<OsString>,
    /// Device that runs the model: auto, cpu or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", env = "C3_DEVICE")]
    device: Option<OsString>,
    /// Data type that the model computes in: auto, int8, f32, f16 or bf16 [default: auto]
    #[arg(long, value_name = "DTYPE", env = "C3_DTYPE")]
    dtype: Option<OsString>,
    /// Compute threads of each node [default: one per core]
    #[arg(long, value_name = "THREADS", env = "C3_THREADS")]
    threads: Option<OsString>,
}

impl ModelArgs {
    /// Returns the configuration `C` of a compressor or decoder node. Passes the flags and environment variables to the
    /// parser of the node's own program, so that `c3` accepts the same values as that program.
    pub(crate) fn node_config<C: clap::Args>(&self) -> Result<C, CliError> {
        let flags = [
            ("--model", &self.model),
            ("--device", &self.device),
            ("--dtype", &self.dtype),
            ("--threads", &self.threads),
        ];
        let given = flags.into_iter().filter_map(|(flag, value)| Some([OsString::from(flag), value.clone()?]));
        let command = C::augment_args(clap::Command::new("node").no_binary_name(true));
        let matches = ignore_empty_variables(command).try_get_matches_from(given.flatten())?;
        Ok(C::from_arg_matches(&matches)?)
    }
}
