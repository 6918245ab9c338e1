//! Identity of a peer: the names in its certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Identity of the peer of a connection, from its verified certificate. Servers store it in the extensions of each
/// request. Clones share the certificate.
#[derive(Clone, Debug)]
pub struct PeerIdentity(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    leaf: CertificateDer<'static>,
    names: Vec<String>,
}

impl PeerIdentity {
    /// Returns the identity in a certificate that was verified during the handshake.
    pub fn of_verified(leaf: &CertificateDer<'_>) -> Self {
        Self(Arc::new(Peer { names: subject_alt_names(leaf), leaf: leaf.clone().into_owned() }))
    }

    /// Returns the certificate's subject alternative names (SANs): DNS names, URIs and IP addresses.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Returns whether one of the certificate's names equals one of `allowed`. Letter case is ignored.
    pub fn has_any(&self, allowed: &[String]) -> bool {
        self.names().iter().any(|name| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)))
    }

    /// Returns whether the certificate is valid for a server at `host`, a DNS name or an IP address without brackets.
    /// Wildcards count as in the verification of servers.
    pub fn covers(&self, host: &str) -> bool {
        let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(&self.0.leaf), ServerName::try_from(host)) else {
            return false;
        };
        verify_server_name(&leaf, &name).is_ok()
    }
}

/// Returns the end of a certificate's validity, or `None` if the certificate is malformed.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn subject_alt_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = parse_x509_certificate(leaf) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    names.collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn names_are_read_and_matched() {
        let names = ["c3-gateway", "*.decoders.example", "10.0.0.7"].map(str::to_owned);
        let certificate = CertificateParams::new(names.clone()).unwrap();
        let certificate = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let peer = PeerIdentity::of_verified(certificate.der());
        assert_eq!(peer.names(), names);
        assert!(peer.has_any(&["other".to_owned(), "C3-Gateway".to_owned()]));
        assert!(!peer.has_any(&["c3-node".to_owned(), "a.decoders.example".to_owned()]));
        for covered in ["a.decoders.example", "10.0.0.7", "c3-gateway"] {
            assert!(peer.covers(covered), "{covered}");
        }
        for foreign in ["decoders.example", "a.b.decoders.example", "10.0.0.8", "", "a b"] {
            assert!(!peer.covers(foreign), "{foreign}");
        }
    }
}
