//! `c3 store`: encrypts a store in place, and shows and rotates its keys. Works on the store itself, without a gateway.

use c3_gateway::{Config, master_key};
use c3_store::{BackendSettings, EncryptMode, EncryptProgress, MasterKeySource, Size, Store, Stores};
use c3_types::TenantId;
use clap::Subcommand;
use futures::{TryStreamExt, pin_mut};
use serde_json::json;

use crate::error::{CliError, FAILED};
use crate::output::format::count;
use crate::output::{Format, notice, warn};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show the keys of each tenant, and what is not encrypted
    #[command(after_help = "Example:\n  c3 store keys --data /data --master-key file:/run/secrets/c3-master-key")]
    Keys(StoreArgs),
    /// Encrypt the objects that are not encrypted yet
    ///
    /// Gateways may run meanwhile if all of them have the master key. An interrupted run loses nothing: run the command
    /// again to continue. Only one run at a time may work on a store.
    #[command(after_help = "Example:\n  c3 store encrypt --data /data --master-key file:/run/secrets/c3-master-key")]
    Encrypt(EncryptArgs),
    /// Add a data key, and wrap all keys with the first --master-key
    ///
    /// New objects are encrypted with the new data key.
    ///
    /// To replace the master key, give the new one and then the old one to all gateways and to this command. Restart
    /// the gateways with only the new one afterwards.
    #[command(after_help = "Example:\n  c3 store rotate --data /data --master-key file:NEW --master-key file:OLD")]
    Rotate(StoreArgs),
}

/// The store of the gateways.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Folder of the document store, or URL of an object store: s3://, gs:// or az://
    #[arg(long, env = "C3_DATA", value_name = "FOLDER", default_value_t = Config::default().data)]
    data: String,
    /// Master key of the store: file:PATH, env:VARIABLE or aws-kms:KEY; repeatable
    #[arg(long = "master-key", env = "C3_MASTER_KEY", value_name = "SOURCE", value_delimiter = ',',
        value_parser = master_key, hide_env_values = true)]
    master_keys: Vec<MasterKeySource>,
    /// Only this tenant [default: all tenants]
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    format: Format,
}

/// Arguments of `store encrypt`.
#[derive(Debug, clap::Args)]
pub(crate) struct EncryptArgs {
    /// Also encrypt again what former data keys encrypted, and delete these keys if they are older than 10 minutes
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    store: StoreArgs,
}

impl StoreArgs {
    /// Opens the backend.
    async fn open(&self) -> Result<Stores, CliError> {
        open(&self.data, &self.master_keys).await
    }

    /// Returns the stores of the chosen tenants.
    async fn tenants(&self) -> Result<Vec<(TenantId, Store)>, CliError> {
        let stores = self.open().await?;
        let tenants = match &self.tenant {
            Some(tenant) => vec![tenant.clone()],
            None => stores.tenants().await.map_err(failed)?,
        };
        let open = |tenant: TenantId| (tenant.clone(), stores.tenant(&tenant));
        Ok(tenants.into_iter().map(open).collect())
    }
}

/// Opens the store of the gateways without a gateway.
pub(super) async fn open(data: &str, master_keys: &[MasterKeySource]) -> Result<Stores, CliError> {
    let cloud = Config::default().with_cloud(std::env::vars_os()).cloud;
    let settings = BackendSettings { cloud, master_keys: master_keys.to_vec(), ..data.into() };
    Stores::open(settings).await.map_err(failed)
}

/// Returns the error of work on a store.
pub(super) fn failed(error: impl ToString) -> CliError {
    let message = error.to_string();
    let remedy = if message.contains("No such file") { ": check the path" } else { "" };
    CliError::Failed(message + remedy)
}

/// Describes a number of objects and their size.
pub(super) fn describe(size: Size) -> String {
    format!("{} ({})", count(size.objects, "object"), count(size.bytes, "byte"))
}

pub(crate) async fn run(command: StoreCommand) -> Result<(), CliError> {
    match command {
        StoreCommand::Keys(args) => keys(&args).await,
        StoreCommand::Encrypt(args) => encrypt(&args).await,
        StoreCommand::Rotate(args) => rotate(&args).await,
    }
}

async fn keys(args: &StoreArgs) -> Result<(), CliError> {
    for (tenant, store) in args.tenants().await? {
        if store.is_destroyed().await.map_err(failed)? {
            args.format.print(format!("{tenant}: shredded"), &json!({ "tenant": tenant, "shredded": true }))?;
            continue;
        }
        let status = store.key_status().await.map_err(failed)?;
        let masters = Vec::from_iter(status.master_keys);
        let text = match status.data_keys.last() {
            None => format!("{tenant}: not encrypted; {}", describe(status.plain)),
            Some(current) => format!(
                "{tenant}: data key {current} of {}, master key {}; not encrypted: {}",
                status.data_keys.len(),
                masters.join(", "),
                describe(status.plain)
            ),
        };
        let record = json!({
            "tenant": tenant,
            "data_keys": status.data_keys,
            "master_keys": masters,
            "plain_objects": status.plain.objects,
            "plain_bytes": status.plain.bytes,
        });
        args.format.print(text, &record)?;
    }
    Ok(())
}

async fn encrypt(args: &EncryptArgs) -> Result<(), CliError> {
    let mode = if args.again { EncryptMode::Outdated } else { EncryptMode::Plain };
    let mut is_complete = true;
    for (tenant, store) in args.store.tenants().await? {
        if store.is_destroyed().await.map_err(failed)? {
            continue;
        }
        let steps = store.encrypt(mode);
        pin_mut!(steps);
        let mut last = EncryptProgress::default();
        while let Some(progress) = steps.try_next().await.map_err(failed)? {
            if !progress.is_done && !args.store.format.json {
                notice(format_args!("{tenant}: encrypted {} so far", describe(progress.encrypted)));
            }
            last = progress;
        }
        for object in &last.damaged {
            warn(format_args!("{object} is damaged and was left: run `c3 fsck`"));
        }
        is_complete &= last.damaged.is_empty();
        let retired = match last.retired.len() {
            0 => String::new(),
            number => format!("; deleted {}", count(number as u64, "former data key")),
        };
        let left = last.damaged.len() as u64;
        let text = format!("{tenant}: encrypted {}; {left} left{retired}", describe(last.encrypted));
        let record = json!({
            "tenant": tenant,
            "encrypted_objects": last.encrypted.objects,
            "encrypted_bytes": last.encrypted.bytes,
            "left": left,
            "retired_keys": last.retired,
        });
        args.store.format.print(text, &record)?;
    }
    if is_complete { Ok(()) } else { Err(CliError::Reported(FAILED)) }
}

async fn rotate(args: &StoreArgs) -> Result<(), CliError> {
    for (tenant, store) in args.tenants().await? {
        if store.is_destroyed().await.map_err(failed)? {
            continue;
        }
        let rotation = store.rotate_keys().await.map_err(failed)?;
        let (number, rewrapped) = (rotation.data_key, rotation.rewrapped);
        let text = format!("{tenant}: data key {number} is new; wrapped {} anew", count(rewrapped, "key"));
        args.format.print(text, &json!({ "tenant": tenant, "data_key": number, "rewrapped_keys": rewrapped }))?;
    }
    Ok(())
}
