//! `c3 tenant shred`: destroys the keys of a tenant, and deletes its objects.

use c3_gateway::{Config, master_key};
use c3_store::MasterKeySource;
use c3_types::TenantId;
use serde_json::json;

use super::store::{describe, failed, open};
use crate::error::CliError;
use crate::output::Format;

/// Arguments of `tenant shred`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShredArgs {
    /// Tenant to destroy
    tenant: TenantId,
    /// The tenant's name once more, so that no tenant is destroyed by accident
    #[arg(long, value_name = "TENANT")]
    confirm: TenantId,
    /// Folder of the document store, or URL of an object store: s3://, gs:// or az://
    #[arg(long, env = "C3_DATA", value_name = "FOLDER", default_value_t = Config::default().data)]
    data: String,
    /// Master key of the store: file:PATH, env:VARIABLE or aws-kms:KEY; repeatable
    #[arg(long = "master-key", env = "C3_MASTER_KEY", value_name = "SOURCE", value_delimiter = ',',
        value_parser = master_key, hide_env_values = true)]
    master_keys: Vec<MasterKeySource>,
    #[command(flatten)]
    format: Format,
}

/// Destroys a tenant's keys first, so that nothing of it can be read even if the deletion of its objects is
/// interrupted.
pub(crate) async fn run(args: ShredArgs) -> Result<(), CliError> {
    let ShredArgs { tenant, confirm, data, master_keys, format } = args;
    if confirm != tenant {
        return Err(CliError::Usage(format!("--confirm must repeat the name of the tenant, {tenant}")));
    }
    let store = open(&data, &master_keys).await?.tenant(&tenant);
    let deleted = store.shred().await.map_err(failed)?;
    let text = format!("destroyed the keys of {tenant} and deleted {}", describe(deleted));
    let record = json!({ "tenant": tenant, "deleted_objects": deleted.objects, "deleted_bytes": deleted.bytes });
    format.print(text, &record)
}
