//! A server to connect to.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use tonic::transport::{Channel, Endpoint};

use crate::Credentials;
use crate::connector::Connector;

/// A gRPC server at an `http://` or `https://` URL. The certificate of an `https://` server must be valid for the URL's
/// host, or for the name given by [`Target::named`].
#[derive(Clone)]
pub struct Target {
    uri: Uri,
    endpoint: Endpoint,
    /// Connector of an `https://` URL.
    tls: Option<Connector>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.uri).finish()
    }
}

impl Target {
    /// Returns the server at `url`. Fails with a description of the mistake if `url` is not an `http://` or `https://`
    /// URL with a host.
    pub fn new(url: &str, credentials: &Credentials) -> Result<Self, String> {
        Self::parse(url, None, credentials)
    }

    /// Like [`Target::new`], but the certificate of the server must be valid for `name`, not for the URL's host.
    pub fn named(url: &str, name: &str, credentials: &Credentials) -> Result<Self, String> {
        Self::parse(url, Some(name), credentials)
    }

    fn parse(url: &str, name: Option<&str>, credentials: &Credentials) -> Result<Self, String> {
        let uri = Uri::from_str(url).map_err(|error| error.to_string())?;
        let authority = uri.authority().ok_or("it has no host")?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        if authority.host().is_empty() {
            return Err("it has no host".to_owned());
        }
        if !is_tls {
            return Ok(Self { endpoint: uri.clone().into(), uri, tls: None });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let tls = Connector::new(credentials.clone(), name.unwrap_or(host));
        let tls = tls.ok_or_else(|| format!("`{}` is not a DNS name or IP address", name.unwrap_or(host)))?;
        // The endpoint's own scheme is http, because tonic would otherwise look for its own TLS settings. The port is
        // explicit, because the connector would otherwise use that of http.
        let port = authority.port_u16().unwrap_or(443);
        let plain = Uri::from_str(&format!("http://{}:{port}", authority.host())).map_err(|error| error.to_string())?;
        Ok(Self { endpoint: Endpoint::from(plain).origin(uri.clone()), uri, tls: Some(tls) })
    }

    /// Changes the settings of connections.
    pub fn with(self, change: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self { endpoint: change(self.endpoint), ..self }
    }

    /// Returns the URL of the server.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns whether connections use TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects. Fails if the server does not answer, or if its certificate is not valid.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector(tls.clone()).await,
            None => self.endpoint.connect().await,
        }
    }

    /// Returns a channel that connects on first use, and again after a connection is lost. Must be called in a tokio
    /// runtime.
    pub fn connect_lazy(&self) -> Channel {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector_lazy(tls.clone()),
            None => self.endpoint.connect_lazy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urls_are_checked() {
        let credentials = Credentials::default();
        for right in ["http://127.0.0.1:7300", "https://gateway.example", "https://[::1]:7300", "http://a/b"] {
            assert!(Target::new(right, &credentials).is_ok(), "{right}");
        }
        for wrong in ["", "127.0.0.1:7300", "ftp://127.0.0.1", "http://", "https://:7300", "https://a_b c:1"] {
            assert!(Target::new(wrong, &credentials).is_err(), "{wrong}");
        }
    }
}
