//! DNS names whose IP addresses are nodes.

use std::fmt::Display;

use c3_types::Stage;

/// Schemes of an address that is a DNS name, without and with TLS. Each IP address of the name is one node.
const DNS_SCHEMES: [(&str, bool); 2] = [("dns://", false), ("dnss://", true)];

/// DNS name whose IP addresses are nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsName {
    pub(crate) stage: Stage,
    /// `HOST:PORT`.
    pub(crate) name: String,
    /// True if the nodes speak TLS. Their certificates must then be valid for the name's host.
    pub(crate) is_tls: bool,
}

impl DnsName {
    /// Returns the name in an address with one of [`DNS_SCHEMES`], else `None`.
    pub(crate) fn parse(stage: Stage, address: &str) -> Option<Self> {
        DNS_SCHEMES.iter().find_map(|(scheme, is_tls)| {
            let name = address.strip_prefix(scheme)?.to_owned();
            Some(Self { stage, name, is_tls: *is_tls })
        })
    }

    /// Returns the URL of the node at `address`, which is `HOST:PORT`.
    pub(crate) fn url(&self, address: impl Display) -> String {
        format!("{}://{address}", if self.is_tls { "https" } else { "http" })
    }

    /// Returns the host, for which the certificates of nodes must be valid.
    pub(crate) fn host(&self) -> &str {
        self.name.rsplit_once(':').map_or(&self.name, |(host, _)| host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_over_tls_has_https_nodes() {
        let dns = DnsName::parse(Stage::Decoder, "dnss://decoders.example:7302").unwrap();
        assert_eq!((dns.host(), dns.url("10.0.0.7:7302")), ("decoders.example", "https://10.0.0.7:7302".to_owned()));
        let dns = DnsName::parse(Stage::Decoder, "dns://decoders:7302").unwrap();
        assert_eq!((dns.host(), dns.url("10.0.0.7:7302")), ("decoders", "http://10.0.0.7:7302".to_owned()));
        assert_eq!(DnsName::parse(Stage::Decoder, "http://decoders:7302"), None);
    }
}
