//! Data of request bodies, as they arrive.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::error::Error;

/// Limits on reading the rest of a body after its request has failed.
const DRAIN_BYTES_MAX: usize = 4 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Pieces of a body.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, Error>>;

/// Returns the pieces of a body.
pub(super) fn pieces(body: Body) -> Pieces {
    body.into_data_stream().map_err(|error| Error::Body(error.to_string())).boxed()
}

/// Reads the rest of a body, within limits, before the error response is sent.
///
/// If a server closes a connection with unread data, TCP resets it. The caller, which is still sending, may then not
/// see the response.
pub(super) async fn drain(pieces: &mut Pieces) {
    let mut left = DRAIN_BYTES_MAX;
    let all = async {
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // The rest is not needed, so it does not matter how much of it was read.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
}
