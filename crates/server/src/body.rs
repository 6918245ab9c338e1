//! The body of a call's response: its stream runs as part of the call, its trailers tell how the call ended, and it is
//! cut where the call is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::calls::Call;

/// A body that ends its call when it is dropped: at its end, or when the caller leaves.
pub(crate) struct Watched<A> {
    inner: A,
    call: Call,
}

impl<A> Watched<A> {
    pub(crate) fn new(inner: A, call: Call) -> Self {
        Self { inner, call }
    }
}

impl<A: Body<Data = Bytes> + Default + Unpin> Body for Watched<A> {
    type Data = Bytes;
    type Error = A::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, A::Error>>> {
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
                this.inner = A::default();
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
