//! One conversation that blocks: to make a server ready, and to ask it what it has stored. No load goes this
//! way.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::certificates::server_name;
use crate::failure::Failure;

/// Time of an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest conversation, in bytes received.
const RECEIVED_BYTES_MAX: usize = 1 << 20;

/// A connection over which one thing at a time is said.
pub(crate) struct Talk {
    stream: StreamOwned<ClientConnection, TcpStream>,
    inbox: Vec<u8>,
}

impl Talk {
    /// Connects; with `greets_in_clear` it hears a line first, and begins TLS after it.
    pub(crate) fn open(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        greets_in_clear: bool,
    ) -> Result<Self, Failure> {
        let reach = || Failure::when(format!("reach the server at {address}"));
        let mut socket = TcpStream::connect(address).map_err(reach())?;
        socket.set_read_timeout(Some(TIMEOUT)).map_err(reach())?;
        socket.set_nodelay(true).map_err(reach())?;
        if greets_in_clear {
            let mut byte = [0];
            while byte != *b"\n" {
                socket.read_exact(&mut byte).map_err(reach())?;
            }
        }
        let tls = ClientConnection::new(Arc::clone(config), server_name())
            .map_err(Failure::when("begin a TLS connection"))?;
        Ok(Self { stream: StreamOwned::new(tls, socket), inbox: Vec::new() })
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush())
            .map_err(Failure::when("speak to the server"))
    }

    /// Listens until `look` finds something in what has come.
    pub(crate) fn listen<T>(
        &mut self,
        look: impl Fn(&[u8]) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let mut piece = [0; 4096];
        loop {
            if let Some(found) = look(&self.inbox)? {
                return Ok(found);
            }
            let length = match self.stream.read(&mut piece) {
                Ok(0) => return Err(Failure("the server hung up before it answered".into())),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(Failure(format!("the server did not answer within {TIMEOUT:?}")));
                }
                Err(error) => return Err(Failure(format!("can't hear the server: {error}"))),
            };
            self.inbox.extend_from_slice(&piece[..length]);
            if self.inbox.len() > RECEIVED_BYTES_MAX {
                return Err(Failure("the server says much and answers nothing".into()));
            }
        }
    }
}
