//! Sessions of web pages that a gateway serves itself: credentials in a cookie, which scripts cannot read.
//!
//! The cookie holds the API key or token itself. So every gateway accepts it, and it ends with the key. The browser
//! sends it only with requests of the gateway's own pages (`SameSite=Strict`). A request that may change something must
//! also carry a token derived from the credentials, which only a page of the same origin can have read.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Name of the cookie.
const COOKIE: &str = "c3_session";
/// Header with the token against cross-site request forgery.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// Time until the browser forgets the cookie.
const MAX_AGE: Duration = Duration::from_secs(12 * 3600);
/// Context in which the token is derived from credentials.
const CSRF_CONTEXT: &str = "c3-serve 2026-12 token against cross-site request forgery";

/// Returns the credentials in the cookie of a request; `None` if there is no cookie, or if it is empty.
pub fn credentials(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    cookies.find(|(name, value)| *name == COOKIE && !value.is_empty()).map(|(_, value)| value)
}

/// Returns the value of `Set-Cookie` that begins a session with these credentials, or ends it for `None`. `is_secure`:
/// the browser sends the cookie only over TLS. Returns `None` if credentials contain characters that no key has.
pub fn set_cookie(credentials: Option<&str>, is_secure: bool) -> Option<HeaderValue> {
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte));
    let value = credentials.unwrap_or_default();
    let age = if credentials.is_some() { MAX_AGE } else { Duration::ZERO };
    let cookie = Cookie::build((COOKIE, value)).path("/").http_only(true).same_site(SameSite::Strict);
    let cookie = cookie.secure(is_secure).max_age(age.try_into().ok()?).build();
    is_plain(value).then(|| HeaderValue::from_str(&cookie.to_string()).ok())?
}

/// Returns the token that a page with these credentials sends in [`CSRF_HEADER`].
pub fn csrf_token(credentials: &str) -> String {
    hash(credentials).to_hex().to_string()
}

/// Returns whether a request carries the token of its credentials. The comparison takes constant time.
pub(crate) fn has_csrf_token(headers: &HeaderMap, credentials: &str) -> bool {
    let sent = headers.get(CSRF_HEADER).and_then(|value| blake3::Hash::from_hex(value.as_bytes()).ok());
    sent.is_some_and(|sent| sent == hash(credentials))
}

fn hash(credentials: &str) -> blake3::Hash {
    blake3::Hash::from_bytes(blake3::derive_key(CSRF_CONTEXT, credentials.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_comes_back_as_credentials() {
        let set = set_cookie(Some("c3_1f_secret"), true).unwrap();
        assert_eq!(set, "c3_session=c3_1f_secret; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=43200");
        let sent = set.to_str().unwrap().split(';').next().unwrap();
        assert_eq!(credentials(&headers(&[(header::COOKIE, &format!("a=b; {sent}"))])), Some("c3_1f_secret"));
        for none in ["", "a=b", "c3_session=", "xc3_session=k"] {
            assert_eq!(credentials(&headers(&[(header::COOKIE, none)])), None, "{none}");
        }
        assert_eq!(set_cookie(Some("key; Domain=evil.example"), false), None);
        assert!(set_cookie(None, false).unwrap().to_str().unwrap().ends_with("Max-Age=0"));
    }

    #[test]
    fn only_the_token_of_the_same_credentials_is_accepted() {
        let token = csrf_token("key");
        assert!(has_csrf_token(&headers(&[(CSRF_HEADER, &token)]), "key"));
        assert!(!has_csrf_token(&headers(&[(CSRF_HEADER, &token)]), "other"));
        assert!(!has_csrf_token(&headers(&[(CSRF_HEADER, "x")]), "key") && !has_csrf_token(&headers(&[]), "key"));
    }
}
