//! A tenant whose keys are destroyed, beside one that stays.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use c3_server::access::Scope;
use tempfile::TempDir;
use tonic::Code;

use super::content::Content;
use super::{c3, master_key, succeed, with_keys};
use crate::harness::access::Access;
use crate::harness::cluster::{ClusterSpec, files_under};
use crate::harness::external::ExternalServer;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until a running gateway has forgotten destroyed keys; they are listed every 15 s.
const FORGET_LIMIT: Duration = Duration::from_secs(20);

/// Shreds a tenant while a gateway runs. Nothing of the tenant may be readable afterwards, even if its objects are
/// restored from a copy, and with everything that Redis still has.
pub(super) async fn shred() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-shred-")?;
    let redis = ExternalServer::redis(folder.path(), None).await?;
    let key = master_key(folder.path(), 7)?;
    let access = Access::with_tenants(&["gone", "kept"])?;
    let admin = access.key("default", &Scope::ALL)?;
    let mut gateway_args = with_keys(&[&key]);
    gateway_args.extend(["--redis".to_owned(), format!("redis://{}", redis.address), "--access".to_owned()]);
    gateway_args.push(access.path().display().to_string());
    let spec = ClusterSpec { gateway_args, api_key: Some(admin), ..ClusterSpec::default() };
    let keys = [access.key("gone", &Scope::ALL)?, access.key("kept", &Scope::ALL)?];
    let mut cluster = spec.start().await?;
    let [gone, kept] = keys.each_ref().map(|key| GatewayApi::with_key(&cluster.gateway, Some(key)));
    let (gone, kept) = (gone?, kept?);
    let (lost, stays) = (Content::put(&gone, 2000).await?, Content::put(&kept, 2000).await?);
    let readable_before = lost.len() - lost.lost(&gone).await;

    let tenant = cluster.data().join("tenants/gone/sealed");
    let copies = Vec::from_iter(files_under(&tenant)?.into_iter().map(|file| (fs::read(&file), file)));
    let printed = succeed(c3(&["tenant", "shred", "gone", "--confirm", "gone"], &cluster.data(), &[&key])).await?;
    let files_left = if tenant.exists() { files_under(&tenant)?.len() } else { 0 };
    let forgotten = until("the keys to be forgotten", FORGET_LIMIT, async || {
        (lost.lost(&gone).await == lost.len() && gone.ids().await.is_err()).then_some(())
    });
    let forgotten = forgotten.await.is_ok();

    // Whoever has a copy of the objects, and the Redis cache, still has no keys.
    for (bytes, file) in copies {
        fs::create_dir_all(file.parent().unwrap_or(&tenant))?;
        fs::write(file, bytes?)?;
    }
    cluster.restart_gateway().await?;
    let [gone, kept] = keys.each_ref().map(|key| GatewayApi::with_key(&cluster.gateway, Some(key)));
    let (gone, kept) = (gone?, kept?);
    let readable = lost.len() - lost.lost(&gone).await;
    let refused = gone.ids().await.err().map(|status| status.code());
    Ok(vec![
        Quantity::equal("shred-readable-before", readable_before, lost.len()),
        Quantity::observed("shred-report", printed.trim(), printed.contains("destroyed"), "names the tenant"),
        Quantity::equal("shred-objects-left", files_left, 0),
        Quantity::holds("shred-forgotten", forgotten, format!("by the running gateway within {FORGET_LIMIT:?}")),
        Quantity::equal("shred-objects-that-decrypt", readable, 0),
        Quantity::observed(
            "shred-refusal",
            format!("{refused:?}"),
            refused.is_some_and(|code| code == Code::Unavailable || code == Code::FailedPrecondition),
            "a clear error",
        ),
        Quantity::equal("shred-others-lost", stays.lost(&kept).await, 0),
    ])
}
