//! JSON objects with a long string `text`, which is passed on as it arrives.

use async_stream::try_stream;
use bytes::{Buf, Bytes, BytesMut};
use c3_server::ErrorKind;
use c3_types::Invalid;
use futures::StreamExt;
use serde_json::{Map, Value};

use super::pieces::Pieces;
use super::reply::Failure;
use crate::error::Error;

/// Maximum bytes of a JSON body that is parsed as a whole. In a longer one, `text` must be the last member, and the
/// other members must fit into this size.
pub(super) const JSON_BYTES_MAX: usize = 1 << 20;
/// Maximum bytes of a piece of the text that is passed on.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the longest escape: the two halves of a character outside the Basic Multilingual Plane.
const ESCAPE_BYTES_MAX: usize = 12;
/// Name of the member with the text.
const TEXT: &str = "text";

/// A JSON body.
pub(super) enum JsonText {
    /// The whole body, which is short.
    Whole(Bytes),
    /// The members before `text`, and the text.
    Streamed { options: Value, text: Pieces },
}

/// Reads a body up to its text if it is long, else as a whole.
pub(super) async fn read(mut body: Pieces) -> Result<JsonText, Failure> {
    let mut start = BytesMut::new();
    while start.len() <= JSON_BYTES_MAX {
        match body.next().await {
            Some(piece) => start.extend_from_slice(&piece?),
            None => return Ok(JsonText::Whole(start.freeze())),
        }
    }
    let (options, text_at) = members_before_text(&start)
        .map_err(|problem| Failure::new(ErrorKind::InvalidArgument, format!("the JSON body {problem}")))?;
    start.advance(text_at);
    Ok(JsonText::Streamed { options: Value::Object(options), text: string(start, body).boxed() })
}

/// Parses the members of an object before `text`. Returns them, and the position after the opening quote of the text.
pub(super) fn members_before_text(start: &[u8]) -> Result<(Map<String, Value>, usize), String> {
    let (mut members, mut at) = (Map::new(), expect(start, 0, b'{')?);
    loop {
        let (key, after) = value(start, at)?;
        let Value::String(key) = key else { return Err("has a member without a name".to_owned()) };
        at = expect(start, after, b':')?;
        if key == TEXT {
            return Ok((members, expect(start, at, b'"')?));
        }
        let (value, after) = value(start, at)?;
        members.insert(key, value);
        at = expect(start, after, b',')?;
    }
}

/// Parses the value at `at`. Returns it with its end.
fn value(start: &[u8], at: usize) -> Result<(Value, usize), String> {
    let mut values = serde_json::Deserializer::from_slice(&start[at..]).into_iter();
    match values.next() {
        Some(Ok(value)) => Ok((value, at + values.byte_offset())),
        Some(Err(error)) if error.is_eof() => {
            Err(format!("must have `text` last, after at most {JSON_BYTES_MAX} bytes of options"))
        }
        Some(Err(error)) => Err(format!("is invalid after byte {at}: {error}")),
        None => Err("ends too early".to_owned()),
    }
}

/// Returns whether a byte is white space in JSON (RFC 8259), which has fewer such bytes than ASCII.
fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Skips white space and `expected`. Returns the position after it.
fn expect(start: &[u8], at: usize, expected: u8) -> Result<usize, String> {
    let found = start[at..].iter().position(|&byte| !is_white_space(byte)).map(|skipped| at + skipped);
    match found {
        Some(found) if start[found] == expected => Ok(found + 1),
        Some(found) => Err(format!("must have `{}` at byte {found}", char::from(expected))),
        None => Err("ends too early".to_owned()),
    }
}

/// Decodes a JSON string whose opening quote was read, and checks that the object ends after it.
pub(super) fn string(
    mut buffer: BytesMut,
    mut body: Pieces,
) -> impl futures::Stream<Item = Result<Bytes, Error>> + Send {
    try_stream! {
        let invalid = |problem: &str| Error::from(Invalid::new(TEXT, problem));
        let mut is_at_end = false;
        loop {
            let plain = buffer.iter().take(PIECE_BYTES_MAX).position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            let plain = plain.unwrap_or(buffer.len().min(PIECE_BYTES_MAX));
            if plain > 0 {
                yield buffer.split_to(plain).freeze();
                continue;
            }
            if buffer.len() < ESCAPE_BYTES_MAX && !is_at_end && buffer.first() != Some(&b'"') {
                match body.next().await {
                    Some(piece) => buffer.extend_from_slice(&piece?),
                    None => is_at_end = true,
                }
                continue;
            }
            match buffer.first() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let (text, bytes) = unescape(&buffer).ok_or_else(|| invalid("has an invalid escape"))?;
                    buffer.advance(bytes);
                    yield Bytes::from(text);
                }
                Some(_) => Err(invalid("has a control character that is not escaped"))?,
                None => Err(invalid("ends without a quote"))?,
            }
        }
        buffer.advance(1);
        let mut has_brace = false;
        loop {
            for byte in buffer.split() {
                match byte {
                    b'}' if !has_brace => has_brace = true,
                    byte if is_white_space(byte) => {}
                    b',' => Err(invalid("must be the last member of a long JSON body"))?,
                    _ => Err(invalid("must be followed by the end of the JSON body"))?,
                }
            }
            match body.next().await {
                Some(piece) => buffer.extend_from_slice(&piece?),
                None => break,
            }
        }
        if !has_brace {
            Err(invalid("must be followed by the end of the JSON body"))?;
        }
    }
}

/// Decodes the escape at the start of `buffer`. Returns its text and length; `None` if it is invalid.
fn unescape(buffer: &[u8]) -> Option<(String, usize)> {
    let is_pair = buffer.get(1) == Some(&b'u')
        && buffer.get(2).is_some_and(|digit| matches!(digit, b'd' | b'D'))
        && buffer.get(6..8) == Some(b"\\u");
    let length = match buffer.get(1)? {
        b'u' if is_pair => ESCAPE_BYTES_MAX,
        b'u' => 6,
        _ => 2,
    };
    let decode = |length| {
        let quoted = [b"\"", buffer.get(..length)?, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).ok().map(|text| (text, length))
    };
    // `\ud7ff` looks like a surrogate, but stands for a character of its own.
    decode(length).or_else(|| decode(6).filter(|_| is_pair))
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, stream};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    async fn text_of(body: Vec<u8>, piece_bytes: usize) -> Result<(Value, Vec<u8>), String> {
        let pieces = Vec::from_iter(body.chunks(piece_bytes).map(|piece| Ok(Bytes::copy_from_slice(piece))));
        match read(stream::iter(pieces).boxed()).await {
            Ok(JsonText::Whole(_)) => panic!("the body is long"),
            Ok(JsonText::Streamed { options, text }) => {
                let text: Vec<Bytes> = text.try_collect().await.map_err(|error| error.to_string())?;
                Ok((options, text.concat()))
            }
            Err(failure) => Err(failure.problem().detail().to_owned()),
        }
    }

    fn long() -> String {
        "Nothing in the world is as soft as water. ".repeat((2 * JSON_BYTES_MAX) / 42)
    }

    #[tokio::test]
    async fn a_long_text_is_decoded_from_its_escapes() {
        let text = format!("{}\"quoted\"\n\t\\ ä 書 \u{1f600} \u{0}{}", long(), "😀\u{d7ff}".repeat(999));
        let ascii = serde_json::to_string(&text).unwrap().chars().fold(String::new(), |mut ascii, c| {
            match c.is_ascii() {
                true => ascii.push(c),
                false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| ascii += &format!("\\u{unit:04x}")),
            }
            ascii
        });
        for string in [serde_json::to_string(&text).unwrap(), ascii] {
            for piece_bytes in [1000, 65_537, 9 << 20] {
                let body = format!(" {{ \"ratio\": 20,\"labels\" : {{\"a\":\"}}\"}}, \"text\":{string} }} \n");
                let (options, decoded) = text_of(body.into_bytes(), piece_bytes).await.unwrap();
                assert_eq!(options, json!({ "ratio": 20, "labels": { "a": "}" } }));
                assert!(decoded == text.as_bytes());
            }
        }
    }

    #[tokio::test]
    async fn a_broken_long_body_is_refused() {
        let text = long();
        for (body, says) in [
            (format!("{{\"text\":\"{text}"), "without a quote"),
            (format!("{{\"text\":\"{text}\\x\"}}"), "invalid escape"),
            (format!("{{\"text\":\"{text}\\ud800\"}}"), "invalid escape"),
            (format!("{{\"text\":\"{text}\n\"}}"), "control character"),
            (format!("{{\"text\":\"{text}\""), "end of the JSON body"),
            (format!("{{\"text\":\"{text}\"}}}}"), "end of the JSON body"),
            (format!("{{\"text\":\"{text}\",\"ratio\":20}}"), "last member"),
            (format!("{{\"other\":\"{text}\",\"text\":\"\"}}"), "`text` last"),
            (format!("[\"{text}\"]"), "`{`"),
            (format!("{{\"text\":[\"{text}\"]}}"), "`\"`"),
            (format!("{{text:\"{text}\"}}"), "invalid"),
        ] {
            let error = text_of(body.into_bytes(), 65_536).await.unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    proptest! {
        #[test]
        fn escapes_are_decoded_as_serde_does(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let pieces = quoted.as_bytes()[1..].iter().map(|&byte| Ok(Bytes::from(vec![byte])));
            let body = stream::iter(Vec::from_iter(pieces)).chain(stream::iter([Ok(Bytes::from_static(b"}"))]));
            let decoded: Vec<Bytes> = runtime.block_on(string(BytesMut::new(), body.boxed()).try_collect()).unwrap();
            prop_assert_eq!(decoded.concat(), text.into_bytes());
        }
    }
}
