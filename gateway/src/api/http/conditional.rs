//! Conditional requests (RFC 9110, section 13): `If-Match`, `If-None-Match` and `If-Range`.
//!
//! All validators are strong entity tags. No resource has a modification date, so the conditions on dates do not apply.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use c3_server::ErrorKind;
use c3_types::Expected;
use headers::{ETag, Header, HeaderMapExt, IfMatch, IfNoneMatch, IfRange};

use super::reply::Failure;

/// Result of the conditions of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The response is sent.
    Met,
    /// The caller has the current representation: status 304.
    NotModified,
}

/// Returns the entity tag of a representation. `opaque` must be hexadecimal digits.
pub(super) fn etag(opaque: &str) -> ETag {
    format!("\"{opaque}\"").parse().expect("hexadecimal digits in quotes are an entity tag")
}

/// Evaluates the conditions of a GET or HEAD request in the order of RFC 9110. Fails with status 412.
pub(super) fn check_read(headers: &HeaderMap, current: &ETag) -> Result<Condition, Failure> {
    if headers.contains_key(header::IF_MATCH) && !matches_if_match(headers, current) {
        return Err(failed("the representation has changed", Some(current)));
    }
    match conditions::<IfNoneMatch>(headers).ok().flatten() {
        Some(condition) if !condition.precondition_passes(current) => Ok(Condition::NotModified),
        _ => Ok(Condition::Met),
    }
}

/// Returns whether `Range` applies: there is no `If-Range`, or it names the current representation.
pub(super) fn range_applies(headers: &HeaderMap, current: &ETag) -> bool {
    match conditions::<IfRange>(headers) {
        Ok(None) => true,
        Ok(Some(condition)) => !condition.is_modified(Some(current), None),
        Err(_) => false,
    }
}

/// Precondition of a change of a name or of labels, which have version tokens as entity tags.
#[derive(Debug)]
pub(super) enum Precondition {
    /// The precondition is a comparison with one token.
    Expected(Expected),
    /// The current token decides; see [`Self::with_current`].
    Current { if_match: Option<IfMatch>, if_none_match: Option<IfNoneMatch> },
}

impl Precondition {
    /// Reads the headers of a PUT, PATCH or DELETE request.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let malformed = |name| {
            let detail = format!("the header {name} is malformed: give entity tags in quotes, or *");
            Failure::new(ErrorKind::InvalidArgument, detail)
        };
        let if_match = conditions::<IfMatch>(headers).map_err(|_| malformed("If-Match"))?;
        let if_none_match = conditions::<IfNoneMatch>(headers).map_err(|_| malformed("If-None-Match"))?;
        Ok(match (if_match, if_none_match) {
            (None, None) => Self::Expected(Expected::Any),
            (None, Some(condition)) if condition == IfNoneMatch::any() => Self::Expected(Expected::Absent),
            (Some(_), None) if let Some(token) = only_token(headers) => Self::Expected(Expected::Token(token)),
            (if_match, if_none_match) => Self::Current { if_match, if_none_match },
        })
    }

    /// Decides about a precondition that depends on the current token. Returns the condition that the change must check
    /// atomically: that the token is still the current one. `None` stands for no current value.
    pub(super) fn with_current(
        if_match: Option<&IfMatch>,
        if_none_match: Option<&IfNoneMatch>,
        token: Option<&str>,
    ) -> Result<Expected, Failure> {
        let tag = token.map(etag);
        let matches =
            if_match.is_none_or(|condition| tag.as_ref().is_some_and(|tag| condition.precondition_passes(tag)));
        let differs =
            if_none_match.is_none_or(|condition| tag.as_ref().is_none_or(|tag| condition.precondition_passes(tag)));
        match matches && differs {
            true => Ok(token.map_or(Expected::Absent, |token| Expected::Token(token.to_owned()))),
            false => Err(failed("the current version does not meet If-Match or If-None-Match", tag.as_ref())),
        }
    }
}

/// Returns the token of an `If-Match` header with exactly one strong entity tag.
fn only_token(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?.trim();
    let token = value.strip_prefix('"')?.strip_suffix('"')?;
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric())).then(|| token.to_owned())
}

/// Reads a header with entity tags; `None` if it is missing. Fails if it is malformed.
///
/// The crate `headers` accepts white space within entity tags, and panics on it in debug builds.
fn conditions<H: Header>(headers: &HeaderMap) -> Result<Option<H>, headers::Error> {
    for value in headers.get_all(H::name()) {
        let mut is_quoted = false;
        for byte in value.as_bytes() {
            is_quoted ^= *byte == b'"';
            if is_quoted && matches!(byte, 0..=b' ') {
                return Err(headers::Error::invalid());
            }
        }
    }
    headers.typed_try_get()
}

fn matches_if_match(headers: &HeaderMap, current: &ETag) -> bool {
    let condition = conditions::<IfMatch>(headers).ok().flatten();
    condition.is_some_and(|condition| condition.precondition_passes(current))
}

fn failed(detail: &str, current: Option<&ETag>) -> Failure {
    let failure = Failure::new(ErrorKind::PreconditionFailed, format!("{detail}: read it again"));
    match current {
        Some(current) => failure.with_header(header::ETAG, etag_value(current)),
        None => failure,
    }
}

/// Returns an entity tag as the value of a header.
pub(super) fn etag_value(etag: &ETag) -> HeaderValue {
    let mut headers = HeaderMap::new();
    headers.typed_insert(etag.clone());
    headers.remove(header::ETAG).expect("the header was just inserted")
}

/// Returns whether the method reads.
pub(super) fn is_head(method: &Method) -> bool {
    method == Method::HEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_strong_tag_is_compared_by_the_change_itself() {
        let expected = |pairs: &[_]| match Precondition::from_headers(&headers(pairs)).unwrap() {
            Precondition::Expected(expected) => Some(expected),
            Precondition::Current { .. } => None,
        };
        assert_eq!(expected(&[]), Some(Expected::Any));
        assert_eq!(expected(&[("if-none-match", "*")]), Some(Expected::Absent));
        assert_eq!(expected(&[("if-match", "\"ab12\"")]), Some(Expected::Token("ab12".to_owned())));
        for current in ["*", "\"a\", \"b\"", "W/\"a\"", "\"\""] {
            assert_eq!(expected(&[("if-match", current)]), None, "{current}");
        }
        assert_eq!(expected(&[("if-match", "\"a\""), ("if-none-match", "\"b\"")]), None);
        assert_eq!(expected(&[("if-none-match", "\"a\"")]), None);
    }

    #[test]
    fn other_preconditions_are_decided_by_the_current_token() {
        let decide = |pairs: &[_], token| match Precondition::from_headers(&headers(pairs)).unwrap() {
            Precondition::Current { if_match, if_none_match } => {
                Precondition::with_current(if_match.as_ref(), if_none_match.as_ref(), token).ok()
            }
            Precondition::Expected(_) => panic!("the precondition does not depend on the current token"),
        };
        let is_a = Some(Expected::Token("a".to_owned()));
        assert_eq!(decide(&[("if-match", "*")], Some("a")), is_a);
        assert_eq!(decide(&[("if-match", "*")], None), None);
        assert_eq!(decide(&[("if-match", "\"b\", \"a\"")], Some("a")), is_a);
        // Weak tags never match in If-Match, but do in If-None-Match.
        assert_eq!(decide(&[("if-match", "W/\"a\"")], Some("a")), None);
        assert_eq!(decide(&[("if-none-match", "W/\"a\"")], Some("a")), None);
        assert_eq!(decide(&[("if-none-match", "\"b\"")], Some("a")), is_a);
        assert_eq!(decide(&[("if-none-match", "\"b\"")], None), Some(Expected::Absent));
    }
}
