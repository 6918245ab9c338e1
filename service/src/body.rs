//! A response body with something that watches it: a guard that lives until the stream ends, the code in its
//! trailers, a moment at which it is cut.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, codegen::Bytes};
use tracing::Span;

/// What watches a body. It is dropped when the body is: at its end, or when the caller leaves.
pub(crate) trait Watch: Send + Unpin + 'static {
    /// The span in which the body's stream runs.
    fn span(&self) -> Span {
        Span::none()
    }

    /// Ready when the body is to be cut here, with the status that ends it.
    fn poll_cut(&mut self, _: &mut Context<'_>) -> Poll<Status> {
        Poll::Pending
    }

    /// The body came to its end with these trailers.
    fn ended(&mut self, _: &HeaderMap) {}
}

/// `response` with its body watched.
pub(crate) fn watched(response: Response, watch: impl Watch) -> Response {
    response.map(|inner| Body::new(Watched { inner, watch }))
}

struct Watched<W> {
    inner: Body,
    watch: W,
}

impl<W: Watch> http_body::Body for Watched<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let _entered = this.watch.span().entered();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.watch.ended(trailers);
                }
                polled
            }
            Poll::Ready(_) => polled,
            Poll::Pending => match this.watch.poll_cut(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(status) => {
                    // Dropped now, so that what the stream holds is freed before the caller takes the trailers.
                    this.inner = Body::empty();
                    let trailers = status.into_http::<()>().into_parts().0.headers;
                    this.watch.ended(&trailers);
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
