//! Fuzz targets: headers that every server reads, and values of flags.

use c3_fuzz::MemoryBound;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use crate::deadline::{grpc_timeout, request_timeout};
use crate::propagation::extract;
use crate::units::{Size, TimeSpan};
use crate::web_access::WebAccess;

#[test]
fn call_headers() {
    let values = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "250m",
        "1h 30m",
        "0.5",
        "localhost:7300",
        "[::1]:7300",
        "https://app.example",
    ];
    let seeds = values.map(|value| value.as_bytes().to_vec()).to_vec();
    c3_fuzz::check!("call_headers", MemoryBound::default(), seeds, |value| {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        const NAMES: [&str; 6] = ["traceparent", "tracestate", "grpc-timeout", "request-timeout", "host", "origin"];
        let mut request = Request::new(());
        *request.headers_mut() = HeaderMap::from_iter(NAMES.map(|name| (HeaderName::from_static(name), value.clone())));
        let _ = (grpc_timeout(request.headers()), extract(request.headers()));
        if let Ok(Some(timeout)) = request_timeout(request.headers()) {
            assert!(timeout <= TimeSpan::MAX.0);
        }
        let access = WebAccess::new(&["gateway.internal".to_owned()], &["https://app.example".to_owned()]);
        if access.check(&request).is_ok() {
            let host = request.headers()[header::HOST].to_str().unwrap();
            assert!(!host.is_empty());
        }
    });
}

#[test]
fn units() {
    let values = ["500ms", "1h 30m", "7", "256MiB", "1.5 gib", "99years", "18446744073709551615B"];
    let seeds = values.map(|value| value.as_bytes().to_vec()).to_vec();
    c3_fuzz::check!("units", MemoryBound::default(), seeds, |typed| {
        let typed = String::from_utf8_lossy(typed);
        if let Ok(span) = typed.parse::<TimeSpan>() {
            assert!(span <= TimeSpan::MAX);
            assert_eq!(span.to_string().parse(), Ok(span), "{typed}");
        }
        if let Ok(size) = typed.parse::<Size>() {
            assert_eq!(size.to_string().parse(), Ok(size), "{typed}");
        }
    });
}
