//! Credentials of a process: the files as rustls configurations, reloaded when the files change.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};

use crate::files::{ClientAuth, Error, Loaded, TlsFiles};

/// Minimum interval between two looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of consecutive failures to load changed files after which the failure is logged. A certificate and its key
/// are two files, so they contradict each other while they are being replaced.
const FAILURES_LOGGED: u32 = 2;

/// Certificate, key and CAs of a process. The default has none of them: servers are then verified against the system's
/// CAs. Clones share the state.
///
/// The files are read again once they change, but not more often than once a second. If the new files are invalid, the
/// old ones stay in use.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    client_auth: ClientAuth,
    current: ArcSwap<Current>,
    watch: Mutex<Watch>,
}

/// Credentials that new connections use.
struct Current {
    loaded: Loaded,
    /// Configuration of the client side. Made on first use, because reading the system's CAs takes milliseconds.
    client: OnceLock<Arc<ClientConfig>>,
}

/// State of the watch over the files.
struct Watch {
    checked: Instant,
    /// State of the files that are in use.
    in_use: Vec<Option<Stamp>>,
    /// Consecutive failures to load the changed files.
    failures: u32,
}

/// Properties of a file that change with its content. Symbolic links are followed, so the stamp also changes if a link
/// leads to another file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Default for Credentials {
    fn default() -> Self {
        // Cannot fail: no file is read.
        Self::load(TlsFiles::default(), ClientAuth::None).expect("no files are valid files")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the content, which contains the private key.
        f.debug_tuple("Credentials").field(&self.0.files).finish()
    }
}

impl Credentials {
    /// Reads the files. `client_auth` is the demand of the server side for client certificates.
    pub fn load(files: TlsFiles, client_auth: ClientAuth) -> Result<Self, Error> {
        let in_use = stamps(&files);
        let loaded = Loaded::read(&files, client_auth)?;
        let watch = Mutex::new(Watch { checked: Instant::now(), in_use, failures: 0 });
        let current = ArcSwap::from_pointee(Current { loaded, client: OnceLock::new() });
        let credentials = Self(Arc::new(Shared { files, client_auth, current, watch }));
        // Reports problems of the client side at the start, unless it depends on the system's CAs.
        if credentials.has_ca() {
            credentials.client_config()?;
        }
        Ok(credentials)
    }

    /// Returns the files.
    pub fn files(&self) -> &TlsFiles {
        &self.0.files
    }

    /// Returns the configuration of the server side, or `None` without a certificate.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.refresh();
        self.0.current.load().loaded.server.clone()
    }

    /// Returns the configuration of the client side.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        self.refresh();
        let current = self.0.current.load();
        match current.client.get() {
            Some(config) => Ok(Arc::clone(config)),
            None => {
                let config = Arc::new(current.loaded.client_config()?);
                Ok(Arc::clone(current.client.get_or_init(|| config)))
            }
        }
    }

    /// Returns whether the process has a certificate.
    pub fn has_certificate(&self) -> bool {
        self.not_after().is_some()
    }

    /// Returns whether the CAs of peers are configured.
    pub fn has_ca(&self) -> bool {
        self.0.current.load().loaded.has_ca()
    }

    /// Returns whether the server side accepts no connection without a valid client certificate.
    pub fn requires_clients(&self) -> bool {
        self.has_certificate() && self.0.client_auth == ClientAuth::Required
    }

    /// Returns the end of the certificate's validity; `None` without a certificate.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.current.load().loaded.not_after()
    }

    /// Reads the files again if they have changed. Does nothing if that was checked less than a second ago.
    pub fn refresh(&self) {
        // Another thread may be checking; its result will do for the next connection.
        let Ok(mut watch) = self.0.watch.try_lock() else { return };
        if watch.checked.elapsed() >= CHECK_INTERVAL {
            self.check(&mut watch);
        }
    }

    fn check(&self, watch: &mut Watch) {
        watch.checked = Instant::now();
        let found = stamps(&self.0.files);
        if found == watch.in_use {
            watch.failures = 0;
            return;
        }
        match self.reload() {
            Ok(current) => {
                self.0.current.store(Arc::new(current));
                (watch.in_use, watch.failures) = (found, 0);
                tracing::info!("read the changed TLS files: new connections use them");
            }
            Err(problem) => {
                watch.failures += 1;
                if watch.failures == FAILURES_LOGGED {
                    tracing::error!(%problem, "the changed TLS files are not valid: keeping the old ones");
                }
            }
        }
    }

    fn reload(&self) -> Result<Current, String> {
        let loaded = Loaded::read(&self.0.files, self.0.client_auth).map_err(|error| error.to_string())?;
        if loaded.not_after().is_some_and(|end| end <= SystemTime::now()) {
            return Err("the new certificate has expired already: issue another".to_owned());
        }
        let client = OnceLock::new();
        if loaded.has_ca() {
            let config = loaded.client_config().map_err(|error| error.to_string())?;
            client.get_or_init(|| Arc::new(config));
        }
        Ok(Current { loaded, client })
    }

    /// Checks the files now.
    #[cfg(test)]
    fn check_now(&self) {
        self.check(&mut self.0.watch.lock().unwrap());
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    [&files.cert, &files.key, &files.ca].into_iter().flatten().map(|path| stamp(path)).collect()
}

/// Returns `None` if there is no file at `path`.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&metadata),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    /// Writes a self-signed certificate and its key, the certificate valid until the given year.
    fn issue(folder: &TempDir, until: i32) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        TlsFiles { cert: Some(path("cert.pem")), key: Some(path("key.pem")), ..Default::default() }
    }

    #[test]
    fn changed_files_are_used_and_invalid_ones_are_not() {
        let folder = TempDir::new().unwrap();
        let files = issue(&folder, 2100);
        let credentials = Credentials::load(files.clone(), ClientAuth::None).unwrap();
        let first = credentials.server_config().unwrap();
        credentials.check_now();
        assert!(Arc::ptr_eq(&first, &credentials.server_config().unwrap()), "nothing has changed");
        issue(&folder, 2101);
        credentials.check_now();
        let second = credentials.server_config().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let end = credentials.not_after();
        for broken in ["expired", "torn", "missing"] {
            match broken {
                "expired" => drop(issue(&folder, 2001)),
                "torn" => fs::write(files.key.as_ref().unwrap(), "-----BEGIN PRIVATE KEY-----\nMIG").unwrap(),
                _ => fs::remove_file(files.key.as_ref().unwrap()).unwrap(),
            }
            credentials.check_now();
            assert!(Arc::ptr_eq(&second, &credentials.server_config().unwrap()), "{broken}");
            assert_eq!(credentials.not_after(), end);
        }
        issue(&folder, 2102);
        credentials.check_now();
        assert!(!Arc::ptr_eq(&second, &credentials.server_config().unwrap()));
    }

    #[test]
    fn mistakes_name_the_flag() {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let files = issue(&folder, 2100);
        let load = |files: TlsFiles, auth| Credentials::load(files, auth).unwrap_err().to_string();
        let foreign_key = TlsFiles { key: issue(&other, 2100).key, ..files.clone() };
        assert!(load(foreign_key, ClientAuth::None).starts_with("--tls-key"));
        let no_key = TlsFiles { key: None, ..files.clone() };
        assert!(load(no_key, ClientAuth::None).contains("--tls-key"));
        let missing = TlsFiles { ca: Some("missing.pem".into()), ..files.clone() };
        assert!(load(missing, ClientAuth::None).starts_with("--tls-ca missing.pem"));
        let key_as_ca = TlsFiles { ca: files.key.clone(), ..files.clone() };
        assert!(load(key_as_ca, ClientAuth::None).contains("no certificate"));
        assert!(load(files, ClientAuth::Required).contains("--tls-ca"));
    }
}
