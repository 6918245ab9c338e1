//! `c3 key`: creates, lists and revokes API keys in an access file.

use std::path::PathBuf;
use std::time::SystemTime;

use c3_access::file::whole_seconds;
use c3_access::{AccessFile, ApiKey, FileError, KeyRecord};
use c3_server::access::Scope;
use c3_server::units::TimeSpan;
use c3_types::{Invalid, TenantId};
use clap::Subcommand;
use serde_json::json;

use crate::error::CliError;
use crate::output::{Align, Cell, Column, Format, Table, notice, style};

const COLUMNS: &[Column] =
    &[("id", Align::Left), ("tenant", Align::Left), ("scopes", Align::Left), ("state", Align::Left)];

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key and print it; it cannot be shown again
    #[command(after_help = "Example:\n  c3 key create --access access.json --scope read --expires 30d")]
    Create(CreateArgs),
    /// List keys, without their secrets
    #[command(after_help = "Example:\n  c3 key list --access access.json")]
    List(ListArgs),
    /// Revoke a key
    #[command(after_help = "Example:\n  c3 key revoke --access access.json 0123456789")]
    Revoke(RevokeArgs),
}

/// The access file of the gateways.
#[derive(Debug, clap::Args)]
pub(crate) struct AccessFileArgs {
    /// Access file of the gateways; created if missing
    #[arg(long = "access", env = "C3_ACCESS", value_name = "FILE")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Arguments of `key create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Tenant whose documents the key gives access to
    #[arg(long, default_value_t)]
    tenant: TenantId,
    /// Scope of the key: read, write, delete or admin; repeatable. No scope includes another one
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Time after which the key becomes invalid, such as 30d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = TimeSpan::positive)]
    expires: Option<TimeSpan>,
    #[command(flatten)]
    file: AccessFileArgs,
}

/// Arguments of `key list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only keys of this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    file: AccessFileArgs,
}

/// Arguments of `key revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Id of the key: the part between the two underscores
    id: String,
    #[command(flatten)]
    file: AccessFileArgs,
}

pub(crate) fn run(command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Create(args) => create(args),
        KeyCommand::List(args) => list(&args),
        KeyCommand::Revoke(args) => revoke(&args),
    }
}

fn create(args: CreateArgs) -> Result<(), CliError> {
    let CreateArgs { tenant, scopes, expires, file } = args;
    let key = ApiKey::random().map_err(|error| CliError::Failed(format!("no random numbers: {error}")))?;
    let expires = expires.map(|TimeSpan(span)| whole_seconds() + span);
    let record = KeyRecord::new(&key, tenant, scopes.into_iter().collect(), expires);
    AccessFile::edit(&file.path, |content| {
        if !content.has_tenant(&record.tenant) {
            let problem = format!("there is no tenant {}: create it with `c3 tenant create`", record.tenant);
            return Err(FileError::Edit(problem));
        }
        content.keys.push(record.clone());
        Ok(())
    })
    .map_err(failed)?;
    if !file.format.json {
        notice(format_args!("key {} of tenant {}; the key is shown only now:", record.id, record.tenant));
    }
    file.format.print(key.expose(), &json!({ "id": record.id, "tenant": record.tenant, "key": key.expose() }))
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let content = AccessFile::read(&args.file.path).map_err(failed)?;
    let is_listed = |key: &&KeyRecord| args.tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant);
    let keys = Vec::from_iter(content.keys.iter().filter(is_listed));
    let scopes = |key: &KeyRecord| Vec::from_iter(key.scopes.iter().map(Scope::as_str));
    if args.file.format.json {
        let keys = keys.iter().map(|key| {
            json!({
                "id": key.id,
                "tenant": key.tenant,
                "scopes": scopes(key),
                "created": time(key.created),
                "expires": key.expires.map(time),
                "revoked": key.revoked.map(time),
                "valid": key.is_valid_at(SystemTime::now()),
            })
        });
        return args.file.format.print("", &json!({ "keys": Vec::from_iter(keys) }));
    }
    let mut table = Table::new(COLUMNS);
    for key in keys {
        let state = match (key.revoked, key.expires) {
            (Some(revoked), _) => format!("revoked {}", time(revoked)),
            (None, Some(expires)) if key.is_valid_at(SystemTime::now()) => format!("expires {}", time(expires)),
            (None, Some(expires)) => format!("expired {}", time(expires)),
            (None, None) => "valid".to_owned(),
        };
        let color = if key.is_valid_at(SystemTime::now()) { style::GOOD } else { style::BAD };
        let cells = [key.id.to_string(), key.tenant.to_string(), scopes(key).join(",")].map(Cell::from);
        table.row(cells.into_iter().chain([Cell::new(state).style(color)]))?;
    }
    table.finish()
}

fn revoke(args: &RevokeArgs) -> Result<(), CliError> {
    let edited = AccessFile::edit(&args.file.path, |content| {
        let key = content.keys.iter_mut().find(|key| key.id.as_str() == args.id);
        let Some(key) = key else {
            return Err(FileError::Edit(format!("there is no key {}: `c3 key list` shows the keys", args.id)));
        };
        key.revoked.get_or_insert_with(whole_seconds);
        Ok(key.clone())
    });
    let key = edited.map_err(failed)?;
    let text = format!("revoked key {} of tenant {}", key.id, key.tenant);
    args.file.format.print(text, &json!({ "id": key.id, "tenant": key.tenant, "revoked": key.revoked.map(time) }))
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

pub(super) fn failed(error: FileError) -> CliError {
    match error {
        FileError::Edit(message) => Invalid::new("access", message).into(),
        FileError::Io { path, source } => CliError::at(&path, &source),
        error => CliError::Failed(format!("{error}: correct the file, or give another one with --access")),
    }
}
