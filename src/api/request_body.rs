//! The body of a request, which knows whether it has been read to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What hyper receives.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    read: Arc<AtomicBool>,
}

/// Whether all of a body has been taken from hyper, also after the body itself is gone.
#[derive(Debug)]
pub struct IsRead(Arc<AtomicBool>);

impl IsRead {
    /// Whether it has.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    /// That body, and who knows of it afterwards.
    pub fn new(body: Incoming) -> (RequestBody, IsRead) {
        let read = Arc::new(AtomicBool::new(body.is_end_stream()));
        (RequestBody { body, read: Arc::clone(&read) }, IsRead(read))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
