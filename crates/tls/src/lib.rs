//! TLS between the roles: certificates that are reloaded when their files change, client connections, and the
//! identities of peers.
//!
//! - [`Credentials`]: certificate, key and CAs of a process, as rustls configurations for both sides.
//! - [`Target`]: a server to connect to, by an `http://` or `https://` URL.
//! - [`PeerIdentity`]: the names in the verified certificate of a peer.
//!
//! A connection uses the files as they are when it begins. It is never resumed, so the certificates of both sides are
//! checked for every connection. `ring` does the cryptography.

mod connector;
mod credentials;
mod explain;
mod files;
mod peer;
mod target;

pub use credentials::Credentials;
pub use explain::{explain_status, explain_to_server, is_refusal, tls_problem};
pub use files::{ClientAuth, Error, TlsFiles, TlsVersion};
pub use peer::PeerIdentity;
pub use target::Target;
