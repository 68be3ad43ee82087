//! The connection to the server: its name, TCP, TLS, its certificate, whether it knows the device, and its
//! clock.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::line::{Line, Report, Subject, Verdict};
use super::{STEP_TIMEOUT, elapsed};
use crate::agent::address::ServerAddress;
use crate::agent::context::wall_time;
use crate::agent::identity::Identity;
use crate::agent::link::LinkError;
use crate::agent::talk::{Talk, TalkError, connect, probed, tls_of};
use crate::reactor::channel::{ChannelError, ClientTls};
use crate::wire::id::CertificateHash;
use crate::wire::message::{ErrorCode, ErrorReport, Probe, Probed, ToServer};
use crate::wire::time::WallTime;

/// Greatest distance of the clocks. Nothing breaks beyond it, but events carry times that mislead.
const CLOCK_MILLISECONDS_MAX: u64 = 60_000;

/// A link to the server that only asks.
pub(super) struct Connection {
    talk: Talk,
    /// Address at which the server answered.
    pub(super) address: SocketAddr,
}

impl Connection {
    /// Asks the server how things stand; `udp_port`: and to send a wake there.
    pub(super) fn probe(&mut self, udp_port: u16) -> Result<Probed, TalkError> {
        let question = ToServer::Probe(Probe { udp_port });
        self.talk.ask(&question, Instant::now() + STEP_TIMEOUT, probed)
    }

    /// Says close_notify.
    pub(super) fn close(self) {
        self.talk.close();
    }
}

/// Why a question has no answer, and what to do.
pub(super) fn detail(failure: &TalkError) -> String {
    match failure {
        TalkError::Link(LinkError::Channel(ChannelError::ForeignCertificate)) => {
            "the server does not know this device's certificate: enrol again (muster-agent enroll --force)".to_owned()
        }
        TalkError::Link(LinkError::Channel(ChannelError::DeviceRemoved))
        | TalkError::Refused(ErrorReport { code: ErrorCode::DeviceRemoved, .. }) => {
            "an administrator removed this device from the server: to come back, enrol again with a new token (muster-agent enroll --force)".to_owned()
        }
        TalkError::Refused(ErrorReport { code: ErrorCode::WaitingForApproval, message }) => {
            format!("nothing is wrong here: {message}")
        }
        TalkError::Refused(ErrorReport { code: ErrorCode::UnknownKind, .. }) => {
            "the server knows the device, but is too old to be asked: bring it up to the agent's version".to_owned()
        }
        TalkError::Refused(report) => report.message.clone(),
        TalkError::Later(seconds) => format!("the server is busy: check again in {seconds} s"),
        TalkError::Unexpected => {
            "the server answered with what is no answer (are its version and the agent's alike?)".to_owned()
        }
        error => format!("the server accepted the connection and then: {error} (its log may say why)"),
    }
}

/// Looks at everything up to the certificate; otherwise the first thing on the way that is not as it should
/// be.
pub(super) fn open(
    server: &ServerAddress,
    identity: &Identity,
    report: &mut Report<'_>,
) -> Result<Connection, Subject> {
    use Subject::{Name, Pin, Tcp, Tls};
    let addresses = match resolve(server) {
        Ok((addresses, detail)) => {
            report.add(Line::ok(Name, detail));
            addresses
        }
        Err(why) => {
            return Err(report.give_up(Line::failed(Name, why), &[Tcp, Tls, Pin]));
        }
    };
    let streams = connect_all(server, &addresses, report);
    if streams.is_empty() {
        report.skip(&[Tls, Pin], Tcp);
        return Err(Tcp);
    }
    let tls = match tls_of(identity) {
        Ok(tls) => tls,
        Err(error) => {
            let why = format!(
                "the device's key or certificate can't be used: {error}: enrol again (muster-agent enroll --force)"
            );
            return Err(report.give_up(Line::failed(Tls, why), &[Pin]));
        }
    };
    shake_hands(streams, &tls, identity, report)
}

/// The first of the connections on which the right server answers; otherwise what is wrong on the first.
fn shake_hands(
    streams: Vec<(TcpStream, SocketAddr)>,
    tls: &ClientTls,
    identity: &Identity,
    report: &mut Report<'_>,
) -> Result<Connection, Subject> {
    let mut first_error = None;
    for (stream, address) in streams {
        match Talk::open(stream, tls, Instant::now() + STEP_TIMEOUT) {
            Ok(talk) => {
                let key_exchange = talk.link.key_exchange().unwrap_or_default();
                report.add(Line::ok(
                    Subject::Tls,
                    format!("TLS 1.3 at {address}, key exchange {key_exchange}"),
                ));
                let certificate = talk.link.server_certificate().map(CertificateHash::of);
                let hashes = identity.pin_hashes();
                let which = hashes.iter().position(|hash| Some(*hash) == certificate);
                let hash = certificate.map(|hash| hash.to_string()).unwrap_or_default();
                let copies = hashes.len();
                let why = match which {
                    Some(at) => format!("equals stored copy {} of {copies}", at + 1),
                    None => format!("is vouched for by one of the {copies} stored copies"),
                };
                report.add(Line::ok(Subject::Pin, format!("certificate {hash} {why}")));
                return Ok(Connection { talk, address });
            }
            Err(error) => {
                first_error.get_or_insert((error, address));
            }
        }
    }
    let mut cause = Subject::Tls;
    if let Some((error, address)) = first_error {
        for line in handshake_lines(&error, address) {
            if line.verdict == Verdict::Failed {
                cause = line.subject;
            }
            report.add(line);
        }
    }
    Err(cause)
}

/// The two lines of a handshake that failed.
fn handshake_lines(error: &TalkError, address: SocketAddr) -> [Line; 2] {
    use Subject::{Pin, Tls};
    let advice = match error {
        TalkError::Link(LinkError::Channel(ChannelError::WrongServer { seen, expected })) => {
            let why = format!(
                "{address} shows certificate {seen}, but expected is {expected}: it is another server, or somebody in between; \
                 if the server was set up anew, remove the device there and enrol again (muster-agent enroll --force)"
            );
            return [
                Line::ok(Tls, format!("TLS 1.3 at {address}, up to the certificate")),
                Line::failed(Pin, why),
            ];
        }
        TalkError::Link(LinkError::Channel(ChannelError::ReplacedServer { seen, why })) => {
            let why = format!(
                "{address} shows certificate {seen}, and {why}: it runs on an old copy of the server ('musterd recovery-key use' there \
                 brings it back), or somebody has stolen its key"
            );
            return [
                Line::ok(Tls, format!("TLS 1.3 at {address}, up to the certificate")),
                Line::failed(Pin, why),
            ];
        }
        TalkError::Link(LinkError::Channel(
            ChannelError::NotTls | ChannelError::NoSharedVersion | ChannelError::WrongProtocol,
        )) => "something else answers there: is the port right, and is no proxy in between?",
        TalkError::Link(LinkError::Channel(ChannelError::Truncated | ChannelError::Reset)) => {
            "a firewall or proxy that inspects TLS may cut it, or the server is not musterd"
        }
        TalkError::TimedOut => "something accepts connections there and says nothing: is it musterd?",
        _ => "the server's log may say why",
    };
    [Line::failed(Tls, format!("{address}: {error} ({advice})")), Line::skipped(Pin, Tls)]
}

/// The server's addresses, and what to say of them. The resolver has its time, and is left alone after it.
fn resolve(server: &ServerAddress) -> Result<(Vec<SocketAddr>, String), String> {
    let (sender, receiver) = channel();
    let asked = server.clone();
    let begun = Instant::now();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send(asked.resolve_each());
        })
        .map_err(|error| format!("no thread to ask the resolver: {error}"))?;
    let answers = receiver.recv_timeout(STEP_TIMEOUT).map_err(|_| {
        format!("the resolver did not answer for '{server}' within {} s", STEP_TIMEOUT.as_secs())
    });
    let (mut addresses, mut said) = (Vec::new(), Vec::new());
    match answers {
        Err(why) => said.push(why),
        Ok(answers) => {
            for (host, answer) in server.hosts().iter().zip(answers) {
                said.push(match &answer {
                    Err(why) => why.clone(),
                    Ok(_) if host.is_address() => {
                        format!("{} is an address, nothing to resolve", host.host)
                    }
                    Ok(found) => {
                        let listed: Vec<String> =
                            found.iter().map(|address| address.ip().to_string()).collect();
                        let took = elapsed(begun.elapsed());
                        format!("{} is {} (in {took})", host.host, listed.join(", "))
                    }
                });
                addresses.extend(answer.unwrap_or_default());
            }
        }
    }
    let said = said.join("; ");
    if addresses.is_empty() {
        return Err(format!(
            "{said} (is the server's name right, and does the resolver answer? 'server' in muster-agent.toml sets another)"
        ));
    }
    Ok((addresses, said))
}

/// Connects to every address; those that accept.
fn connect_all(
    server: &ServerAddress,
    addresses: &[SocketAddr],
    report: &mut Report<'_>,
) -> Vec<(TcpStream, SocketAddr)> {
    let (mut streams, mut said, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for address in addresses {
        let begun = Instant::now();
        match connect(&[*address], STEP_TIMEOUT) {
            Ok(stream) => {
                said.push(format!("{address} in {}", elapsed(begun.elapsed())));
                streams.push(stream);
            }
            Err(why) => refused.push(why),
        }
    }
    report.add(if streams.is_empty() {
        let port = server.ports();
        let why = refused.join(", ");
        Line::failed(
            Subject::Tcp,
            format!("{why} (is musterd running there, and does every firewall let TCP {port} through?)"),
        )
    } else {
        said.extend(refused.iter().map(|why| format!("not {why}")));
        Line::ok(Subject::Tcp, said.join(", "))
    });
    streams
}

/// Whether the server knows the device; looked at before its clock, as the first answer waits for its side of
/// the handshake.
pub(super) fn device(connection: &mut Connection, identity: &Identity) -> Line {
    match connection.probe(0) {
        Ok(probed) => {
            let seen = if probed.address.is_empty() {
                String::new()
            } else {
                format!(", which it sees at {}", probed.address)
            };
            Line::ok(Subject::Device, format!("the server knows '{}'{seen}", identity.name))
        }
        Err(failure) => Line::failed(Subject::Device, detail(&failure)),
    }
}

/// Compares the clocks.
pub(super) fn clock(connection: &mut Connection) -> Line {
    let (before, begun) = (wall_time(), Instant::now());
    match connection.probe(0) {
        Ok(probed) => clock_line(before, begun.elapsed(), probed.clock),
        Err(failure) => Line::failed(Subject::Clock, detail(&failure)),
    }
}

/// Compares the clocks: the server read its own somewhere within the round trip.
fn clock_line(before: WallTime, round_trip: Duration, server: WallTime) -> Line {
    let half = round_trip / 2;
    let half_milliseconds = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
    let here = before.0.saturating_add(half_milliseconds);
    let apart = here.abs_diff(server.0);
    let direction = if here > server.0 { "ahead of" } else { "behind" };
    let said = format!(
        "the device's clock is {}.{:03} s {direction} the server's, give or take {}",
        apart / 1_000,
        apart % 1_000,
        elapsed(half)
    );
    // Only what is certain counts.
    if apart.saturating_sub(half_milliseconds) > CLOCK_MILLISECONDS_MAX {
        let why = format!(
            "{said}: events carry wrong times; set the clock of whichever is wrong, best by NTP on both"
        );
        return Line::failed(Subject::Clock, why);
    }
    Line::ok(Subject::Clock, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: WallTime = WallTime(1_000_000);

    #[test]
    fn clocks_are_judged_by_what_is_certain() {
        let cases = [
            (0, 1_000_000, Verdict::Ok, "0.000 s behind"),
            (20, 1_000_510, Verdict::Ok, "0.500 s behind the server's, give or take 10.0 ms"),
            (0, 940_000, Verdict::Ok, "60.000 s ahead of"),
            (
                0,
                939_999,
                Verdict::Failed,
                "60.001 s ahead of the server's, give or take 0.0 ms: events carry",
            ),
            (4_000, 1_064_000, Verdict::Ok, "62.000 s behind the server's, give or take 2000.0 ms"),
            (0, u64::MAX, Verdict::Failed, "behind"),
        ];
        for (round_trip, server, verdict, expected) in cases {
            let line = clock_line(HERE, Duration::from_millis(round_trip), WallTime(server));
            assert_eq!(line.verdict, verdict, "{line}");
            assert!(line.detail.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_failed_handshake_says_whether_the_certificate_is_to_blame() {
        let address = "127.0.0.1:13000".parse().unwrap();
        let channel = |error| TalkError::Link(LinkError::Channel(error));
        let wrong = channel(ChannelError::WrongServer {
            seen: CertificateHash([1; 32]),
            expected: "0202 (the stored copies)".to_owned(),
        });
        let [tls, pin] = handshake_lines(&wrong, address);
        assert_eq!((tls.verdict, pin.verdict), (Verdict::Ok, Verdict::Failed));
        assert!(pin.detail.contains(&CertificateHash([1; 32]).to_string()), "{pin}");
        assert!(pin.detail.contains("0202"), "{pin}");
        for error in [channel(ChannelError::NotTls), channel(ChannelError::Reset), TalkError::TimedOut] {
            let [tls, pin] = handshake_lines(&error, address);
            assert_eq!((tls.verdict, pin.verdict), (Verdict::Failed, Verdict::Skipped));
            assert!(tls.detail.starts_with("127.0.0.1:13000: "), "{tls}");
        }
    }
}
