//! Protects a server from web pages that its user visits.
//!
//! A page may send requests to a server on the user's machine. With DNS rebinding, it does so under its own host name:
//! the name first resolves to the page's server, and later to 127.0.0.1. The browser then sees one origin and applies
//! no restriction. Such requests carry the page's host name, so they are recognized by it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as AxumRequest, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Request, header};
use tonic::transport::server::TcpConnectInfo;

use crate::call::Protocol;
use crate::error::ServiceError;
use crate::rejection::Rejection;

/// Value of an allowed origin that allows all origins.
const ANY: &str = "*";

/// Host names and origins from which a server accepts calls. The default accepts no pages of other origins and, on
/// loopback addresses, no host names but `localhost`.
#[derive(Clone, Debug, Default)]
pub struct WebAccess {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl WebAccess {
    /// Allows these host names, and the pages of these origins, such as `https://app.example`; `*` allows all origins.
    pub fn new(hosts: &[String], origins: &[String]) -> Self {
        let lower = |values: &[String]| values.iter().map(|value| value.to_ascii_lowercase()).collect();
        Self { hosts: lower(hosts), origins: lower(origins) }
    }

    /// Fails if the call has a foreign host name or comes from a page of a foreign origin.
    ///
    /// The host name is checked on loopback addresses, and on others if hosts are configured. IP addresses and
    /// `localhost` are always accepted, because DNS rebinding needs a name of the attacker. Calls of gRPC clients,
    /// which are no browsers, are accepted under any name.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default().to_ascii_lowercase());
        if origin.is_none() && Protocol::of(headers) == Protocol::Grpc {
            return Ok(());
        }
        let host = host(request);
        let local = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::local_addr);
        let is_checked = !self.hosts.is_empty() || local.is_some_and(|local| local.ip().to_canonical().is_loopback());
        if is_checked && !self.allows_host(&host) {
            return Err(Rejection::ForeignHost);
        }
        let Some(origin) = origin else { return Ok(()) };
        let is_same = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        let is_allowed = self.origins.iter().any(|allowed| allowed == ANY || *allowed == origin);
        if is_same || is_allowed { Ok(()) } else { Err(Rejection::ForeignOrigin) }
    }

    fn allows_host(&self, authority: &str) -> bool {
        let name = host_name(authority);
        let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_address
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|allowed| allowed == name || allowed == authority)
    }
}

/// Returns the host and port that the request names, in lower case; empty if it names none.
fn host<B>(request: &Request<B>) -> String {
    let named = |headers: &HeaderMap, name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let authority = authority.or_else(|| named(request.headers(), header::HOST));
    authority.unwrap_or_default().to_ascii_lowercase()
}

/// Returns an authority without its port.
fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The last colon of `[::1]` is within the address.
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// Middleware for routes outside the call layer: refuses requests that [`WebAccess::check`] refuses.
pub(crate) async fn refuse_others(State(access): State<Arc<WebAccess>>, request: AxumRequest, next: Next) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.problem().into_response().map(Body::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &WebAccess, local: &str, headers: &[(&'static str, &str)]) -> Result<(), Rejection> {
        let mut request = Request::get("/v1/documents").body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let local_addr = Some(local.parse().unwrap());
        request.extensions_mut().insert(TcpConnectInfo { local_addr, remote_addr: None });
        access.check(&request)
    }

    const LOOPBACK: &str = "127.0.0.1:7300";
    const PUBLIC: &str = "192.0.2.7:7300";

    #[test]
    fn a_loopback_server_answers_only_to_its_own_names() {
        let access = WebAccess::new(&["gateway.internal".to_owned()], &[]);
        for host in ["localhost", "LOCALHOST:7300", "127.0.0.1:7300", "[::1]:7300", "[::1]", "c3.localhost"] {
            assert_eq!(check(&WebAccess::default(), LOOPBACK, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:7300", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            let refused = check(&WebAccess::default(), LOOPBACK, &[("host", host)]);
            assert_eq!(refused, Err(Rejection::ForeignHost), "{host}");
            assert_eq!(check(&WebAccess::default(), PUBLIC, &[("host", host)]), Ok(()), "{host}");
            assert_eq!(check(&access, PUBLIC, &[("host", host)]), Err(Rejection::ForeignHost), "{host}");
        }
        assert_eq!(check(&WebAccess::default(), LOOPBACK, &[]), Err(Rejection::ForeignHost));
        assert_eq!(check(&access, LOOPBACK, &[("host", "Gateway.internal:7300")]), Ok(()));
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_allowed() {
        let host = ("host", "localhost:7300");
        let access = WebAccess::new(&[], &["https://app.example".to_owned()]);
        assert_eq!(check(&access, LOOPBACK, &[host, ("origin", "http://localhost:7300")]), Ok(()));
        assert_eq!(check(&access, LOOPBACK, &[host, ("origin", "https://APP.example")]), Ok(()));
        for origin in ["https://evil.example", "null", "http://localhost:9", "https://app.example.evil.example"] {
            for local in [LOOPBACK, PUBLIC] {
                let refused = check(&access, local, &[host, ("origin", origin)]);
                assert_eq!(refused, Err(Rejection::ForeignOrigin), "{origin}");
            }
        }
        let any = WebAccess::new(&[], &[ANY.to_owned()]);
        assert_eq!(check(&any, LOOPBACK, &[host, ("origin", "https://evil.example")]), Ok(()));
    }

    #[test]
    fn grpc_clients_may_use_any_name_but_pages_may_not_speak_grpc() {
        let grpc = ("content-type", "application/grpc");
        assert_eq!(check(&WebAccess::default(), LOOPBACK, &[grpc, ("host", "gateway")]), Ok(()));
        let rebound = [grpc, ("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(check(&WebAccess::default(), LOOPBACK, &rebound), Err(Rejection::ForeignHost));
    }
}
