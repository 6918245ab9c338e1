//! An encrypted store in a folder and in S3, and its Redis.

use anyhow::Result;
use redis::AsyncCommands;
use tempfile::TempDir;

use super::content::Content;
use super::{master_key, with_keys};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external::ExternalServer;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::fsck;
use crate::suites::store::s3::S3;

/// Puts documents into encrypted stores, searches every byte and name for traces of them, and reads them after a
/// restart.
pub(super) async fn sealed() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-sealed-")?;
    let redis = ExternalServer::redis(folder.path(), None).await?;
    let url = format!("redis://{}", redis.address);
    let key = master_key(folder.path(), 7)?;
    let gateway_args = Vec::from_iter(with_keys(&[&key]).into_iter().chain(["--redis".to_owned(), url.clone()]));
    let spec = ClusterSpec { gateway_args, ..ClusterSpec::default() };

    let cluster = spec.clone().start().await?;
    let (content, cluster, mut quantities) = exercise(cluster, "folder").await?;
    let models = fingerprints(&cluster).await?;
    let (traces, files) = content.traces_under(&models, &cluster.data())?;
    quantities.push(Quantity::equal("sealed-folder-traces", traces, Vec::new()));
    quantities.push(Quantity::observed("sealed-folder-files", files, files > 3, "> 3"));
    drop(cluster);

    let values = redis_values(&url).await?;
    let traces = values.iter().flat_map(|(key, value)| content.traces(&models, key, value));
    quantities.push(Quantity::equal("sealed-redis-traces", Vec::from_iter(traces), Vec::new()));
    quantities.push(Quantity::observed("sealed-redis-values", values.len(), !values.is_empty(), "> 0"));

    let s3 = S3::start().await?;
    let (content, _cluster, of_s3) = exercise(spec.over_s3(s3.address()).start().await?, "s3").await?;
    let (traces, files) = content.traces_under(&models, s3.folder())?;
    quantities.extend(of_s3);
    quantities.push(Quantity::equal("sealed-s3-traces", traces, Vec::new()));
    quantities.push(Quantity::observed("sealed-s3-files", files, files > 3, "> 3"));
    Ok(quantities)
}

/// Puts documents, and reads them before and after a restart.
async fn exercise(cluster: Cluster, what: &str) -> Result<(Content, Cluster, Vec<Quantity>)> {
    let api = cluster.api()?;
    let content = Content::put(&api, 1000).await?;
    let before = content.lost(&api).await;
    let listed = api.ids().await?.len();
    let cluster = cluster.restart().await?;
    let api = cluster.api()?;
    let quantities = vec![
        Quantity::equal(format!("sealed-{what}-lost"), before + content.lost(&api).await, 0),
        Quantity::equal(format!("sealed-{what}-listed"), listed, content.len()),
        Quantity::equal(format!("sealed-{what}-findings"), fsck(&api, false).await?.len(), 0),
    ];
    Ok((content, cluster, quantities))
}

/// Returns the fingerprints of the models, which paths of plain objects contain.
async fn fingerprints(cluster: &Cluster) -> Result<Vec<String>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let described = [cluster.describe_compressor().await?, cluster.describe_decoder().await?];
    let cascades = described.iter().filter_map(|described| described.cascade.as_ref());
    let of_models = cascades.flat_map(|cascade| [&cascade.compressor_fingerprint, &cascade.decoder_fingerprint]);
    Ok(of_models.filter(|fingerprint| !fingerprint.is_empty()).map(|fingerprint| hex(fingerprint)).collect())
}

/// Returns all keys and values. Keys are converted to text, with a replacement for other bytes.
pub(super) async fn redis_values(url: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let keys: Vec<Vec<u8>> = connection.keys("*").await?;
    let mut values = Vec::new();
    for key in keys {
        let value: Vec<u8> = connection.get(&key).await?;
        // Raw bytes of hashes in the key are searched like those of a value.
        values.push((String::from_utf8_lossy(&key).into_owned(), [key, value].concat()));
    }
    Ok(values)
}
