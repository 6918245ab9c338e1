//! Body of a call's response. It is polled in the call's scope, records the call's outcome, and ends early at the
//! call's deadline or when the call's permit is revoked.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use crate::call::{Call, Protocol};
use crate::error::{ErrorKind, ServiceError};
use crate::rejection::Rejection;

/// A body that ends its call when it is dropped: after its last frame, or when the caller cancels.
pub(crate) struct CallBody {
    inner: Body,
    call: Call,
    /// Bytes left of the length that the response's header states; `None` if it states none. hyper does not poll a body
    /// of HTTP/1.1 any more once it has sent these bytes, so their end must be the end of the body.
    left: Option<u64>,
}

impl CallBody {
    /// Wraps the body of a response. `length` is the length in bytes that the response's header states.
    pub(crate) fn new(inner: Body, length: Option<u64>, call: Call) -> Self {
        let mut body = Self { inner, call, left: length };
        if body.is_end_stream() {
            body.call.end_of_body();
        }
        body
    }

    /// Ends the stream early. In gRPC, the stream ends with trailers. In HTTP, it ends with an error, which resets it.
    fn reject(&mut self, rejection: Rejection) -> Result<Frame<Bytes>, Error> {
        // Dropped now, so that the stream's resources are free before the caller sees the end of the call.
        self.inner = Body::empty();
        self.call.body_failed(rejection.kind());
        match self.call.protocol() {
            Protocol::Grpc => Ok(Frame::trailers(rejection.status().into_http::<()>().into_parts().0.headers)),
            Protocol::Http => Err(Error::new(rejection)),
        }
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = this.call.scope(|| Pin::new(&mut this.inner).poll_frame(cx));
        match &polled {
            Poll::Pending => {
                return this.call.poll_rejection(cx).map(|rejection| Some(this.reject(rejection)));
            }
            Poll::Ready(Some(Err(_))) => this.call.body_failed(ErrorKind::Internal),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.trailers(trailers);
                }
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                if this.is_end_stream() {
                    this.call.end_of_body();
                }
            }
            Poll::Ready(None) => this.call.end_of_body(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0) || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.call.protocol() {
            // A rejection may replace the rest of the body by trailers.
            Protocol::Grpc => SizeHint::default(),
            Protocol::Http => self.inner.size_hint(),
        }
    }
}
