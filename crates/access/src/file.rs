//! The access file: API keys, and tenants with their quotas, as JSON.
//!
//! ```json
//! {
//!   "version": 1,
//!   "tenants": { "acme": { "requests_per_minute": 600, "cache_weight": 2 } },
//!   "keys": [{ "id": "0123456789", "tenant": "acme", "scopes": ["read"], "hash": "…", "created": "2026-11-30T12:00:00Z" }]
//! }
//! ```
//!
//! Edits are atomic: a reader sees the old or the new file. Concurrent edits wait for each other.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use c3_server::access::{Scope, Scopes};
use c3_types::TenantId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::{ApiKey, KeyId, SecretHash};

/// Version of the format.
const VERSION: u32 = 1;
/// Maximum size of the file, in bytes: about 20,000 keys.
const BYTES_MAX: u64 = 8 << 20;

/// Error of reading or editing the access file. The message is one line.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read or written.
    #[error("access file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The content of the file is wrong.
    #[error("access file {path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// The mistake.
        problem: String,
    },
    /// The requested edit is not possible.
    #[error("{0}")]
    Edit(String),
}

/// Content of the access file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    version: u32,
    /// Tenants. The tenant `default` exists even if it is not listed.
    #[serde(default)]
    pub tenants: BTreeMap<TenantId, TenantRecord>,
    /// Keys of all tenants.
    #[serde(default)]
    pub keys: Vec<KeyRecord>,
}

/// Quotas of a tenant, and its share of the caches. A quota that is absent does not limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantRecord {
    /// Calls per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Text tokens per minute that are stored, compressed or read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Bytes of all objects in the tenant's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes_max: Option<u64>,
    /// Calls in flight at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u64>,
    /// Weight of the tenant's share of the caches: its cache is the cache size × weight / sum of all weights.
    #[serde(default = "default_weight", skip_serializing_if = "is_default_weight")]
    pub cache_weight: u32,
}

impl Default for TenantRecord {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            stored_bytes_max: None,
            streams_max: None,
            cache_weight: default_weight(),
        }
    }
}

fn default_weight() -> u32 {
    1
}

fn is_default_weight(weight: &u32) -> bool {
    *weight == default_weight()
}

/// An API key in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Id, which names the key in logs.
    pub id: KeyId,
    /// Owner of the documents that the key gives access to.
    pub tenant: TenantId,
    /// Scopes.
    #[serde(with = "scope_list")]
    pub scopes: Scopes,
    hash: SecretHash,
    /// Time of creation.
    #[serde(with = "time")]
    pub created: SystemTime,
    /// Time from which the key is invalid.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub expires: Option<SystemTime>,
    /// Time at which the key was revoked.
    #[serde(default, with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub revoked: Option<SystemTime>,
}

impl KeyRecord {
    /// Creates the record of a new key.
    pub fn new(key: &ApiKey, tenant: TenantId, scopes: Scopes, expires: Option<SystemTime>) -> Self {
        Self {
            id: key.id().clone(),
            tenant,
            scopes,
            hash: key.hash(),
            created: whole_seconds(),
            expires,
            revoked: None,
        }
    }

    /// Returns the hash of the secret.
    pub(crate) fn hash(&self) -> &SecretHash {
        &self.hash
    }

    /// Returns whether the key is neither expired nor revoked at `now`.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

impl Default for AccessFile {
    fn default() -> Self {
        Self { version: VERSION, tenants: BTreeMap::new(), keys: Vec::new() }
    }
}

impl AccessFile {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Io { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.len() > BYTES_MAX {
            return Err(FileError::Content { path: path.to_owned(), problem: format!("exceeds {BYTES_MAX} bytes") });
        }
        // Hashes of random secrets may be read by others, but whoever can write the file can add keys.
        #[cfg(unix)]
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o022 != 0 {
            let problem = "other users may write it: run `chmod 600` on it".to_owned();
            return Err(FileError::Content { path: path.to_owned(), problem });
        }
        let bytes = fs::read(path).map_err(failed)?;
        Self::parse(&bytes).map_err(|problem| FileError::Content { path: path.to_owned(), problem })
    }

    /// Parses and checks the content of the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("version {} is not supported: this program reads version {VERSION}", file.version));
        }
        let mut ids: Vec<_> = file.keys.iter().map(|key| &key.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the key id {} occurs twice", twice[0]));
        }
        if let Some(key) = file.keys.iter().find(|key| !file.has_tenant(&key.tenant)) {
            return Err(format!("key {} has the tenant {}, which is not listed", key.id, key.tenant));
        }
        Ok(file)
    }

    /// Returns whether a tenant exists.
    pub fn has_tenant(&self, tenant: &TenantId) -> bool {
        tenant.is_default() || self.tenants.contains_key(tenant)
    }

    /// Returns the settings of a tenant; `None` if it does not exist.
    pub fn tenant(&self, tenant: &TenantId) -> Option<TenantRecord> {
        let listed = self.tenants.get(tenant).cloned();
        listed.or_else(|| tenant.is_default().then(TenantRecord::default))
    }

    /// Iterates over all tenants with their settings, including `default`.
    pub fn all_tenants(&self) -> impl Iterator<Item = (TenantId, TenantRecord)> {
        let default = TenantId::default();
        let default = (!self.tenants.contains_key(&default)).then(|| (default, TenantRecord::default()));
        default.into_iter().chain(self.tenants.iter().map(|(tenant, record)| (tenant.clone(), record.clone())))
    }

    /// Changes the file atomically. Creates it, readable by its owner only, if it does not exist. Nothing is written if
    /// `change` fails.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T, FileError>) -> Result<T, FileError> {
        let failed = |source| FileError::Io { path: path.to_owned(), source };
        let sibling = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        // Held until the end of the function. The lock is a file of its own, because the access file is replaced.
        let lock = private_file(&sibling(".lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut file = match Self::read(path) {
            Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::default(),
            read => read?,
        };
        let result = change(&mut file)?;
        let mut json = serde_json::to_vec_pretty(&file).expect("strings, numbers and lists are valid JSON");
        json.push(b'\n');
        Self::parse(&json).map_err(FileError::Edit)?;
        let temporary = sibling(".new");
        let write = || {
            let mut new = private_file(&temporary)?;
            new.set_len(0)?;
            new.write_all(&json)?;
            new.sync_all()?;
            fs::rename(&temporary, path)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent)?.sync_all()
        };
        write().map_err(failed)?;
        Ok(result)
    }
}

/// Opens or creates a file that only its owner may read and write.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns the current time in whole seconds, as the file has it.
pub fn whole_seconds() -> SystemTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs())
}

mod scope_list {
    use super::{Deserialize, Deserializer, Scope, Scopes, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(scopes: &Scopes, serializer: S) -> Result<S::Ok, S::Error> {
        Vec::from_iter(scopes.iter().map(Scope::as_str)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scopes, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names.iter().map(|name| name.parse::<Scope>().map_err(serde::de::Error::custom)).collect()
    }
}

mod time {
    use super::{Deserialize, Deserializer, Serializer, SystemTime};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

mod optional_time {
    use super::{Deserializer, Serializer, SystemTime, time};

    pub(super) fn serialize<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => time::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        time::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(file: &mut AccessFile, tenant: &str) -> ApiKey {
        let key = ApiKey::random().unwrap();
        file.keys.push(KeyRecord::new(&key, tenant.parse().unwrap(), Scopes::all(), None));
        key
    }

    #[test]
    fn edits_are_kept_and_the_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        let key = AccessFile::edit(&path, |file| Ok(with_key(file, "default"))).unwrap();
        let read = AccessFile::read(&path).unwrap();
        assert_eq!((&read.keys[0].id, read.keys.len()), (key.id(), 1));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(key.expose().rsplit('_').next().unwrap()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
            assert!(AccessFile::read(&path).unwrap_err().to_string().contains("chmod 600"));
        }
    }

    #[test]
    fn a_failed_or_invalid_edit_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        AccessFile::edit(&path, |file| Ok(with_key(file, "default"))).unwrap();
        let before = fs::read(&path).unwrap();
        let failed = AccessFile::edit(&path, |file| {
            file.keys.clear();
            Err::<(), _>(FileError::Edit("no".to_owned()))
        });
        assert!(failed.is_err());
        assert!(AccessFile::edit(&path, |file| Ok(with_key(file, "unlisted"))).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn concurrent_edits_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| AccessFile::edit(&path, |file| Ok(with_key(file, "default"))).unwrap());
            }
        });
        assert_eq!(AccessFile::read(&path).unwrap().keys.len(), 8);
    }

    #[test]
    fn malformed_files_are_refused() {
        let hash = "0".repeat(64);
        let key = |id: &str, tenant: &str, scope: &str| {
            format!(
                r#"{{"id":"{id}","tenant":"{tenant}","scopes":["{scope}"],"hash":"{hash}","created":"2026-01-01T00:00:00Z"}}"#
            )
        };
        let file = |keys: &str| AccessFile::parse(format!(r#"{{"version":1,"keys":[{keys}]}}"#).as_bytes());
        let good = key("0123456789", "default", "read");
        assert!(file(&good).is_ok());
        let (twice, alien, root) =
            (format!("{good},{good}"), key("0123456789", "acme", "read"), key("0123456789", "default", "root"));
        for wrong in [&twice, &alien, &root, &key("", "default", "read"), "1"] {
            assert!(file(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "{}", r#"{"version":2}"#, r#"{"version":1,"keyz":[]}"#] {
            assert!(AccessFile::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
