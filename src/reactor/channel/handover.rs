//! From a handshake of the TLS library to a link that does without it.
//!
//! The library makes the handshake and hands its traffic secrets over; from then on the link's records are
//! ours ([`record_layer`](crate::record_layer)), and the library's kilobytes are gone. The order matters:
//!
//! 1. The library is fed one record at a time, and not a byte behind the one that ends the handshake:
//!    whatever the peer has sent with it, data, a KeyUpdate, its close_notify, is under the new keys, and
//!    what the library once has can't be got back.
//! 2. The secrets are captured while the library derives them, since it gives away only the keys made of
//!    them, and a KeyUpdate needs the secrets. That both are the same handshake's is checked: the keys that
//!    follow from what was captured must be those that it gives.
//! 3. The peer and the cost of the handshake are asked for before the library goes away.
//! 4. Its tickets, which it has left to send, go out before anything of ours, and have used up numbers: ours
//!    begin after them.
//! 5. It must hold no plaintext. There is none when 1. was kept and no early data is taken, which is checked.
//!
//! The library keeps no bytes of its own ([`rustls::unbuffered`]): it works in what a reactor has just read,
//! and only what it can't use yet, a record or a message that is not whole, is kept for it here.
//!
//! [`ServerChannel`](super::ServerChannel) takes it from here: what has arrived behind the handshake is
//! opened in the same turn, for the poll does not report it again, and what is sealed is never thrown away
//! while the link lives.

#[cfg(test)]
#[cfg(feature = "server")] // it makes certificates
mod tests;

use std::cell::RefCell;
use std::fmt;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, KeyLog};
use zeroize::Zeroizing;

use super::error::ChannelError;
use super::{PROTOCOL, Peer, ServerTls, handshake_cost, key_exchange, peer_certificate};
use crate::record_layer::{Alert, HEADER_BYTES, SlimLink, Start, Suite};

/// As the library labels the secrets of RFC 8446 section 7.1 in a key log (the SSLKEYLOGFILE format).
const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

/// Most bytes that are kept of messages that are not whole. A device's longest, its first with a hybrid key
/// share and a ticket, has about three thousand; the library would allow 64 KiB, which anybody could have
/// kept for each handshake.
const KEPT_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// The library's log since it was last taken, which is after each step of a handshake: a reactor makes
    /// one step at a time.
    static LOGGED: RefCell<CapturedSecrets> = RefCell::default();
}

/// The server's end of a handshake that ends in a [`SlimLink`].
pub struct ServerHandshake {
    connection: UnbufferedServerConnection,
    captured: CapturedSecrets,
    cutter: Cutter,
    /// Bytes that have arrived and that the library can't use yet, as it has left them: it opens records in
    /// place.
    kept: Vec<u8>,
}

impl ServerHandshake {
    /// A handshake of which nothing has arrived yet.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn new(tls: &ServerTls) -> Result<Self, ChannelError> {
        let connection = UnbufferedServerConnection::new(tls.config())
            .map_err(|error| ChannelError::from_tls(&error, None))?;
        Ok(Self {
            connection,
            captured: CapturedSecrets::default(),
            cutter: Cutter::default(),
            kept: Vec::new(),
        })
    }

    /// Takes the bytes that have arrived, up to the record that ends the handshake, and appends to `out` the
    /// bytes to send. Returns the number of those bytes; the ones after them are the link's. Their content is
    /// of no use afterwards.
    ///
    /// # Errors
    /// When the peer misbehaves or may not come in. An alert that says so is then the last of `out`; nothing
    /// else may be done.
    pub fn read(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<usize, ChannelError> {
        let mut consumed = 0;
        while consumed < input.len() && !self.is_finished() {
            let rest = &mut input[consumed..];
            let piece = self.cutter.cut(rest);
            let piece = &mut rest[..piece];
            consumed += piece.len();
            if self.kept.is_empty() {
                let used = self.process(piece, out)?;
                self.kept.extend_from_slice(&piece[used..]);
            } else {
                let mut kept = std::mem::take(&mut self.kept);
                kept.reserve_exact(piece.len());
                kept.extend_from_slice(piece);
                let used = self.process(&mut kept, out)?;
                if used < kept.len() {
                    kept.drain(..used);
                    self.kept = kept;
                }
            }
            if self.kept.len() > KEPT_BYTES_MAX {
                return Err(ChannelError::Misbehaved(format!(
                    "a handshake message has more than {KEPT_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(consumed)
    }

    /// Has the library take what it can of these bytes, and appends what it says. Returns how many bytes at
    /// the front it does not need any more.
    fn process(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, ChannelError> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut bytes[used..]);
            let outcome = match state {
                Ok(ConnectionState::EncodeTlsData(said)) => append(said, out).map(|()| true),
                Ok(ConnectionState::TransmitTlsData(said)) => {
                    said.done();
                    Ok(true)
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(false),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    Err(ChannelError::Refused("CloseNotify".to_owned()))
                }
                Ok(_) => Err(internal("the library holds data of a link that is to do without it")),
                Err(error) => Err(ChannelError::from_tls(&error, None)),
            };
            used += discard;
            // Also when the step has failed: the next one may be another handshake's.
            self.captured.take_logged();
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(used),
                Err(error) => {
                    self.say_why(out);
                    return Err(error);
                }
            }
        }
    }

    /// Appends what the library has to say of a failure. It is asked for nothing else: what it would make of
    /// further bytes then is not known.
    fn say_why(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(said)) =
                self.connection.process_tls_records(&mut []).state
            && append(said, out).is_ok()
        {}
    }

    /// Ends the handshake, which must be finished: gives what its connection becomes.
    ///
    /// # Errors
    /// When the peer did not name our protocol, which is then said at the end of `out`, and when the library
    /// gives something else than expected.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<SlimLink, ChannelError> {
        if !self.kept.is_empty() {
            return Err(internal("the library holds data of a link that is to do without it"));
        }
        let suite = self
            .connection
            .negotiated_cipher_suite()
            .and_then(|known| Suite::from_number(known.suite().into()))
            .ok_or_else(|| internal("the library agreed on a suite that is not spoken"))?;
        let speaks_ours = self.connection.alpn_protocol() == Some(PROTOCOL);
        let (extracted, _) = self
            .connection
            .dangerous_into_kernel_connection()
            .map_err(|error| internal(&error.to_string()))?;
        let mut link = self.captured.link(suite, &extracted)?;
        if !speaks_ours {
            // Should it fail, the peer is not told, and is left all the same.
            let _ = link.sealing_burst().fatal_alert(Alert::NO_APPLICATION_PROTOCOL, out);
            return Err(ChannelError::WrongProtocol);
        }
        Ok(link)
    }

    /// Bytes that are held of messages that are not whole.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// Whether the handshake is finished. Then no more of it is read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The peer at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer {
            certificate: peer_certificate(&self.connection).map(<[u8]>::to_vec),
            cost: handshake_cost(&self.connection),
            key_exchange: key_exchange(&self.connection),
        }
    }
}

impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// The traffic secrets of one handshake, captured where the library would log them. Wiped when they are
/// dropped.
#[derive(Default)]
struct CapturedSecrets {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl CapturedSecrets {
    fn place(&mut self, label: &str) -> Option<&mut Zeroizing<Vec<u8>>> {
        match label {
            CLIENT_SECRET => Some(&mut self.client),
            SERVER_SECRET => Some(&mut self.server),
            _ => None,
        }
    }

    /// Adds what was logged on this thread since the last time.
    fn take_logged(&mut self) {
        let logged = LOGGED.take();
        for (place, secret) in [(&mut self.client, logged.client), (&mut self.server, logged.server)] {
            if !secret.is_empty() {
                *place = secret;
            }
        }
    }

    /// The link of these secrets, when they are those that the library has made its keys of.
    fn link(&self, suite: Suite, extracted: &ExtractedSecrets) -> Result<SlimLink, ChannelError> {
        let ((opened, opening), (sealed, sealing)) = (&extracted.rx, &extracted.tx);
        let link = SlimLink::new(
            suite,
            Start { secret: &self.client, sequence: *opened },
            Start { secret: &self.server, sequence: *sealed },
        )
        .ok_or_else(|| internal("the traffic secrets were not captured"))?;
        let is_right = key_of(opening).is_some_and(|(key, iv)| link.opens_with(key, iv))
            && key_of(sealing).is_some_and(|(key, iv)| link.seals_with(key, iv));
        is_right.then_some(link).ok_or_else(|| internal("the keys are not those of the captured secrets"))
    }
}

/// Hears what the library would log, for the handshake that this thread is about. One for all handshakes:
/// with one for each, each would need a copy of the whole configuration, and every reactor would count up and
/// down what it refers to.
#[derive(Debug)]
pub(super) struct SecretCapture;

impl KeyLog for SecretCapture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(place) = logged.place(label) {
                *place = Zeroizing::new(secret.to_vec());
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT_SECRET | SERVER_SECRET)
    }
}

/// Appends what the library says. It wants to be given room for it, and says how much.
fn append<Data>(mut said: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), ChannelError> {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = said.encode(&mut [])
    else {
        return Ok(());
    };
    out.resize(start + required_size, 0);
    let written = said.encode(&mut out[start..]).map_err(|error| internal(&error.to_string()))?;
    out.truncate(start + written);
    Ok(())
}

fn key_of(secrets: &ConnectionTrafficSecrets) -> Option<(&[u8], &[u8])> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Some((key.as_ref(), iv.as_ref())),
        _ => None,
    }
}

fn internal(what: &str) -> ChannelError {
    ChannelError::Internal(what.into())
}

/// Finds where records end, in a stream that arrives in any pieces.
#[derive(Default)]
struct Cutter {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have passed.
    known: usize,
    /// Bytes behind the header that have not.
    left: usize,
}

impl Cutter {
    /// Returns how many of these bytes, of which there must be some, belong to the record that is under way,
    /// or begins with them. At least one.
    fn cut(&mut self, bytes: &[u8]) -> usize {
        let of_header = (HEADER_BYTES - self.known).min(bytes.len());
        self.header[self.known..self.known + of_header].copy_from_slice(&bytes[..of_header]);
        self.known += of_header;
        if of_header > 0 && self.known == HEADER_BYTES {
            let [.., high, low] = self.header;
            self.left = u16::from_be_bytes([high, low]).into();
        }
        let of_body = self.left.min(bytes.len() - of_header);
        self.left -= of_body;
        if self.known == HEADER_BYTES && self.left == 0 {
            self.known = 0;
        }
        of_header + of_body
    }
}
