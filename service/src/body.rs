//! The body of a call's response: its stream runs as part of the call, its trailers tell how the call ended, and it is
//! cut where the call is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use http_body::{Frame, SizeHint};
use tonic::codegen::Bytes;

use crate::calls::Call;

/// A body that ends its call when it is dropped: at its end, or when the caller leaves.
pub(crate) struct Watched {
    inner: Body,
    call: Call,
}

impl Watched {
    pub(crate) fn new(inner: Body, call: Call) -> Self {
        Self { inner, call }
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let polled = this.call.within(|| Pin::new(&mut this.inner).poll_frame(cx));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.ended(trailers);
                }
                polled
            }
            Poll::Ready(_) => polled,
            Poll::Pending => this.call.poll_cut(cx).map(|status| {
                // Dropped now, so that what the stream holds is freed before the caller takes the trailers.
                this.inner = Body::empty();
                let trailers = status.into_http::<()>().into_parts().0.headers;
                this.call.ended(&trailers);
                Some(Ok(Frame::trailers(trailers)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
