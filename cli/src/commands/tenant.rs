//! `c3 tenant`: creates and lists tenants in an access file, and sets their quotas.

use std::fmt;
use std::str::FromStr;

use c3_access::{AccessFile, FileError, TenantRecord};
use c3_server::units::Size;
use c3_types::TenantId;
use clap::Subcommand;
use serde_json::json;

use super::key::{AccessFileArgs, failed};
use super::shred::{self, ShredArgs};
use crate::error::CliError;
use crate::output::{Align, Cell, Column, Table};

const COLUMNS: &[Column] = &[
    ("tenant", Align::Left),
    ("requests/min", Align::Right),
    ("tokens/min", Align::Right),
    ("stored", Align::Right),
    ("streams", Align::Right),
    ("cache weight", Align::Right),
];

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant
    #[command(after_help = "Example:\n  c3 tenant create --access access.json acme --stored-size-max 10GiB")]
    Create(TenantArgs),
    /// Change quotas of a tenant
    ///
    /// Quotas that are not given stay.
    #[command(after_help = "Example:\n  c3 tenant set --access access.json acme --requests-per-minute none")]
    Set(TenantArgs),
    /// List tenants with their quotas
    #[command(after_help = "Example:\n  c3 tenant list --access access.json")]
    List(AccessFileArgs),
    /// Destroy a tenant's encryption keys and delete its documents
    ///
    /// Nobody can restore them. Running gateways forget the keys after 15 seconds at most. The name cannot be used
    /// again.
    #[command(
        after_help = "Example:\n  c3 tenant shred acme --confirm acme --master-key file:/run/secrets/c3-master-key"
    )]
    Shred(ShredArgs),
}

/// Arguments of `tenant create` and `tenant set`.
#[derive(Debug, clap::Args)]
pub(crate) struct TenantArgs {
    /// Name: 1 to 32 of a to z, digits and -, beginning with a letter
    tenant: TenantId,
    #[command(flatten)]
    quotas: QuotaArgs,
    #[command(flatten)]
    file: AccessFileArgs,
}

/// Quotas. Each gateway counts for itself.
#[derive(Debug, clap::Args)]
pub(crate) struct QuotaArgs {
    /// Maximum calls per minute, or `none`
    #[arg(long, value_name = "CALLS")]
    requests_per_minute: Option<Quota<u64>>,
    /// Maximum text tokens per minute that are stored, compressed or read, or `none`
    #[arg(long, value_name = "TOKENS")]
    tokens_per_minute: Option<Quota<u64>>,
    /// Maximum size of all stored objects, or `none`
    #[arg(long, value_name = "SIZE")]
    stored_size_max: Option<Quota<Size>>,
    /// Maximum concurrent calls, or `none`
    #[arg(long, value_name = "CALLS")]
    streams_max: Option<Quota<u64>>,
    /// Weight of the tenant's share of the caches; the share is the weight divided by the weights of all tenants
    #[arg(long, value_name = "WEIGHT")]
    cache_weight: Option<u32>,
}

/// A quota; `None` for no limit.
#[derive(Clone, Copy, Debug)]
struct Quota<T>(Option<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for Quota<T> {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        match typed {
            "none" => Ok(Self(None)),
            typed => typed.parse().map(|quota| Self(Some(quota))).map_err(|error: T::Err| error.to_string()),
        }
    }
}

impl QuotaArgs {
    fn apply(&self, record: &mut TenantRecord) {
        let set = |target: &mut Option<u64>, quota: Option<Option<u64>>| {
            if let Some(quota) = quota {
                *target = quota;
            }
        };
        set(&mut record.requests_per_minute, self.requests_per_minute.map(|Quota(quota)| quota));
        set(&mut record.tokens_per_minute, self.tokens_per_minute.map(|Quota(quota)| quota));
        set(&mut record.stored_bytes_max, self.stored_size_max.map(|Quota(size)| size.map(|Size(bytes)| bytes)));
        set(&mut record.streams_max, self.streams_max.map(|Quota(quota)| quota));
        record.cache_weight = self.cache_weight.unwrap_or(record.cache_weight);
    }
}

pub(crate) async fn run(command: TenantCommand) -> Result<(), CliError> {
    match command {
        TenantCommand::Create(args) => edit(&args, "created", |content, tenant| match content.has_tenant(tenant) {
            true => Err(FileError::Edit(format!("the tenant {tenant} exists: change it with `c3 tenant set`"))),
            false => Ok(TenantRecord::default()),
        }),
        TenantCommand::Set(args) => edit(&args, "set", |content, tenant| {
            let missing = || FileError::Edit(format!("there is no tenant {tenant}: create it with `c3 tenant create`"));
            content.tenant(tenant).ok_or_else(missing)
        }),
        TenantCommand::Shred(args) => shred::run(args).await,
        TenantCommand::List(args) => list(&args),
    }
}

fn edit(
    args: &TenantArgs,
    done: &str,
    old: impl FnOnce(&AccessFile, &TenantId) -> Result<TenantRecord, FileError>,
) -> Result<(), CliError> {
    let TenantArgs { tenant, quotas, file } = args;
    let edited = AccessFile::edit(&file.path, |content| {
        let mut record = old(content, tenant)?;
        quotas.apply(&mut record);
        content.tenants.insert(tenant.clone(), record.clone());
        Ok(record)
    });
    let record = edited.map_err(failed)?;
    file.format.print(format!("{done} tenant {tenant}"), &json!({ "tenant": tenant, "quotas": record }))
}

fn list(args: &AccessFileArgs) -> Result<(), CliError> {
    let content = AccessFile::read(&args.path).map_err(failed)?;
    let tenants = Vec::from_iter(content.all_tenants());
    if args.format.json {
        let tenants = tenants.iter().map(|(tenant, record)| json!({ "tenant": tenant, "quotas": record }));
        return args.format.print("", &json!({ "tenants": Vec::from_iter(tenants) }));
    }
    let mut table = Table::new(COLUMNS);
    for (tenant, record) in tenants {
        let quotas = [
            record.requests_per_minute.map(|quota| quota.to_string()),
            record.tokens_per_minute.map(|quota| quota.to_string()),
            record.stored_bytes_max.map(|bytes| Size(bytes).to_string()),
            record.streams_max.map(|quota| quota.to_string()),
            Some(record.cache_weight.to_string()),
        ];
        let quotas = quotas.map(|quota| Cell::new(quota.unwrap_or_else(|| "none".to_owned())));
        table.row([Cell::new(tenant)].into_iter().chain(quotas))?;
    }
    table.finish()
}
