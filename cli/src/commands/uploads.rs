//! `c3 uploads`: lists interrupted uploads.

use indicatif::HumanBytes;
use serde_json::json;

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::output::format::{count, time_until};

/// Lists the uploads that can be resumed.
pub(crate) async fn run(args: RemoteArgs) -> Result<(), CliError> {
    let uploads = args.connect().await?.uploads().await?;
    let mut text = String::new();
    for upload in &uploads {
        let (bytes, tokens) = (HumanBytes(upload.bytes_done), count(upload.tokens_done, "token"));
        let expiry = time_until(upload.expires_unix_ms);
        text += &format!("{}  {bytes}, {tokens} done; {expiry}\n", upload.name);
    }
    text += &format!("uploads: {}", uploads.len());
    args.format.print(text, &json!({ "uploads": uploads }))
}
