//! Where objects are kept: a local folder, or a cloud's object store by its URL.
//!
//! A cloud's requests have a time-out, are repeated for a bounded time, and are so many at once at most; what becomes of
//! a write whose answer is lost is in [`super::certain`].

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::limit::LimitStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme, Result as Stored, RetryConfig,
};

use crate::OpenError;
use crate::object::idempotent_write::IdempotentStore;

/// Longest time to a cloud's first answer on a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a URL may begin with, for those who typed another.
const SCHEMES: &str = "a folder, file://, s3://BUCKET, gs://BUCKET or az://CONTAINER";

/// Environment variables of an object store by name, credentials among them. `Debug` prints the names only.
#[derive(Clone, Default)]
pub struct CloudSettings(pub Vec<(String, String)>);

impl fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Which backend, and how it is asked.
#[derive(Clone, Debug)]
pub struct BackendSettings {
    /// A folder or a URL.
    pub data: String,
    /// A cloud's settings by the names of their environment variables, credentials among them.
    pub cloud: CloudSettings,
    /// Longest time of one request to a cloud.
    pub timeout: Duration,
    /// How long a request that fails is repeated.
    pub retry_timeout: Duration,
    /// Requests to a cloud at once.
    pub requests_max: usize,
}

impl From<&str> for BackendSettings {
    fn from(data: &str) -> Self {
        Self {
            data: data.to_owned(),
            cloud: CloudSettings::default(),
            timeout: Duration::from_secs(10),
            retry_timeout: Duration::from_secs(30),
            requests_max: 64,
        }
    }
}

/// An open backend, proven to be writable.
#[derive(Debug)]
pub struct Backend {
    pub store: Arc<dyn ObjectStore>,
    /// Set where it is a local folder.
    pub folder: Option<PathBuf>,
}

impl Backend {
    /// Opens the folder, which is made where it is not there, or the store at an address, and proves that it can be
    /// written.
    pub async fn open(settings: &BackendSettings) -> Result<Self, OpenError> {
        let failed = |reason: String| OpenError::Data { folder: settings.data.clone(), reason };
        let backend = match settings.data.contains("://") {
            true => at_url(settings).map_err(failed)?,
            false => in_folder(settings.data.as_ref()).map_err(|error| failed(error.to_string()))?,
        };
        backend.prove_writable().await.map_err(|error| failed(innermost(&error)))?;
        Ok(backend)
    }

    async fn prove_writable(&self) -> Stored<()> {
        let probe = Path::from("probe");
        self.store.put(&probe, Bytes::new().into()).await?;
        match self.store.delete(&probe).await {
            // Another gateway that starts proves the same.
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }
}

fn in_folder(folder: &FsPath) -> std::io::Result<Backend> {
    std::fs::create_dir_all(folder)?;
    // With fsync a write returns when the file and the folders above it are on the disk.
    let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::from)?.with_fsync(true);
    Ok(Backend { store: Arc::new(store), folder: Some(folder.to_owned()) })
}

/// Builds a cloud's client. The builders have the same methods and no trait in common.
macro_rules! cloud {
    ($builder:expr, $key:ty, $settings:expr) => {{
        let settings: &BackendSettings = $settings;
        let retry = RetryConfig { retry_timeout: settings.retry_timeout, ..RetryConfig::default() };
        let builder =
            $builder.with_url(&settings.data).with_client_options(client(settings)).with_retry(retry);
        let given = settings.cloud.0.iter();
        let known =
            given.filter_map(|(name, value)| Some((name.to_lowercase().parse::<$key>().ok()?, value)));
        known.fold(builder, |builder, (key, value)| builder.with_config(key, value)).build()
    }};
}

fn at_url(settings: &BackendSettings) -> Result<Backend, String> {
    let url = url::Url::parse(&settings.data).map_err(|error| error.to_string())?;
    if url.scheme() == "file"
        && let Ok(folder) = url.to_file_path()
    {
        return in_folder(&folder).map_err(|error| error.to_string());
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| format!("it is not {SCHEMES}"))?;
    encrypt_with_ring();
    let built = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            // A delete of one object is repeated safely; a bulk delete is a POST, which some servers lack.
            let builder = AmazonS3Builder::new()
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .with_disable_bulk_delete(true);
            cloud!(builder, AmazonS3ConfigKey, settings).map(|store| bounded(store, prefix, settings))
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            cloud!(GoogleCloudStorageBuilder::new(), GoogleConfigKey, settings)
                .map(|store| bounded(store, prefix, settings))
        }
        ObjectStoreScheme::MicrosoftAzure => cloud!(MicrosoftAzureBuilder::new(), AzureConfigKey, settings)
            .map(|store| bounded(store, prefix, settings)),
        _ => return Err(format!("it is not {SCHEMES}")),
    };
    Ok(Backend { store: built.map_err(|error| innermost(&error))?, folder: None })
}

fn bounded(store: impl ObjectStore, prefix: Path, settings: &BackendSettings) -> Arc<dyn ObjectStore> {
    let limited = LimitStore::new(store, settings.requests_max);
    Arc::new(IdempotentStore::new(PrefixStore::new(limited, prefix), settings.retry_timeout))
}

fn client(settings: &BackendSettings) -> ClientOptions {
    // Whoever writes such an endpoint means a server nearby.
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

/// TLS is told once a process which cryptography to use; who told it first is right.
fn encrypt_with_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What the system says, without what the layers above it add.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |error| error.source()).last();
    let said = last.map_or_else(String::new, ToString::to_string);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearby(data: &str) -> BackendSettings {
        let cloud = [
            // Nobody listens on the discard port.
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
    async fn what_cannot_be_is_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for data in
            [file.to_str().unwrap(), "nonsense://", "ftp://host/folder", "memory:///", "s3://bucket/x"]
        {
            let error = Backend::open(&nearby(data)).await.expect_err("must not open").to_string();
            assert!(error.contains(data) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn each_cloud_is_told_its_own_settings() {
        for data in ["s3://bucket/x", "gs://bucket/x", "az://container/x"] {
            let backend = at_url(&nearby(data)).unwrap();
            assert!(backend.folder.is_none());
            assert!(backend.store.to_string().contains('x'), "{}", backend.store);
        }
    }

    #[tokio::test]
    async fn a_folder_is_made_and_left_empty() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        let url = format!("file://{}", folder.display());
        for data in [folder.to_str().unwrap(), &url] {
            assert_eq!(Backend::open(&data.into()).await.unwrap().folder.as_deref(), Some(folder.as_path()));
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        }
    }
}
