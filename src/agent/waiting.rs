//! Waiting: for descriptors until a deadline, and for signals as something that can be polled.

use std::io::{self, Read};
#[cfg(feature = "muster-agent")]
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of these is ready. Whether one was before the deadline.
pub(super) fn wait_for(sources: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(sources, Some(&left)) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// A stream that does not block, in which a byte arrives for each of these signals.
#[cfg(feature = "muster-agent")]
pub(super) fn signals(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Takes everything out of a stream that does not block. Whether there was anything.
pub(super) fn drain(stream: &mut impl Read) -> bool {
    let mut any = false;
    while let Ok(1..) = stream.read(&mut [0; 16]) {
        any = true;
    }
    any
}
