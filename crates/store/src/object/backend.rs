//! Backends: a local folder, or the object store of a cloud at a URL.
//!
//! Cloud requests have a timeout, bounded retries and a concurrency limit. If the response to a write is lost,
//! [`super::idempotent_write`] retries the write safely.

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};

use crate::OpenError;
use crate::availability::Unavailable;
use crate::encryption::master::MasterKeySource;
use crate::object::folder::Folder;
use crate::object::idempotent_write::IdempotentStore;
use crate::object::identity;

/// Maximum timeout of opening a connection to a cloud. If the request timeout is shorter, it applies instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Supported addresses, for error messages.
const SCHEMES: &str = "a folder, file://, s3://BUCKET, gs://BUCKET or az://CONTAINER";

/// Names and values of environment variables that configure a cloud, including credentials. `Debug` prints only names.
#[derive(Clone, Default)]
pub struct CloudSettings(pub Vec<(String, String)>);

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Address and limits of a backend.
#[derive(Clone, Debug)]
pub struct BackendSettings {
    /// Path of a folder, or a URL.
    pub data: String,
    /// Settings of the cloud's client. Variables that the cloud's client does not know are ignored.
    pub cloud: CloudSettings,
    /// Timeout of one attempt of a request to a cloud.
    pub timeout: Duration,
    /// Time after which a failing request to a cloud is not retried any more.
    pub retry_timeout: Duration,
    /// Maximum concurrent requests to a cloud.
    pub requests_max: usize,
    /// Master keys. The first one is that of the store; the others are former ones, which still wrap keys of it.
    /// Without any, the store is not encrypted.
    pub master_keys: Vec<MasterKeySource>,
}

impl From<&str> for BackendSettings {
    fn from(data: &str) -> Self {
        Self {
            data: data.to_owned(),
            cloud: CloudSettings::default(),
            timeout: Duration::from_secs(10),
            retry_timeout: Duration::from_secs(30),
            requests_max: 64,
            master_keys: Vec::new(),
        }
    }
}

/// An open backend.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The local folder; `None` for a cloud.
    pub(crate) folder: Option<Folder>,
}

impl Backend {
    /// Opens a local folder, which is created if missing, or the object store at a URL. Gives the store an identity if
    /// it has none.
    ///
    /// A full store is accepted with a warning, because its documents can still be read and, with the help of the
    /// reserve, deleted.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError::Data { folder: settings.data.clone(), reason };
        let opened = match settings.data.contains("://") {
            true => open_url(settings).map_err(failed)?,
            false => open_folder(settings.data.as_ref()).map_err(|error| failed(error.to_string()))?,
        };
        let (store, root) = opened;
        let unless_full = |error: object_store::Error| match Unavailable::classify(&error) {
            Some(Unavailable::Full) => {
                tracing::warn!(%error, "the store is full");
                Ok(None)
            }
            _ => Err(failed(root_cause(&error))),
        };
        let id = identity::load_or_create(&store).await.map(Some).or_else(unless_full)?;
        Ok(Self { store, folder: root.map(|root| Folder::open(root, id)) })
    }
}

/// A backend's client, and the path of its local folder if it has one.
type Opened = (Arc<dyn ObjectStore>, Option<PathBuf>);

fn open_folder(folder: &FsPath) -> std::io::Result<Opened> {
    std::fs::create_dir_all(folder)?;
    let root = folder.canonicalize()?;
    // With fsync, a write returns only once the file and its directory entries are on disk.
    let store = LocalFileSystem::new_with_prefix(&root).map_err(std::io::Error::from)?.with_fsync(true);
    Ok((Arc::new(store), Some(root)))
}

/// Builds the client of a cloud. A macro, because the clouds' builders have equal methods but no common trait.
macro_rules! cloud {
    ($builder:expr, $key:ty, $settings:expr) => {{
        let settings: &BackendSettings = $settings;
        let retry = RetryConfig { retry_timeout: settings.retry_timeout, ..RetryConfig::default() };
        let builder = $builder.with_url(&settings.data).with_client_options(client(settings)).with_retry(retry);
        let known = settings
            .cloud
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.to_lowercase().parse::<$key>().ok()?, value)));
        known.fold(builder, |builder, (key, value)| builder.with_config(key, value)).build()
    }};
}

fn open_url(settings: &BackendSettings) -> Result<Opened, String> {
    let url = url::Url::parse(&settings.data).map_err(|error| error.to_string())?;
    if url.scheme() == "file"
        && let Ok(folder) = url.to_file_path()
    {
        return open_folder(&folder).map_err(|error| error.to_string());
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| format!("use {SCHEMES}"))?;
    install_crypto_provider();
    let built = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            // Bulk deletes are disabled: some servers do not support them, and only single deletes are safe to retry.
            let builder =
                AmazonS3Builder::new().with_conditional_put(S3ConditionalPut::ETagMatch).with_disable_bulk_delete(true);
            cloud!(builder, AmazonS3ConfigKey, settings).map(|store| layered(store, prefix, settings))
        }
        ObjectStoreScheme::GoogleCloudStorage => cloud!(GoogleCloudStorageBuilder::new(), GoogleConfigKey, settings)
            .map(|store| layered(store, prefix, settings)),
        ObjectStoreScheme::MicrosoftAzure => {
            cloud!(MicrosoftAzureBuilder::new(), AzureConfigKey, settings).map(|store| layered(store, prefix, settings))
        }
        _ => return Err(format!("use {SCHEMES}")),
    };
    Ok((built.map_err(|error| root_cause(&error))?, None))
}

/// Adds the concurrency limit, the key prefix and idempotent writes.
fn layered(store: impl ObjectStore, prefix: Path, settings: &BackendSettings) -> Arc<dyn ObjectStore> {
    let limited = LimitStore::new(store, settings.requests_max);
    Arc::new(IdempotentStore::new(PrefixStore::new(limited, prefix), settings.retry_timeout))
}

fn client(settings: &BackendSettings) -> ClientOptions {
    // Plain HTTP is allowed only if the operator set an `http://` endpoint, for example that of a local server.
    let plain = settings
        .cloud
        .0
        .iter()
        .any(|(name, value)| name.to_lowercase().contains("endpoint") && value.starts_with("http://"));
    ClientOptions::new()
        .with_timeout(settings.timeout)
        .with_connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
        .with_allow_http(plain)
}

/// Installs ring as the TLS provider of this process, unless a provider is installed already.
fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the innermost error's message on one line.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |error| error.source()).last();
    let message = last.map_or_else(String::new, ToString::to_string);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::ring::tests::plain;

    fn nearby(data: &str) -> BackendSettings {
        let cloud = [
            // No server listens on port 9.
            ("AWS_ENDPOINT", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_NO_SUCH_SETTING", "ignored"),
            ("GOOGLE_SKIP_SIGNATURE", "true"),
            ("AZURE_STORAGE_USE_EMULATOR", "true"),
        ];
        let cloud = CloudSettings(cloud.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
        let (timeout, retry_timeout) = (Duration::from_millis(200), Duration::from_millis(100));
        BackendSettings { cloud, timeout, retry_timeout, ..data.into() }
    }

    #[tokio::test]
    async fn an_invalid_address_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for data in [file.to_str().unwrap(), "nonsense://", "ftp://host/folder", "memory:///", "s3://bucket/x"] {
            let error = Backend::open(&nearby(data)).await.err().expect("must not open").to_string();
            assert!(error.contains(data) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn each_cloud_gets_its_own_settings() {
        for data in ["s3://bucket/x", "gs://bucket/x", "az://container/x"] {
            let (store, folder) = open_url(&nearby(data)).unwrap();
            assert!(folder.is_none());
            assert!(store.to_string().contains('x'), "{store}");
        }
    }

    #[tokio::test]
    async fn a_folder_is_created_and_left_without_objects() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        let url = format!("file://{}", folder.display());
        for data in [folder.to_str().unwrap(), &url] {
            let opened = Backend::open(&data.into()).await.unwrap().folder.unwrap();
            assert_eq!(opened.root(), folder.canonicalize().unwrap());
            assert_eq!(opened.walk(&Path::ROOT, &std::sync::Arc::new(plain())).count(), 0);
        }
    }
}
