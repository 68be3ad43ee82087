//! Bodies of requests: a few bytes of JSON, or a file that is read as it is sent.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Bytes of a file that are read at a time.
const PIECE_BYTES: u64 = 64 * 1024;

/// The body of a request.
pub(super) enum RequestBody {
    /// In one piece.
    Whole(Bytes),
    /// This many bytes of a file, which is read on this thread: it has nothing else to do.
    File(File, u64),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::File(_, 0) => None,
            Self::File(file, left) => Some(piece(file, left)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File(_, left) => *left,
        })
    }
}

fn piece(file: &mut File, left: &mut u64) -> io::Result<Bytes> {
    let mut piece = Vec::new();
    let read = file.take(PIECE_BYTES.min(*left)).read_to_end(&mut piece)?;
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
    }
    *left -= read as u64;
    Ok(piece.into())
}
