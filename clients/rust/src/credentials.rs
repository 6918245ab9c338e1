//! API key of a client, and the metadata of each call.

use std::fmt;
use std::net::IpAddr;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Uri;
use tonic::{Request, Status};

use crate::error::Error;
use crate::trace;

/// API key, or token of an identity provider, that a client sends with each call. `Debug` does not show it.
#[derive(Clone)]
pub struct ApiKey {
    authorization: MetadataValue<Ascii>,
    over_plain_http: bool,
}

impl ApiKey {
    /// Checks a key. White space at its ends is ignored, as a file may end in a line feed. The key is sent only over
    /// TLS, or to this machine.
    pub fn new(key: &str) -> Result<Self, Error> {
        let key = key.trim();
        let is_token = |byte: u8| byte.is_ascii_graphic();
        if key.is_empty() || !key.bytes().all(is_token) {
            return Err(Error::ApiKey("the API key is empty or has spaces: give the key alone".to_owned()));
        }
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {key}").parse().map_err(|_| Error::ApiKey("the API key is malformed".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, over_plain_http: false })
    }

    /// Also sends the key unencrypted to other machines, where anyone on the way can read it.
    pub fn allow_plain_http(self) -> Self {
        Self { over_plain_http: true, ..self }
    }

    /// Fails if the key must not be sent to this address.
    pub(crate) fn check(&self, url: &str) -> Result<(), Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Url { url: url.to_owned() })?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if self.over_plain_http || is_local || uri.scheme_str() == Some("https") {
            return Ok(());
        }
        let problem = format!("the API key is not sent unencrypted to {host}: use an https URL, or allow plain HTTP");
        Err(Error::ApiKey(problem))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// Adds the trace context and the API key, if any, to each call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallMetadata {
    api_key: Option<ApiKey>,
}

impl CallMetadata {
    pub(crate) fn new(api_key: Option<ApiKey>) -> Self {
        Self { api_key }
    }
}

impl Interceptor for CallMetadata {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = trace::inject(request)?;
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert("authorization", key.authorization.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_sent_unencrypted_to_other_machines() {
        let key = ApiKey::new(" c3_0123456789_secret\n").unwrap();
        assert_eq!(key.authorization, "Bearer c3_0123456789_secret");
        assert!(!format!("{key:?}").contains("secret"));
        for uri in ["https://c3.example", "http://127.0.0.1:7300", "http://[::1]:7300", "http://localhost"] {
            key.check(uri).unwrap();
        }
        for uri in ["http://c3.example", "http://192.0.2.1:7300", "http://localhost.evil.example"] {
            let error = key.check(uri).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
            key.clone().allow_plain_http().check(uri).unwrap();
        }
        for wrong in ["", " ", "a b", "a\nb"] {
            assert!(ApiKey::new(wrong).is_err(), "{wrong}");
        }
    }
}
