//! Groups of arguments that several commands share, and parsers of argument values.

mod filter;
mod model;
mod remote;
mod verbosity;
mod write;

use c3_client::Expected;
use c3_server::units::TimeSpan;
use c3_types::{DocumentRef, Invalid};

pub(crate) use filter::FilterArgs;
pub(crate) use model::ModelArgs;
pub(crate) use remote::{KEY_VARIABLE, RemoteArgs, TargetArgs, check_ratios};
pub(crate) use verbosity::{LogRole, Verbosity};
pub(crate) use write::WriteArgs;

/// Precondition of a change to a name or to labels.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PreconditionArgs {
    /// Change only if the current version token is TOKEN
    ///
    /// `c3 name get` prints the token of a name. `c3 label` prints the token of a document's labels.
    #[arg(long, value_name = "TOKEN", conflicts_with = "if_absent")]
    if_match: Option<String>,
    /// Fail if the name exists already or, for `c3 label`, if the document has labels already
    #[arg(long)]
    if_absent: bool,
}

impl PreconditionArgs {
    pub(crate) fn expected(&self) -> Expected {
        match &self.if_match {
            Some(token) => Expected::Token(token.clone()),
            None if self.if_absent => Expected::Absent,
            None => Expected::Any,
        }
    }
}

/// Parses a whole number of 1 or more.
pub(crate) fn positive(typed: &str) -> Result<usize, String> {
    typed.parse().ok().filter(|number| *number > 0).ok_or("give a whole number of 1 or more".to_owned())
}

/// Parses a duration in whole seconds, for example `90` or `1h 30m`.
pub(crate) fn seconds(typed: &str) -> Result<u64, String> {
    let TimeSpan(span) = typed.parse()?;
    if span.subsec_nanos() == 0 { Ok(span.as_secs()) } else { Err("give whole seconds".to_owned()) }
}

/// Parses the time until a document expires, in whole seconds of 1 or more.
pub(crate) fn lifetime(typed: &str) -> Result<u64, String> {
    match seconds(typed)? {
        0 => Err("give at least 1s".to_owned()),
        seconds => Ok(seconds),
    }
}

/// Parses an id, a prefix of an id, or `@NAME`, and returns its canonical form. The gateway resolves it to a document.
pub(crate) fn document_ref(typed: &str) -> Result<String, Invalid> {
    typed.parse::<DocumentRef>().map(|document| document.to_string())
}
