//! Body of a call's response: it is polled as part of the call, reports how the call ended, and ends early if the
//! call does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Error,
    body::{Body, Bytes, HttpBody},
};
use http_body::{Frame, SizeHint};

use crate::{
    call::{Call, Protocol},
    error::{ErrorKind, Rejection, ServiceError},
};

/// A body that ends its call when it is dropped: after its last frame, or when the caller cancels.
pub(crate) struct CallBody {
    inner: Body,
    call: Call,
}

impl CallBody {
    pub(crate) fn new(inner: Body, mut call: Call) -> Self {
        if inner.is_end_stream() {
            call.end_of_body();
        }
        Self { inner, call }
    }

    /// Ends the stream early: by trailers in gRPC, and by an error, which resets the stream, in HTTP.
    fn reject(&mut self, rejection: Rejection) -> Result<Frame<Bytes>, Error> {
        // Dropped now, so that everything that the stream holds is free before the caller learns of the end.
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
                if this.inner.is_end_stream() {
                    this.call.end_of_body();
                }
            }
            Poll::Ready(None) => this.call.end_of_body(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.call.protocol() {
            // A rejection may replace the rest by trailers.
            Protocol::Grpc => SizeHint::default(),
            Protocol::Http => self.inner.size_hint(),
        }
    }
}
