//! Bodies with a latents file, whose windows are passed on as they arrive.

use async_stream::try_stream;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use c3_types::latents_file::{self, Header};
use c3_types::limits::MESSAGE_BYTES_MAX;
use c3_types::{Invalid, Window};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use super::pieces::{Pieces, pieces};
use super::reply::{Failure, content_type, refuse_encoded};
use crate::error::Error;
use crate::tenants::SharedTenants;

/// Maximum bytes of a header.
const HEADER_BYTES_MAX: usize = 64 << 20;
/// Maximum bytes of the tensors of a file in which they are not in the order of windows. Such a file is held in memory.
const UNORDERED_BYTES_MAX: usize = 64 << 20;

/// A latents file in the body of a request.
pub(super) struct LatentsBody {
    /// Document as the file describes it; `None` in a file of a text that was not stored.
    pub(super) document: Option<c3_types::Document>,
    pub(super) windows: BoxStream<'static, Result<Window, Error>>,
}

impl FromRequest<SharedTenants> for LatentsBody {
    type Rejection = Failure;

    /// Reads the header of the file.
    async fn from_request(request: Request, _: &SharedTenants) -> Result<Self, Failure> {
        refuse_encoded(request.headers())?;
        let given = content_type(request.headers());
        match given.as_ref().map(|given| given.essence_str()) {
            Some("application/octet-stream" | "application/vnd.safetensors") => {}
            None if !request.headers().contains_key(axum::http::header::CONTENT_TYPE) => {}
            _ => return Err(Failure::media_type("a safetensors file, as application/octet-stream")),
        }
        Self::read(pieces(request.into_body())).await
    }
}

impl LatentsBody {
    /// Reads the header of a file.
    pub(super) async fn read(pieces: Pieces) -> Result<Self, Failure> {
        let mut body = Reader { buffer: BytesMut::new(), pieces };
        let length = latents_file::header_bytes(&body.take(latents_file::LENGTH_BYTES).await?).map_err(invalid)?;
        if length > HEADER_BYTES_MAX {
            return Err(Error::TooLarge { bytes: length as u64, max: HEADER_BYTES_MAX as u64 }.into());
        }
        let header = Header::parse(&body.take(length).await?).map_err(invalid)?;
        Ok(Self { document: header.document()?, windows: windows(header, body).boxed() })
    }
}

fn invalid(error: latents_file::Error) -> Invalid {
    match error {
        latents_file::Error::Invalid(invalid) => invalid,
        error => Invalid::new("latents", error.to_string()),
    }
}

/// Streams the windows of the file after its header.
fn windows(header: Header, mut body: Reader) -> impl Stream<Item = Result<Window, Error>> + Send {
    try_stream! {
        let unordered = match header.is_in_order() {
            true => None,
            false if header.data_bytes() > UNORDERED_BYTES_MAX => {
                let problem = format!("has its tensors out of order and more than {UNORDERED_BYTES_MAX} bytes of them: \
                    write it with this version of `c3 latents`");
                Err(Invalid::new("latents", problem))?
            }
            false => Some(body.take(header.data_bytes()).await?),
        };
        for number in 0..header.windows() {
            let range = header.data_range(number);
            if range.len() > MESSAGE_BYTES_MAX {
                Err(Invalid::new("latents", format!("has a tensor of more than {MESSAGE_BYTES_MAX} bytes")))?;
            }
            let data = match &unordered {
                Some(data) => data.slice(range),
                None => body.take(range.len()).await?,
            };
            yield header.window(number, data)?;
        }
        if !body.is_at_end().await? {
            Err(Invalid::new("latents", "has bytes after its last tensor"))?;
        }
    }
}

/// Reads a body in parts of known length.
struct Reader {
    buffer: BytesMut,
    pieces: Pieces,
}

impl Reader {
    /// Returns the next `length` bytes. Fails if the body ends before. Allocates no more than has arrived.
    async fn take(&mut self, length: usize) -> Result<Bytes, Error> {
        while self.buffer.len() < length {
            let piece = self.pieces.next().await;
            let early = || Invalid::new("latents", "ends too early: send the whole file");
            self.buffer.extend_from_slice(&piece.ok_or_else(early)??);
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn is_at_end(&mut self) -> Result<bool, Error> {
        while self.buffer.is_empty() {
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend_from_slice(&piece?),
                None => return Ok(true),
            }
        }
        Ok(false)
    }
}
