//! Server-sent events: progress of writes, and text with the positions of its corrections.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use c3_types::PutEvent;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{DocumentBody, ProgressBody, StoredBody};
use super::reply::Failure;
use crate::error::Error;
use crate::read::document::TextPiece;

/// Interval of heartbeats, which are comments. Proxies often close connections that are silent for a minute.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Returns whether the caller asks for events.
pub(super) fn are_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accept.flat_map(|value| value.split(','));
    ranges.any(|range| range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case(EVENT_STREAM)))
}

/// Media type of events.
const EVENT_STREAM: &str = "text/event-stream";

/// Returns the events of a write: `progress`, then `result` or `problem`.
pub(super) fn of_write(mut events: BoxStream<'static, Result<PutEvent, Error>>) -> Response {
    respond(stream! {
        while let Some(event) = events.next().await {
            yield match event {
                Ok(PutEvent::Progress(progress)) => json("progress", &ProgressBody::from(&progress)),
                Ok(PutEvent::Stored(stored)) => json("result", &StoredBody::from(&*stored)),
                Err(error) => problem(error),
            };
        }
    })
}

/// A piece of a text, as the data of an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct TextEvent {
    /// Offset of the first byte in the document.
    start: u64,
    text: String,
    /// Index of the window whose end the text contains. A window is a part that is decoded separately.
    window: u64,
    /// Positions of the window's tokens that corrections forced.
    corrected: Vec<u32>,
}

/// End of a text, as the data of an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct EndEvent {
    /// Bytes that were sent.
    bytes: u64,
}

/// Returns the events of a read: `document`, then `text`, then `result` or `problem`.
pub(super) fn of_text(document: DocumentBody, mut pieces: BoxStream<'static, Result<TextPiece, Error>>) -> Response {
    respond(stream! {
        yield json("document", &document);
        let (mut bytes, mut incomplete) = (0, Vec::new());
        while let Some(piece) = pieces.next().await {
            let TextPiece { text, window, start, corrected } = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    yield problem(error);
                    return;
                }
            };
            // A window may end inside a character, which then moves to the next event.
            let start = start - incomplete.len() as u64;
            incomplete.extend_from_slice(&text);
            let end = match std::str::from_utf8(&incomplete) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            let rest = incomplete.split_off(end);
            let text = String::from_utf8_lossy(&incomplete).into_owned();
            incomplete = rest;
            bytes += text.len() as u64;
            yield json("text", &TextEvent { start, text, window, corrected: corrected.to_vec() });
        }
        yield json("result", &EndEvent { bytes });
    })
}

fn json(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(data).expect("bodies consist of numbers, strings, lists and maps with string keys")
}

fn problem(error: Error) -> Event {
    Event::default().event("problem").data(Failure::from(error).problem().to_json())
}

fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(HEARTBEAT_INTERVAL).text("heartbeat");
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sent_only_if_they_are_asked_for() {
        let wanted = |accept: &str| are_wanted(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        assert!(wanted("text/event-stream") && wanted("application/json;q=0.5, Text/Event-Stream;q=0.9"));
        assert!(!wanted("*/*") && !wanted("text/*") && !are_wanted(&HeaderMap::new()));
    }
}
