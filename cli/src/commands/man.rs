//! `c3 man`: writes man pages.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::error::CliError;
use crate::output::Format;
use crate::output::format::count;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder to write, such as ~/.local/share/man/man1; it is created
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Writes a page for `c3`, whose parser is `c3`, and for each command.
pub(crate) fn run(args: &ManArgs, c3: clap::Command) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::at(&args.dir, &error);
    fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(c3, &args.dir).map_err(failed)?;
    let pages = fs::read_dir(&args.dir).map_err(failed)?.flatten();
    let is_page = |name: &str| name.starts_with("c3") && name.ends_with(".1");
    let mut pages = Vec::from_iter(pages.filter_map(|page| page.file_name().into_string().ok()));
    pages.retain(|name| is_page(name));
    pages.sort();
    let text = format!("wrote {} to {}", count(pages.len() as u64, "page"), args.dir.display());
    args.format.print(text, &json!({ "dir": args.dir, "pages": pages }))
}
