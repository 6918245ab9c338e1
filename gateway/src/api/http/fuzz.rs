//! Fuzz targets of the HTTP API: bodies, query strings, headers and cursors.

use std::pin::pin;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use bytes::BytesMut;
use c3_fuzz::MemoryBound;
use c3_types::latents_file::{self, TensorFormat};
use c3_types::{Window, WindowHash};
use futures::executor::block_on;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};

use super::conditional::{Precondition, check_read, etag, range_applies};
use super::documents::ListParameters;
use super::events;
use super::json_text::{members_before_text, string};
use super::latents_body::LatentsBody;
use super::names::NamesParameters;
use super::options::{PatchLabelsBody, PutBody, PutQuery, RecodeBody, ReplaceLabelsBody, SetNameBody};
use super::pieces::Pieces;
use super::ranges::{MultipartRanges, Selection};
use super::reply::{content_length, content_type, parse_json};
use super::text_body::{TextBody, from_json, from_multipart};
use crate::cursor::Cursor;

fn seeds(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

/// Returns a body that arrives in small pieces.
fn pieces(body: &[u8]) -> Pieces {
    let pieces = Vec::from_iter(body.chunks(997).map(|piece| Ok(Bytes::copy_from_slice(piece))));
    stream::iter(pieces).boxed()
}

/// Reads the text of a body to its end.
fn read(body: TextBody) {
    let TextBody { text, .. } = body;
    let _ = block_on(text.try_fold(0, |bytes, piece| async move { Ok(bytes + piece.len()) }));
}

#[test]
fn json_body() {
    let seeds = seeds(&[
        r#"{"text": "Some text.\n", "ratio": 20, "verify": true, "labels": {"lang": "de"}, "name": "team/a"}"#,
        r#"{"ratio": "auto", "fidelity_min": 0.999, "codec": "q4_0", "text": "\ud83d\udc69 \u0000 \"quoted\""}"#,
        r#"{"id": "@book"}"#,
        r#"{"lang": null, "kind": "x"}"#,
        r#"{"margin": 2.5, "ttl_seconds": 60, "upload": "night-run_1", "text": ""}"#,
    ]);
    c3_fuzz::check!("json_body", MemoryBound::default(), seeds, |body| {
        if let Ok(body) = block_on(from_json(pieces(body))) {
            read(body);
        }
        let _ = parse_json::<PutBody>(body).map(|body| body.into_options(Some(9)));
        let _ = (parse_json::<RecodeBody>(body), parse_json::<SetNameBody>(body));
        let _ = (parse_json::<PatchLabelsBody>(body), parse_json::<ReplaceLabelsBody>(body));
    });
}

#[test]
fn json_stream() {
    let seeds = seeds(&[
        r#"{"ratio": 20, "labels": {"lang": "de"}, "text": "Some text.\n"}"#,
        r#"{"text": "\ud83d\udc69 \ud7ff \u0000 \"quoted\" \/ 書"}  "#,
    ]);
    c3_fuzz::check!("json_stream", MemoryBound::default(), seeds, |body| {
        let Ok((_, text_at)) = members_before_text(body) else { return };
        let text = string(BytesMut::new(), pieces(&body[text_at..]));
        let text =
            block_on(pin!(text).try_fold(Vec::new(), |text, piece| async move { Ok([text, piece.to_vec()].concat()) }));
        let (Ok(text), Ok(body)) = (text, std::str::from_utf8(body)) else { return };
        // Both readers of JSON must agree.
        let whole: Map<String, Value> = serde_json::from_str(body).unwrap();
        assert_eq!(whole["text"].as_str().map(str::as_bytes), Some(&text[..]));
    });
}

#[test]
fn multipart_body() {
    let seeds = seeds(&[
        "--b\r\ncontent-disposition: form-data; name=\"ratio\"\r\n\r\n20\r\n--b\r\ncontent-disposition: form-data; \
         name=\"text\"\r\n\r\nSome text.\r\n--b--\r\n",
        "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\n\
         Some text.\r\n--b--\r\n",
    ]);
    c3_fuzz::check!("multipart_body", MemoryBound::default(), seeds, |body| {
        let content_type = HeaderValue::from_static("multipart/form-data; boundary=b");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        if let Ok(body) = block_on(from_multipart(&headers, Body::from_stream(pieces(body)))) {
            read(body);
        }
    });
}

#[test]
fn query() {
    let seeds = seeds(&[
        "ratio=20&codec=q4_0&label=lang%3Dde&label=a=b&name=team/a&name_token=none&ttl_seconds=60",
        "ratio=auto&fidelity_min=0.999&bytes=120&base=abcd",
        "limit=10&cursor=0123456789abcdef.61&id_prefix=ab&name_prefix=x&created_from=2026-03-01T12:00:00Z",
        "namespace=team&prefix=a&limit=1000",
    ]);
    c3_fuzz::check!("query", MemoryBound::default(), seeds, |query| {
        let Ok(uri) = format!("/?{}", String::from_utf8_lossy(query)).parse::<Uri>() else { return };
        let _ = axum_extra::extract::Query::<PutQuery>::try_from_uri(&uri).map(|query| query.0.into_options(Some(9)));
        let _ = axum_extra::extract::Query::<ListParameters>::try_from_uri(&uri).map(|query| query.0.query());
        let _ = axum_extra::extract::Query::<NamesParameters>::try_from_uri(&uri);
    });
}

#[test]
fn headers() {
    // The first byte chooses the size of the text; the rest is the value of the headers.
    let values = [
        "bytes=0-1, 4-5,-1",
        "bytes=-0",
        "\"abcdef\", W/\"x\"",
        "*",
        "text/plain; charset=utf-8",
        "text/event-stream;q=1",
    ];
    let values = values.map(|value| format!("\u{9}{value}"));
    let seeds = seeds(&values.each_ref().map(String::as_str));
    c3_fuzz::check!("headers", MemoryBound::default(), seeds, |input| {
        let Some((size, value)) = input.split_first() else { return };
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        const NAMES: [HeaderName; 7] = [
            header::RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::ACCEPT,
        ];
        let headers = HeaderMap::from_iter(NAMES.map(|name| (name, value.clone())));
        let (tag, size) = (etag("abcdef"), u64::from(*size));
        let _ = (check_read(&headers, &tag), range_applies(&headers, &tag));
        let _ = (content_type(&headers), content_length(&headers), events::are_wanted(&headers));
        if let Ok(Precondition::Current { if_match, if_none_match }) = Precondition::from_headers(&headers) {
            let _ = Precondition::with_current(if_match.as_ref(), if_none_match.as_ref(), Some("abcdef"));
        }
        if let Selection::Ranges(ranges) = Selection::from_headers(&headers, size) {
            assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size));
            let sum: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            assert!(MultipartRanges::new("b".to_owned(), size, ranges).length() > sum);
        }
    });
}

#[test]
fn cursor() {
    let cursor = Cursor::of_listing("names", &"filter").cursor("book/書");
    c3_fuzz::check!("cursor", MemoryBound::default(), seeds(&[&cursor]), |typed| {
        let listing = Cursor::of_listing("names", &"filter");
        let Ok(typed) = std::str::from_utf8(typed) else { return };
        if let Ok(position) = listing.position(typed) {
            assert_eq!(listing.cursor(&position), typed.to_ascii_lowercase());
        }
    });
}

#[test]
fn latents_body() {
    let windows = crate::test_data::windows(&[40, 7]).into_iter().map(|window| Window {
        shard: 0,
        bytes: window.bytes.start.into()..window.bytes.end.into(),
        group: window.group,
        hash: WindowHash::of(b"text"),
        corrections: None,
    });
    let windows: Vec<_> = windows.collect();
    let seeds =
        [TensorFormat::F32, TensorFormat::Stored].map(|format| latents_file::write(format, None, &windows).unwrap());
    c3_fuzz::check!("latents_body", MemoryBound::default(), seeds.to_vec(), |file| {
        let Ok(LatentsBody { windows, .. }) = block_on(LatentsBody::read(pieces(file))) else { return };
        let _ = block_on(windows.try_for_each(|_| async { Ok(()) }));
    });
}
