//! Datagrams, both ways. Nobody answers one with another, so the link says what has arrived at the server,
//! and the device looks itself what has arrived here.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Poll, Token};

use super::connection::{Connection, detail};
use super::line::{Line, Subject};
use super::{elapsed, not_told};
use crate::agent::collect::host;
use crate::agent::datagram::Datagrams;
use crate::agent::datagram::port::NO_WAKES;
use crate::agent::directory::Directory;
use crate::agent::identity::Identity;
use crate::agent::local::client::LocalClient;
use crate::agent::settings::Settings;
use crate::agent::talk::TalkError;
use crate::reactor::clock::Clock;
use crate::wire::datagram::{NoticeKind, boot_of};
use crate::wire::message::ErrorCode;

/// Time of a datagram. On a path that works it takes milliseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of looking meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Copies of a notice, in datagrams: a single loss says nothing.
const COPIES: usize = 3;

/// Time until a datagram is taken for lost, and another one sent.
const RESEND_INTERVAL: Duration = Duration::from_millis(700);

/// Sends and hears datagrams for this device.
pub(super) trait Prober {
    /// Sends a notice of the kind probe, to `to` unless it knows better; its counter.
    fn notify(&mut self, to: SocketAddr) -> Result<u32, String>;

    /// The port on which wakes are heard; `None` when none are wanted.
    fn port(&mut self) -> Result<Option<u16>, String>;

    /// The highest counter among the wakes of the kind probe that were heard, waiting a little for one.
    fn heard(&mut self) -> Result<u32, String>;
}

/// Sends notices until the server says that one has arrived.
///
/// # Errors
/// Why none has, and what to do.
pub(super) fn outbound(connection: &mut Connection, prober: &mut dyn Prober) -> Result<Line, String> {
    let begun = Instant::now();
    let mut to = connection.address;
    let (mut first, mut sent_at) = (None, None::<Instant>);
    loop {
        let probed = connection.probe(0).map_err(|failure| detail(&failure))?;
        to.set_port(probed.notice_port.unwrap_or(connection.address.port()));
        if first.is_some_and(|first| probed.notice_counter >= first) {
            let took = elapsed(begun.elapsed());
            return Ok(Line::ok(Subject::UdpOut, format!("a notice reached UDP {to} (within {took})")));
        }
        if sent_at.is_none_or(|at| at.elapsed() >= RESEND_INTERVAL) && begun.elapsed() < ARRIVAL_TIMEOUT {
            // The first that arrives tells; counters rise.
            let counter = prober.notify(to)?;
            first = first.or(Some(counter));
            sent_at = Some(Instant::now());
        } else if begun.elapsed() >= ARRIVAL_TIMEOUT {
            return Err(lost_out(to));
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
///
/// # Errors
/// Why none has, and what to do.
pub(super) fn inbound(connection: &mut Connection, prober: &mut dyn Prober) -> Result<Line, String> {
    let Some(port) = prober.port()? else {
        return Ok(Line::ok(Subject::UdpIn, "no wakes are wanted: [wake] port = 0"));
    };
    let begun = Instant::now();
    let (mut first, mut asked_at) = (None, None::<Instant>);
    let mut seen = String::new();
    loop {
        if asked_at.is_none_or(|at| at.elapsed() >= RESEND_INTERVAL) && begun.elapsed() < ARRIVAL_TIMEOUT {
            let probed = match connection.probe(port) {
                // Nothing is known of the way here: the device has had as many wakes as it may.
                Err(TalkError::Refused(report)) if report.code == ErrorCode::Unexpected => {
                    return Ok(Line::put_off(Subject::UdpIn, report.message));
                }
                probed => probed.map_err(|failure| detail(&failure))?,
            };
            let counter = probed.wake_counter;
            first = first.or(Some(
                counter.ok_or("the server sends no wakes (does it have a UDP port? musterd --udp)")?,
            ));
            seen = probed.address;
            asked_at = Some(Instant::now());
        }
        let heard = prober.heard()?;
        if first.is_some_and(|first| heard >= first) {
            let took = elapsed(begun.elapsed());
            return Ok(Line::ok(Subject::UdpIn, format!("a wake reached UDP port {port} (within {took})")));
        }
        if begun.elapsed() >= ARRIVAL_TIMEOUT {
            return Err(lost_in(&seen, port));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn lost_in(seen: &str, port: u16) -> String {
    format!(
        "no wake reached this device within {} s; the server sends them to {seen}, UDP {port}: let them in here, or, behind NAT, \
         make the link persistent instead (musterctl device set NAME --keep-connected on)",
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
        let answer = self.agent.command("probe").map_err(|error| not_told(&error))?;
        let number = answer.get(field).and_then(serde_json::Value::as_u64);
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| format!("the running agent's answer was not understood: {answer}"))
    }
}

impl Prober for OfAgent<'_> {
    fn notify(&mut self, _: SocketAddr) -> Result<u32, String> {
        self.ask("counter")
    }

    fn port(&mut self) -> Result<Option<u16>, String> {
        let port: u16 = self.ask("port")?;
        if port != 0 {
            return Ok(Some(port));
        }
        // Not wanted, or not to be had: then the agent says why.
        let status = self.agent.status().map_err(|error| not_told(&error))?;
        match status.problems.into_iter().find(|problem| problem.starts_with(NO_WAKES)) {
            Some(problem) => Err(problem),
            None => Ok(None),
        }
    }

    fn heard(&mut self) -> Result<u32, String> {
        self.ask("probe_counter")
    }
}

/// No agent runs: this command has the device's port and its counters for itself.
pub(super) struct Here {
    datagrams: Datagrams,
    clock: Clock,
}

impl Here {
    /// The caller holds the directory's lock.
    pub(super) fn new(directory: &Directory, settings: &Settings, identity: &Identity) -> io::Result<Self> {
        let clock = Clock::new();
        let now = clock.now();
        let boot = boot_of(&host::boot_id(&settings.collect.root));
        let mut datagrams =
            Datagrams::new(identity, directory.path(), boot, settings.wake.port, Token(0), now.wall);
        // The socket is looked at again and again, and needs no poll; it only wants to be registered with
        // one.
        datagrams.port.open_when_due(now.moment, Poll::new()?.registry());
        Ok(Self { datagrams, clock })
    }
}

impl Prober for Here {
    fn notify(&mut self, to: SocketAddr) -> Result<u32, String> {
        let (word, bytes) = self.datagrams.next_notice(NoticeKind::Probe);
        (0..COPIES).for_each(|_| self.datagrams.send(&bytes, to));
        Ok(word.counter)
    }

    fn port(&mut self) -> Result<Option<u16>, String> {
        match (&self.datagrams.port.problem, self.datagrams.reach().udp_port) {
            (Some(problem), _) => Err(problem.clone()),
            (None, 0) => Ok(None),
            (None, port) => Ok(Some(port)),
        }
    }

    fn heard(&mut self) -> Result<u32, String> {
        // A call in earnest meanwhile is heard as well; the agent that would come does not run.
        self.datagrams.hear(&self.clock.now(), &mut Vec::new());
        Ok(self.datagrams.probe_state(0).probe_counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_datagram_names_the_port_and_what_to_do() {
        let out = lost_out("192.0.2.7:13000".parse().unwrap());
        assert!(out.contains("192.0.2.7:13000 within 2 s") && out.contains("let UDP 13000 out"), "{out}");
        let inbound = lost_in("198.51.100.9", 15_000);
        assert!(
            inbound.contains("198.51.100.9, UDP 15000") && inbound.contains("--keep-connected on"),
            "{inbound}"
        );
    }
}
