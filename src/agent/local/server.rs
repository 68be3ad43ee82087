//! The listening side: clients in a slab, each with bounded buffers. The loop reads what there is, makes it
//! durable, and only then lets the answers out.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::peer::Peer;
use super::protocol::LINE_BYTES_MAX;
use crate::agent::open;
use crate::paths;

/// Path at which a socket for `path` is bound before it is moved there.
#[must_use]
pub fn bound_as(path: &Path) -> PathBuf {
    paths::with_suffix(path, ".new")
}

/// Most programs connected at a time. Each costs a buffer.
pub const CLIENTS_MAX: usize = 64;

/// Most of them whose user is neither root nor the agent's own: those two are let in whatever others do.
pub const OTHERS_MAX: usize = 48;

/// Most of one such user.
pub const OTHERS_OF_ONE_USER_MAX: usize = 16;

const _: () = assert!(OTHERS_OF_ONE_USER_MAX < OTHERS_MAX && OTHERS_MAX < CLIENTS_MAX);

/// Most lines of one program that are answered before the others have their turn.
pub const LINES_PER_TURN_MAX: usize = 256;

/// Most of a program's input and of the answers it has not taken that are held. A program that does not read
/// its answers is not read from, and is closed when they don't fit.
pub const BUFFER_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;

const _: () = assert!(LINES_PER_TURN_MAX * 64 < BUFFER_BYTES_MAX);

/// Names one client as long as it is connected: place in the slab and a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    place: usize,
    number: u64,
}

/// Why a client was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientClose {
    /// It went.
    Gone,
    /// A line was longer than [`LINE_BYTES_MAX`].
    LineTooLong,
    /// It does not read its answers.
    SlowReader,
    /// The system refused.
    Failed,
}

#[derive(Debug)]
struct Client {
    number: u64,
    peer: Peer,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// An answer is owed that can't be given yet; later lines wait.
    owed: bool,
    /// Its input was full: its socket reports no second time for what is in it already.
    throttled: bool,
    /// It has closed its side: answer what is there, then close.
    ended: bool,
    interest: Interest,
}

/// The local programs.
#[derive(Debug)]
pub struct Clients {
    /// With its path. `None`: only programs that are handed over are heard.
    listener: Option<(UnixListener, PathBuf)>,
    registry: Registry,
    clients: Slab<Client>,
    next_number: u64,
    first_token: usize,
}

fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    open::if_there(std::fs::remove_file(path))?;
    // Bound under a name that nobody tries, so that nobody connects before the mode is right.
    let hidden = bound_as(path);
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&hidden, path)?;
    Ok(listener)
}

impl Clients {
    /// Listens at a path with these permission bits, if at any. The socket of an earlier agent is replaced:
    /// the caller holds the data directory's lock. The listener gets `first_token`, clients the ones after
    /// it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(listens: Option<(&Path, u32)>, registry: &Registry, first_token: usize) -> io::Result<Self> {
        let listener = listens.map(|(path, mode)| {
            let listener = listen(path, mode)?;
            Ok::<_, io::Error>((listener, path.to_owned()))
        });
        let mut listener = listener.transpose()?;
        if let Some((listener, _)) = &mut listener {
            registry.register(listener, Token(first_token), Interest::READABLE)?;
        }
        let registry = registry.try_clone()?;
        Ok(Self { listener, registry, clients: Slab::new(), next_number: 0, first_token })
    }

    /// Number of clients.
    #[must_use]
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Something happened at this token, which is the listener's or a client's.
    pub fn ready(&mut self, token: Token) {
        match token.0.checked_sub(self.first_token) {
            Some(0) => self.accept(),
            Some(place) => self.fill(place - 1),
            None => {}
        }
    }

    fn accept(&mut self) {
        while let Some((listener, _)) = &self.listener {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return log::warn!("a local program could not be accepted: {error}"),
            };
            let peer = Peer::of(&stream)
                .inspect_err(|error| log::warn!("a local program's user is not known: {error}"));
            let Ok(peer) = peer else { continue };
            self.take(stream, peer);
        }
    }

    /// Takes a connection of the program that embeds the agent.
    pub fn adopt(&mut self, stream: StdStream) {
        if let Err(error) = stream.set_nonblocking(true) {
            return log::warn!("the program's connection can't be used: {error}");
        }
        self.take(UnixStream::from_std(stream), Peer::Owner);
    }

    fn take(&mut self, mut stream: UnixStream, peer: Peer) {
        if let Some(max) = self.limit_reached(peer) {
            let answer = format!("{{\"error\":\"{max} programs are connected, no more are allowed\"}}\n");
            let _ = stream.write(answer.as_bytes());
            return;
        }
        let entry = self.clients.vacant_entry();
        let token = Token(self.first_token + 1 + entry.key());
        if let Err(error) = self.registry.register(&mut stream, token, Interest::READABLE) {
            log::warn!("a local program could not be watched: {error}");
            return;
        }
        entry.insert(Client {
            number: self.next_number,
            peer,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            owed: false,
            throttled: false,
            ended: false,
            interest: Interest::READABLE,
        });
        self.next_number += 1;
    }

    /// The limit that keeps a program of this user out, if any.
    fn limit_reached(&self, peer: Peer) -> Option<usize> {
        let count = |is: &dyn Fn(Peer) -> bool| self.clients.iter().filter(|(_, one)| is(one.peer)).count();
        let limits = match peer {
            Peer::Owner => vec![(CLIENTS_MAX, self.clients.len())],
            Peer::Other(_) => vec![
                (OTHERS_OF_ONE_USER_MAX, count(&|other| other == peer)),
                (OTHERS_MAX, count(&|other| other != Peer::Owner)),
            ],
        };
        limits.into_iter().find_map(|(max, connected)| (connected >= max).then_some(max))
    }

    fn fill(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        let mut buffer = [0; 4096];
        client.throttled = true;
        while client.input.len() < BUFFER_BYTES_MAX && !client.ended {
            match client.stream.read(&mut buffer) {
                Ok(0) => client.ended = true,
                Ok(length) => client.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    client.throttled = false;
                    break;
                }
                Err(_) => return self.close(place, ClientClose::Gone),
            }
        }
    }

    /// Takes lines that can be answered now, in the order of each client, bounded for each: `answer` is given
    /// the program's user and the line and writes its answer (without the line's end), or returns false when
    /// the answer is owed and comes with [`answer_owed`](Self::answer_owed). Returns whether a client has
    /// more.
    pub fn take_lines(
        &mut self,
        mut answer: impl FnMut(ClientKey, Peer, &[u8], &mut Vec<u8>) -> bool,
    ) -> bool {
        let mut has_more = false;
        let mut closing = Vec::new();
        for (place, client) in &mut self.clients {
            let key = ClientKey { place, number: client.number };
            let mut taken = 0;
            let mut lines = 0;
            while !client.owed && client.output.len() < BUFFER_BYTES_MAX {
                let Some(end) = client.input[taken..].iter().position(|byte| *byte == b'\n') else { break };
                if lines == LINES_PER_TURN_MAX {
                    has_more = true;
                    break;
                }
                let line = &client.input[taken..taken + end];
                taken += end + 1;
                lines += 1;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                if answer(key, client.peer, line, &mut client.output) {
                    client.output.push(b'\n');
                } else {
                    client.owed = true;
                }
            }
            client.input.drain(..taken);
            if client.input.is_empty() {
                client.input = Vec::new();
            }
            let is_line_whole = client.input.contains(&b'\n');
            if !is_line_whole && client.input.len() > LINE_BYTES_MAX {
                client.output.extend_from_slice(
                    format!("{{\"error\":\"a line may have {LINE_BYTES_MAX} bytes\"}}\n").as_bytes(),
                );
                closing.push((place, ClientClose::LineTooLong));
            } else if client.output.len() > BUFFER_BYTES_MAX + LINE_BYTES_MAX {
                closing.push((place, ClientClose::SlowReader));
            }
        }
        for (place, reason) in closing {
            if let Some(client) = self.clients.get_mut(place) {
                let _ = client.stream.write(&client.output);
            }
            self.close(place, reason);
        }
        has_more
    }

    /// Gives the answer that was owed to a client, when it is still there.
    pub fn answer_owed(&mut self, key: ClientKey, answer: &[u8]) {
        if let Some(client) = self.clients.get_mut(key.place).filter(|client| client.number == key.number) {
            client.output.extend_from_slice(answer);
            client.output.push(b'\n');
            client.owed = false;
        }
    }

    /// Lets the answers out, as far as the clients take them, and closes those that are done. Everything that
    /// an answer promises must be durable by now.
    pub fn send(&mut self) {
        let mut closing = Vec::new();
        for (place, client) in &mut self.clients {
            while !client.output.is_empty() {
                match client.stream.write(&client.output) {
                    Ok(0) => break,
                    Ok(length) => drop(client.output.drain(..length)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        closing.push((place, ClientClose::Gone));
                        break;
                    }
                }
            }
            if client.output.is_empty() {
                client.output = Vec::new();
            }
            let is_done = client.output.is_empty() && !client.owed && !client.input.contains(&b'\n');
            if client.ended && is_done {
                closing.push((place, ClientClose::Gone));
                continue;
            }
            // With the poll's edges every change of interest also looks again, so nothing that came meanwhile
            // is missed.
            let is_idle = client.output.is_empty();
            let wanted = if is_idle { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            if wanted != client.interest {
                client.interest = wanted;
                let token = Token(self.first_token + 1 + place);
                if self.registry.reregister(&mut client.stream, token, wanted).is_err() {
                    closing.push((place, ClientClose::Failed));
                }
            }
        }
        for (place, reason) in closing {
            self.close(place, reason);
        }
    }

    /// Reads on at clients whose input was full. Returns whether there was one with room again: it may have
    /// lines.
    pub fn refill(&mut self) -> bool {
        let places: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| client.throttled && !client.ended && client.input.len() < BUFFER_BYTES_MAX)
            .map(|(place, _)| place)
            .collect();
        for place in &places {
            self.fill(*place);
        }
        !places.is_empty()
    }

    fn close(&mut self, place: usize, reason: ClientClose) {
        if let Some(mut client) = self.clients.try_remove(place) {
            let _ = self.registry.deregister(&mut client.stream);
            match reason {
                ClientClose::Gone => log::debug!("a local program has gone"),
                reason => log::warn!("a local program was closed: {reason:?}"),
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            let _ = std::fs::remove_file(path);
        }
    }
}
