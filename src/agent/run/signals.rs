//! Signals, as something that the loop can poll: SIGTERM and SIGINT end the agent, SIGHUP has it read its
//! configuration again.

use std::io::{self, Read as _};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// The requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Requested {
    pub(super) end: bool,
    pub(super) reload: bool,
}

/// The read ends of two pipes that the signal handlers write a byte into.
#[derive(Debug)]
pub struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Catches the signals from now on. Signals from before the loop polls are found there.
    ///
    /// # Errors
    /// When the system gives no pipe or no handler.
    pub fn catch() -> io::Result<Self> {
        Ok(Self { end: register(&[SIGTERM, SIGINT])?, reload: register(&[SIGHUP])? })
    }

    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.end, token, Interest::READABLE)?;
        registry.register(&mut self.reload, token, Interest::READABLE)
    }

    pub(super) fn read(&mut self) -> Requested {
        Requested { end: drain(&mut self.end), reload: drain(&mut self.reload) }
    }
}

fn register(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(UnixStream::from_std(read))
}

fn drain(stream: &mut UnixStream) -> bool {
    let mut buffer = [0; 16];
    let mut any = false;
    while let Ok(1..) = stream.read(&mut buffer) {
        any = true;
    }
    any
}
