//! The same against `openssl s_client`, over a socket: another library on the other end.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::skip::skipped;
use muster::record_layer::{Content, Opened, SlimLink, Suite};
use rustls::ServerConnection;

use super::pair::{Papers, take_over};

/// Time that either side is waited for.
const TIMEOUT_SECONDS: u64 = 30;

/// Lines that go to and fro, each a record in each direction.
const LINES: u32 = 1_500;

/// The server's end: our link on a socket.
struct Ours {
    socket: TcpStream,
    link: SlimLink,
    arrived: Vec<u8>,
    updates: u32,
    is_closed: bool,
}

impl Ours {
    /// Accepts, and takes the link over from the library when the handshake is done.
    fn accept(listener: &TcpListener, papers: &Papers) -> Self {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(TIMEOUT_SECONDS))).unwrap();
        let mut server = ServerConnection::new(papers.server()).unwrap();
        while server.is_handshaking() {
            server.read_tls(&mut OneRecord(&mut socket)).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut socket).unwrap();
            }
        }
        let link = take_over(server, papers);
        Self { socket, link, arrived: Vec::new(), updates: 0, is_closed: false }
    }

    /// Reads until there is data or the peer's close_notify.
    fn hear(&mut self) -> Vec<u8> {
        self.hear_until(|ours, plain| !plain.is_empty() || ours.is_closed)
    }

    /// Reads until the peer has renewed its key so often.
    fn hear_updates(&mut self, updates: u32) {
        assert_eq!(self.hear_until(|ours, _| ours.updates >= updates), b"", "no data before it");
    }

    fn hear_until(&mut self, is_enough: impl Fn(&Self, &[u8]) -> bool) -> Vec<u8> {
        let mut plain = Vec::new();
        while !is_enough(self, &plain) {
            let mut consumed = 0;
            let mut burst = self.link.opening_burst();
            while let Opened::Record { bytes, content } = burst.open(&mut self.arrived[consumed..]).unwrap() {
                consumed += bytes;
                match content {
                    Content::Data(data) => plain.extend_from_slice(data),
                    Content::KeyUpdate => self.updates += 1,
                    Content::CloseNotify => {
                        self.is_closed = true;
                        break;
                    }
                    Content::Nothing | Content::Alert(_) => panic!("{content:?}"),
                }
            }
            self.arrived.drain(..consumed);
            if !is_enough(self, &plain) {
                let mut piece = [0; 4_096];
                let read = self.socket.read(&mut piece).unwrap();
                assert!(read > 0, "it says close_notify before it goes");
                self.arrived.extend_from_slice(&piece[..read]);
            }
        }
        plain
    }

    fn say(&mut self, data: &[u8]) {
        let mut out = Vec::new();
        self.link.sealing_burst().data(data, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    fn key_update(&mut self, wants_one: bool) {
        let mut out = Vec::new();
        self.link.sealing_burst().key_update(wants_one, &mut out).unwrap();
        self.socket.write_all(&out).unwrap();
    }
}

/// Gives no more than one record at a time, so that nothing behind the handshake reaches the library.
struct OneRecord<'a>(&'a mut TcpStream);

impl Read for OneRecord<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut header = [0; 5];
        self.0.read_exact(&mut header)?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        buffer[..5].copy_from_slice(&header);
        self.0.read_exact(&mut buffer[5..5 + length])?;
        Ok(5 + length)
    }
}

struct Theirs {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Theirs {
    /// `None` where there is no such command.
    fn start(listener: &TcpListener, suite: &str) -> Option<Self> {
        let address = listener.local_addr().unwrap().to_string();
        // Not -quiet: that takes the letters away that ask for a KeyUpdate.
        let child = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-tls1_3", "-brief", "-ciphersuites", suite])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else {
            skipped("needs the openssl command");
            return None;
        };
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, input, output })
    }

    fn say(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn openssl_and_a_link_exchange_thousands_of_records_and_renew_their_keys() {
    for (suite, name) in [
        (Suite::Aes128Gcm, "TLS_AES_128_GCM_SHA256"),
        (Suite::Aes256Gcm, "TLS_AES_256_GCM_SHA384"),
        (Suite::ChaCha20Poly1305, "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let papers = Papers::new(suite);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Some(mut theirs) = Theirs::start(&listener, name) else { return };
        let mut ours = Ours::accept(&listener, &papers);
        let mut asked = 0;
        for number in 0..LINES {
            match number % 50 {
                // A KeyUpdate of theirs, which wants ours too, and one that does not.
                7 => theirs.say("K\n"),
                19 => theirs.say("k\n"),
                // And the same from this end.
                31 => ours.key_update(true),
                43 => ours.key_update(false),
                _ => {}
            }
            if matches!(number % 50, 7 | 19) {
                asked += 1;
                // The command reads its input in pieces, and a letter counts at the beginning of one: the
                // line must come later.
                let heard = ours.updates;
                ours.hear_updates(heard + 1);
            }
            let line = format!("line {number} of theirs{}\n", "=".repeat(number as usize % 300));
            theirs.say(&line);
            assert_eq!(ours.hear(), line.as_bytes(), "{name}");
            let line = format!("line {number} of ours\n");
            ours.say(line.as_bytes());
            assert_eq!(theirs.hear(), line, "{name}");
        }
        let answers = LINES.div_ceil(50) - 1;
        assert!(ours.updates >= asked + answers, "{} KeyUpdates for {asked} letters", ours.updates);
        drop(theirs.input);
        assert_eq!((ours.hear(), ours.is_closed), (Vec::new(), true), "its close_notify is heard");
        drop(ours);
        theirs.child.wait().unwrap();
    }
}
