//! Files of certificates and keys, and the rustls configurations that result from them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::peer;

/// Protocols that a server offers in ALPN.
const SERVER_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Protocol that a client offers in ALPN. All clients speak gRPC.
const CLIENT_PROTOCOL: &[u8] = b"h2";

/// Files of a process's certificate, key and CAs. All are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain in PEM, leaf first.
    pub cert: Option<PathBuf>,
    /// Private key of the leaf in PEM.
    pub key: Option<PathBuf>,
    /// Certificates in PEM of the CAs that sign the certificates of peers. Without it, servers are verified against the
    /// system's CAs, and clients are not verified.
    pub ca: Option<PathBuf>,
    /// Lowest accepted version of TLS.
    pub min: TlsVersion,
}

/// Version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    #[default]
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = &'static str;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        match version {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err("must be 1.2 or 1.3"),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

impl TlsVersion {
    /// Returns the accepted versions if this is the lowest.
    fn and_above(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// Demand of a server for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is requested.
    None,
    /// A certificate is requested. A client without one may connect, but an invalid certificate is refused.
    Optional,
    /// Only clients with a valid certificate may connect.
    Required,
}

impl FromStr for ClientAuth {
    type Err = &'static str;

    fn from_str(demand: &str) -> Result<Self, Self::Err> {
        match demand {
            "none" => Ok(Self::None),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err("must be none, optional or required"),
        }
    }
}

/// Reason why certificates, keys or CAs cannot be used. The message is one line that says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{flag} {path}: {source}: give a readable file in PEM format")]
    Read {
        /// Flag that names the file.
        flag: &'static str,
        /// Path of the file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A file's content is wrong.
    #[error("{flag} {path}: {problem}")]
    Content {
        /// Flag that names the file.
        flag: &'static str,
        /// Path of the file.
        path: String,
        /// Description of the mistake, with its remedy.
        problem: String,
    },
    /// Flags contradict each other.
    #[error("{0}")]
    Flags(&'static str),
    /// No CA is given, and the system has none.
    #[error("the system has no CA certificates to verify servers with: give the CA of the server with --tls-ca")]
    NoSystemCas,
    /// rustls rejects the configuration.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
}

/// Content of the files, checked.
pub(crate) struct Loaded {
    /// Configuration of the server side; `None` without a certificate.
    pub(crate) server: Option<Arc<ServerConfig>>,
    identity: Option<Identity>,
    roots: Option<Arc<RootCertStore>>,
    min: TlsVersion,
}

/// Certificate chain and key of this process.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    not_after: SystemTime,
}

impl Loaded {
    /// Reads the files and checks that they fit together.
    pub(crate) fn read(files: &TlsFiles, client_auth: ClientAuth) -> Result<Self, Error> {
        let identity = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => Some(Identity::read(cert, key)?),
            (None, None) => None,
            _ => return Err(Error::Flags("--tls-cert and --tls-key belong together: give both or neither")),
        };
        let roots = files.ca.as_deref().map(read_roots).transpose()?;
        let mut loaded = Self { server: None, identity, roots, min: files.min };
        loaded.server = loaded.server_config(files, client_auth)?.map(Arc::new);
        Ok(loaded)
    }

    /// Returns the end of the certificate's validity; `None` without a certificate.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.identity.as_ref().map(|identity| identity.not_after)
    }

    /// Returns whether the CAs of peers are configured.
    pub(crate) fn has_ca(&self) -> bool {
        self.roots.is_some()
    }

    fn server_config(&self, files: &TlsFiles, client_auth: ClientAuth) -> Result<Option<ServerConfig>, Error> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(self.min.and_above());
        let builder = builder.map_err(config_error)?;
        let builder = match (&self.roots, client_auth) {
            (_, ClientAuth::None) => builder.with_no_client_auth(),
            (None, _) => {
                return Err(Error::Flags("--tls-client needs the CA of the clients' certificates: give --tls-ca"));
            }
            (Some(roots), auth) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider());
                let verifier = if auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(config_error)?)
            }
        };
        let built = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key());
        let mut config = built.map_err(|error| content("--tls-key", files.key.as_deref(), key_problem(&error)))?;
        config.alpn_protocols = SERVER_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A resumed connection would skip the check of the client's certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(config))
    }

    /// Returns the configuration of the client side. Without a CA, reads the system's CAs.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(self.min.and_above());
        let roots = match &self.roots {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(system_roots()?),
        };
        let builder = builder.map_err(config_error)?.with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(Identity { chain, key, .. }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(config_error)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![CLIENT_PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Identity {
    fn read(cert: &Path, key: &Path) -> Result<Self, Error> {
        let chain = read_certificates("--tls-cert", cert)?;
        let not_after = chain.first().and_then(peer::not_after);
        let unreadable = || content("--tls-cert", Some(cert), "the first certificate is not valid X.509".to_owned());
        let pem = read("--tls-key", key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => "contains no private key in PEM format".to_owned(),
                // The parser's messages may quote the file.
                _ => "is not a private key in PEM format (PKCS#8, SEC1 or PKCS#1)".to_owned(),
            };
            content("--tls-key", Some(key), problem)
        })?;
        Ok(Self { chain, key, not_after: not_after.ok_or_else(unreadable)? })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { flag, path: path.display().to_string(), source })
}

fn read_certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(flag, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|_| content(flag, Some(path), "is not PEM".to_owned()))?;
    match certificates.is_empty() {
        true => Err(content(flag, Some(path), "contains no certificate in PEM format".to_owned())),
        false => Ok(certificates),
    }
}

fn read_roots(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("--tls-ca", path)? {
        let added = roots.add(certificate);
        added.map_err(|error| content("--tls-ca", Some(path), format!("a certificate is no CA ({error})")))?;
    }
    Ok(Arc::new(roots))
}

fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Unusable certificates of the system are skipped, as browsers do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Error::NoSystemCas) } else { Ok(roots) }
}

fn content(flag: &'static str, path: Option<&Path>, problem: String) -> Error {
    Error::Content { flag, path: path.map(|path| path.display().to_string()).unwrap_or_default(), problem }
}

fn config_error(error: impl fmt::Display) -> Error {
    Error::Config(error.to_string())
}

fn key_problem(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "does not belong to the certificate of --tls-cert: give the key with which it was issued".to_owned()
        }
        error => format!("cannot be used: {error}"),
    }
}
