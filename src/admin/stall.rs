//! A stream whose peer must read: one that takes nothing for too long is cut off.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time that a client may refuse to read what it asked for.
pub(super) const STALL_SECONDS_MAX: u64 = 30;

/// A stream with a deadline on every stalled write.
pub(super) struct StallGuard<S> {
    stream: S,
    stall_max: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    pub(super) fn new(stream: S, stall_max: Duration) -> Self {
        Self { stream, stall_max, stalled: None }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the client read nothing for {} s", stall_max.as_secs()),
            ))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// The system takes more for a Unix socket only when three quarters of its buffer are read (unix(7),
    /// Linux): a client that takes a byte now and then is as good as one that takes none.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_client_that_reads_a_byte_now_and_then_is_cut_off_too() {
        use std::io::Read as _;
        use tokio::io::AsyncWriteExt as _;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        // Its thread ends with the test: it has a whole buffer left to drip.
        std::thread::spawn(move || {
            let mut byte = [0];
            while reader.read(&mut byte).unwrap() == 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        runtime.block_on(async {
            let stream = tokio::net::UnixStream::from_std(writer).unwrap();
            let mut guarded = StallGuard::new(stream, Duration::from_millis(500));
            let error = guarded.write_all(&[1; 8 << 20]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_client_that_reads_nothing_is_cut_off_when_the_time_is_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut guarded = StallGuard::new(tokio::io::empty(), Duration::from_secs(30));
        runtime.block_on(async {
            let mut context = Context::from_waker(Waker::noop());
            assert!(guarded.judge::<()>(&mut context, Poll::Pending).is_pending(), "it waits at first");
            assert!(guarded.judge(&mut context, Poll::Ready(Ok(()))).is_ready());
            assert!(guarded.stalled.is_none(), "a client that reads again has all the time again");
            guarded.stalled = Some(Box::pin(sleep(Duration::ZERO)));
            sleep(Duration::from_millis(2)).await;
            let judged = guarded.judge::<()>(&mut context, Poll::Pending);
            assert!(matches!(judged, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        });
    }
}
