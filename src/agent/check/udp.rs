//! Datagrams, both ways. Nobody answers one with another, so the link says what has arrived at the server, and the device looks itself
//! what has arrived here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::line::{Line, Subject};
use super::road::Road;
use super::{elapsed, not_told};
use crate::agent::address::ServerAddress;
use crate::agent::directory::Directory;
use crate::agent::identity::Identity;
use crate::agent::local::client::LocalClient;
use crate::agent::settings::Settings;

/// How long a datagram may take. On a road that works it takes milliseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to look meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long to wait before a datagram is taken for lost, and another one sent.
const RESEND_INTERVAL: Duration = Duration::from_millis(700);

/// Who sends and hears datagrams for this device.
pub(super) trait Datagrams {
    /// Sends a notice of the kind probe, to `to` unless it knows better; its counter.
    fn notify(&mut self, to: SocketAddr) -> Result<u32, String>;

    /// The port on which wakes are heard; 0: on none.
    fn port(&mut self) -> Result<u16, String>;

    /// The highest counter among the wakes of the kind probe that were heard, waiting a little for one.
    fn heard(&mut self) -> Result<u32, String>;
}

/// Sends notices until the server says that one has arrived.
pub(super) fn outbound(road: &mut Road, server: &ServerAddress, datagrams: &mut dyn Datagrams) -> Line {
    let failed = |why: String| Line::failed(Subject::UdpOut, why);
    let begun = Instant::now();
    let mut to = SocketAddr::new(road.address.ip(), server.port);
    let (mut first, mut sent_at) = (None, None::<Instant>);
    loop {
        let probed = match road.probe(0) {
            Ok(probed) => probed,
            Err(failure) => return failed(failure.detail()),
        };
        to.set_port(probed.notice_port.unwrap_or(server.port));
        if first.is_some_and(|first| probed.notice_counter >= first) {
            let took = elapsed(begun.elapsed());
            return Line::ok(Subject::UdpOut, format!("a notice reached UDP {to} (within {took})"));
        }
        if sent_at.is_none_or(|at| at.elapsed() >= RESEND_INTERVAL) && begun.elapsed() < ARRIVAL_TIMEOUT {
            match datagrams.notify(to) {
                // The first that arrives tells; counters rise.
                Ok(counter) => first = first.or(Some(counter)),
                Err(why) => return failed(why),
            }
            sent_at = Some(Instant::now());
        } else if begun.elapsed() >= ARRIVAL_TIMEOUT {
            return failed(lost_out(to));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn lost_out(to: SocketAddr) -> String {
    format!(
        "no notice reached the server at UDP {to} within {} s: let UDP {} out of this device's network and in at the server; \
         until then a device that was shut down counts as lost",
        ARRIVAL_TIMEOUT.as_secs(),
        to.port()
    )
}

/// Has the server send wakes until one has arrived.
pub(super) fn inbound(road: &mut Road, datagrams: &mut dyn Datagrams) -> Line {
    let failed = |why: String| Line::failed(Subject::UdpIn, why);
    let port = match datagrams.port() {
        Ok(0) => return failed("this agent hears no wakes: it has no UDP port".to_owned()),
        Ok(port) => port,
        Err(why) => return failed(why),
    };
    let begun = Instant::now();
    let (mut first, mut asked_at) = (None, None::<Instant>);
    let mut seen = String::new();
    loop {
        if asked_at.is_none_or(|at| at.elapsed() >= RESEND_INTERVAL) && begun.elapsed() < ARRIVAL_TIMEOUT {
            let probed = match road.probe(port) {
                Ok(probed) => probed,
                Err(failure) => return failed(failure.detail()),
            };
            let Some(counter) = probed.wake_counter else {
                return failed(
                    "the server sends no wakes (does it have a UDP port? musterd --udp)".to_owned(),
                );
            };
            first = first.or(Some(counter));
            seen = probed.address;
            asked_at = Some(Instant::now());
        }
        match datagrams.heard() {
            Ok(heard) if first.is_some_and(|first| heard >= first) => {
                let took = elapsed(begun.elapsed());
                return Line::ok(Subject::UdpIn, format!("a wake reached UDP port {port} (within {took})"));
            }
            Ok(_) if begun.elapsed() >= ARRIVAL_TIMEOUT => return failed(lost_in(&seen, port)),
            Ok(_) => std::thread::sleep(LOOK_INTERVAL),
            Err(why) => return failed(why),
        }
    }
}

fn lost_in(seen: &str, port: u16) -> String {
    format!(
        "no wake reached this device within {} s; the server sends them to {seen}, UDP {port}: let them in here, or, behind NAT, \
         have the link kept instead (musterctl device set NAME --keep-connected on)",
        ARRIVAL_TIMEOUT.as_secs()
    )
}

/// The running agent does it.
pub(super) struct OfAgent<'a> {
    agent: &'a mut LocalClient,
}

impl<'a> OfAgent<'a> {
    pub(super) fn new(agent: &'a mut LocalClient) -> Self {
        Self { agent }
    }

    fn ask<N: TryFrom<u64>>(&mut self, field: &str) -> Result<N, String> {
        let answer =
            self.agent.ask(&serde_json::json!({"command": "probe"})).map_err(|error| not_told(&error))?;
        let number = answer.get(field).and_then(serde_json::Value::as_u64);
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| format!("the running agent's answer was not understood: {answer}"))
    }
}

impl Datagrams for OfAgent<'_> {
    fn notify(&mut self, _: SocketAddr) -> Result<u32, String> {
        self.ask("counter")
    }

    fn port(&mut self) -> Result<u16, String> {
        self.ask("port")
    }

    fn heard(&mut self) -> Result<u32, String> {
        self.ask("probe_counter")
    }
}

/// No agent runs: this command does it itself.
pub(super) fn here<'a>(
    _directory: &'a Directory,
    _settings: &'a Settings,
    identity: &'a Identity,
) -> Box<dyn Datagrams + 'a> {
    Box::new(Here { identity })
}

struct Here<'a> {
    identity: &'a Identity,
}

impl Datagrams for Here<'_> {
    fn notify(&mut self, _: SocketAddr) -> Result<u32, String> {
        Err(self.nobody())
    }

    fn port(&mut self) -> Result<u16, String> {
        Err(self.nobody())
    }

    fn heard(&mut self) -> Result<u32, String> {
        Err(self.nobody())
    }
}

impl Here<'_> {
    fn nobody(&self) -> String {
        format!("no agent of '{}' runs that could do it: start it (muster-agent run)", self.identity.name)
    }
}
