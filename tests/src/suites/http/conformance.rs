//! Range and conditional requests: cases after RFC 9110, by our own client and by curl.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::quantity::Quantity;
use crate::harness::raw_http1::{RawHttp1, Response};

/// A request for a text, and the response that RFC 9110 demands. `ID` stands for the document's id, `SIZE` for the size
/// of the text in bytes.
pub struct Case {
    /// Method of the request.
    pub method: &'static str,
    /// Header fields of the request.
    pub headers: &'static [(&'static str, &'static str)],
    /// Status of the response.
    pub status: u16,
    /// Bytes of the text in the body: `None` for the whole text, empty for no body. Negative ends count from the end.
    pub body: Option<(i64, i64)>,
}

const WHOLE: Option<(i64, i64)> = None;
const NOTHING: Option<(i64, i64)> = Some((0, 0));

const fn case(
    method: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    body: Option<(i64, i64)>,
) -> Case {
    Case { method, headers, status, body }
}

/// The cases, with the section of RFC 9110 that they are from.
pub const CASES: &[Case] = &[
    // 9.3.1, 9.3.2: GET and HEAD.
    case("GET", &[], 200, WHOLE),
    case("HEAD", &[], 200, NOTHING),
    // 14.1.2, 14.2: one range.
    case("GET", &[("range", "bytes=0-0")], 206, Some((0, 1))),
    case("GET", &[("range", "bytes=0-99")], 206, Some((0, 100))),
    case("GET", &[("range", "bytes=100-199")], 206, Some((100, 200))),
    case("GET", &[("range", "bytes=100-")], 206, Some((100, i64::MAX))),
    case("GET", &[("range", "bytes=-1")], 206, Some((-1, i64::MAX))),
    case("GET", &[("range", "bytes=-100")], 206, Some((-100, i64::MAX))),
    case("GET", &[("range", "bytes=0-999999999")], 206, Some((0, i64::MAX))),
    case("GET", &[("range", "bytes=-999999999")], 206, Some((0, i64::MAX))),
    case("GET", &[("range", "bytes=0-18446744073709551616")], 206, Some((0, i64::MAX))),
    // 14.1: range units are case-insensitive; an unknown one is ignored.
    case("GET", &[("range", "Bytes=0-9")], 206, Some((0, 10))),
    case("GET", &[("range", "lines=0-9")], 200, WHOLE),
    // 5.6.1: a list may have empty elements.
    case("GET", &[("range", "bytes=,0-9,")], 206, Some((0, 10))),
    case("GET", &[("range", "bytes= 0-9 ")], 206, Some((0, 10))),
    // 14.1.2: ranges that overlap the text count, others of the list do not.
    case("GET", &[("range", "bytes=0-9,999999999-")], 206, Some((0, 10))),
    // 14.2: a malformed range is ignored.
    case("GET", &[("range", "bytes=9-0")], 200, WHOLE),
    case("GET", &[("range", "bytes=a-b")], 200, WHOLE),
    case("GET", &[("range", "bytes=")], 200, WHOLE),
    case("GET", &[("range", "bytes")], 200, WHOLE),
    case("GET", &[("range", "bytes=1")], 200, WHOLE),
    case("GET", &[("range", "bytes=-")], 200, WHOLE),
    case("GET", &[("range", "bytes=0-9,9-0")], 200, WHOLE),
    case("GET", &[("range", "bytes=+0-9")], 200, WHOLE),
    case("GET", &[("range", "0-9")], 200, WHOLE),
    // 15.5.17: no range overlaps the text.
    case("GET", &[("range", "bytes=999999999-")], 416, NOTHING),
    case("GET", &[("range", "bytes=999999999-1000000000")], 416, NOTHING),
    case("GET", &[("range", "bytes=-0")], 416, NOTHING),
    case("GET", &[("range", "bytes=SIZE-")], 416, NOTHING),
    // 14.2: Range is defined for GET only.
    case("HEAD", &[("range", "bytes=0-9")], 200, NOTHING),
    // 13.1.2: If-None-Match compares weakly.
    case("GET", &[("if-none-match", "\"ID\"")], 304, NOTHING),
    case("HEAD", &[("if-none-match", "\"ID\"")], 304, NOTHING),
    case("GET", &[("if-none-match", "W/\"ID\"")], 304, NOTHING),
    case("GET", &[("if-none-match", "\"x\", \"ID\"")], 304, NOTHING),
    case("GET", &[("if-none-match", "*")], 304, NOTHING),
    case("GET", &[("if-none-match", "\"x\"")], 200, WHOLE),
    case("GET", &[("if-none-match", "\"x\""), ("range", "bytes=0-9")], 206, Some((0, 10))),
    // 13.2.2: the condition precedes the range.
    case("GET", &[("if-none-match", "\"ID\""), ("range", "bytes=0-9")], 304, NOTHING),
    case("GET", &[("if-none-match", "\"ID\""), ("range", "bytes=999999999-")], 304, NOTHING),
    // 13.1.1: If-Match compares strongly.
    case("GET", &[("if-match", "\"ID\"")], 200, WHOLE),
    case("GET", &[("if-match", "\"x\", \"ID\"")], 200, WHOLE),
    case("GET", &[("if-match", "*")], 200, WHOLE),
    case("GET", &[("if-match", "\"x\"")], 412, NOTHING),
    case("HEAD", &[("if-match", "\"x\"")], 412, NOTHING),
    case("GET", &[("if-match", "W/\"ID\"")], 412, NOTHING),
    case("GET", &[("if-match", "\"x\""), ("range", "bytes=0-9")], 412, NOTHING),
    // 13.2.2: If-Match precedes If-None-Match.
    case("GET", &[("if-match", "\"x\""), ("if-none-match", "\"ID\"")], 412, NOTHING),
    case("GET", &[("if-match", "\"ID\""), ("if-none-match", "\"ID\"")], 304, NOTHING),
    // 13.1.3, 13.1.4: without a modification date, conditions on dates are ignored.
    case("GET", &[("if-modified-since", "Sat, 29 Oct 2044 19:43:31 GMT")], 200, WHOLE),
    case("GET", &[("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT")], 200, WHOLE),
    // 13.1.5: If-Range compares strongly, and a date never matches.
    case("GET", &[("if-range", "\"ID\""), ("range", "bytes=0-9")], 206, Some((0, 10))),
    case("GET", &[("if-range", "\"x\""), ("range", "bytes=0-9")], 200, WHOLE),
    case("GET", &[("if-range", "W/\"ID\""), ("range", "bytes=0-9")], 200, WHOLE),
    case("GET", &[("if-range", "Sat, 29 Oct 2044 19:43:31 GMT"), ("range", "bytes=0-9")], 200, WHOLE),
    case("GET", &[("if-range", "\"x\""), ("range", "bytes=999999999-")], 200, WHOLE),
    case("GET", &[("if-range", "\"ID\"")], 200, WHOLE),
];

/// Returns the header fields of a case for a document.
fn headers(case: &Case, id: &str, size: usize) -> Vec<(&'static str, String)> {
    let fill = |value: &str| value.replace("ID", id).replace("SIZE", &size.to_string());
    case.headers.iter().map(|(name, value)| (*name, fill(value))).collect()
}

/// Returns the bytes of the text that the body must have; `None` for a body that is not text.
fn expected_body<'a>(case: &Case, text: &'a [u8]) -> Option<&'a [u8]> {
    let size = text.len() as i64;
    let (start, end) = case.body.unwrap_or((0, size));
    let start = if start < 0 { size + start } else { start };
    (case.status < 300).then(|| &text[start as usize..end.min(size) as usize])
}

/// Returns the faults of a response.
fn faults(case: &Case, response: &Response, id: &str, text: &[u8]) -> Vec<String> {
    let size = text.len();
    let mut faults = Vec::new();
    let mut check = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    check(response.status == case.status, format!("status {}", response.status));
    if let Some(body) = expected_body(case, text) {
        check(response.body == body, format!("another body of {} bytes", response.body.len()));
        if case.method == "GET" && case.status == 206 {
            let start = body.as_ptr() as usize - text.as_ptr() as usize;
            let range = format!("bytes {start}-{}/{size}", start + body.len() - 1);
            check(response.header("content-range") == range, format!("not content-range {range}"));
        }
        check(response.header("accept-ranges") == "bytes", "no accept-ranges".to_owned());
        let length = if case.method == "HEAD" { size } else { body.len() };
        check(response.header("content-length") == length.to_string(), format!("not content-length {length}"));
    }
    if case.status == 416 {
        check(response.header("content-range") == format!("bytes */{size}"), "no content-range".to_owned());
        check(response.json()["bytes"] == size, "the problem does not have the size".to_owned());
    }
    if matches!(case.status, 200 | 206 | 304 | 412) {
        check(response.header("etag") == format!("\"{id}\""), "no etag".to_owned());
    }
    if case.status >= 400 && case.method == "GET" {
        check(!response.problem().is_empty(), "no problem".to_owned());
    }
    if case.status == 304 {
        check(response.body.is_empty(), "a body".to_owned());
    }
    faults
}

/// Sends all cases with our client, and with curl; each response must be as RFC 9110 demands.
pub async fn requests(text: &str) -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let id = put(&cluster, text).await?;
    let path = format!("/v1/documents/{id}/text");
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let (mut by_client, mut by_curl) = (Vec::new(), Vec::new());
    for case in CASES {
        let headers = headers(case, &id, text.len());
        let borrowed = Vec::from_iter(headers.iter().map(|(name, value)| (*name, value.as_str())));
        let response = connection.send(case.method, &path, &borrowed, b"").await?;
        let seen = format!("{} {borrowed:?}", case.method);
        by_client
            .extend(faults(case, &response, &id, text.as_bytes()).into_iter().map(|fault| format!("{seen}: {fault}")));
        let response = curl(&format!("{}{path}", cluster.gateway.url()), case.method, &borrowed)?;
        by_curl
            .extend(faults(case, &response, &id, text.as_bytes()).into_iter().map(|fault| format!("{seen}: {fault}")));
    }
    let several = connection.send("GET", &path, &[("range", "bytes=0-4,10-19,-3")], b"").await?;
    let size = text.len();
    let parts = [(0, 5), (10, 20), (size - 3, size)];
    let has_parts = parts.iter().all(|&(start, end)| {
        let part = format!("content-range: bytes {start}-{}/{size}\r\n\r\n{}\r\n--", end - 1, &text[start..end]);
        several.text().contains(&part)
    });
    let is_multipart = several.header("content-type").starts_with("multipart/byteranges; boundary=");
    Ok(vec![
        Quantity::at_least("conformance-cases", CASES.len() as f64, 40.0),
        Quantity::equal("conformance-faults", by_client, Vec::new()),
        Quantity::equal("conformance-curl-faults", by_curl, Vec::new()),
        Quantity::holds("conformance-several-ranges", several.status == 206 && is_multipart && has_parts, "multipart"),
    ])
}

/// Stores a text over HTTP and returns its id.
pub async fn put(cluster: &Cluster, text: &str) -> Result<String> {
    let mut connection = RawHttp1::connect(cluster.gateway.address()).await?;
    let response = connection.send("PUT", "/v1/documents", &[], text.as_bytes()).await?;
    ensure!(matches!(response.status, 200 | 201), "{}: {}", response.status, response.text());
    Ok(response.json()["id"].as_str().context("no id")?.to_owned())
}

fn curl(url: &str, method: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--include", "--http1.1", url]);
    match method {
        "HEAD" => command.arg("--head"),
        method => command.args(["--request", method]),
    };
    for (name, value) in headers {
        command.args(["--header", &format!("{name}: {value}")]);
    }
    let output = command.output().context("curl does not start")?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no head")?;
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status")?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok(Response { status, headers, body: output.stdout[end + 4..].to_vec() })
}
