//! `muster-agent check`: everything between this device and its server, looked at one after the other, so
//! that the first line that is not ok names the thing to mend.

mod connection;
pub mod line;
mod spool;
mod udp;

use std::time::Duration;

use self::line::{Line, Report, Subject};
use self::udp::{Here, OfAgent, Prober};
use super::address::ServerAddress;
use super::directory::Directory;
use super::identity::{Identity, IdentityError};
use super::join::{self, Join};
use super::local::client::{LocalClient, LocalError};
use super::local::protocol::CertificateStatus;
use super::managed::own::OwnSettings;
use super::settings::Settings;
use crate::reactor::clock::Clock;

/// Time of each single step: a healthy one takes a thousandth of it.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at everything, with the running agent's help when there is one; otherwise the caller holds the
/// directory's lock.
pub fn check(
    directory: &Directory,
    settings: &Settings,
    agent: Option<&mut LocalClient>,
    report: &mut Report<'_>,
) {
    let mut agent = agent;
    let status = agent.as_mut().map(|agent| agent.status());
    let told = status.as_ref().and_then(|status| status.as_ref().ok()?.server.clone());
    let copy = status.as_ref().and_then(|status| status.as_ref().ok()?.copy.clone());
    match who(directory, settings, told) {
        Ok((identity, server)) => {
            report.add(Line::ok(
                Subject::Identity,
                format!("'{}' ({}) at {server}", identity.name, identity.device),
            ));
            report.add(certificate(&identity));
            match &mut agent {
                Some(agent) => look(&identity, &server, copy, Ok(&mut OfAgent::new(agent)), report),
                None => match Here::new(directory, settings, &identity) {
                    Ok(mut here) => look(&identity, &server, None, Ok(&mut here), report),
                    Err(error) => look(&identity, &server, None, Err(error.to_string()), report),
                },
            }
        }
        Err(why) => {
            use Subject::{Certificate, Clock, Device, Name, Pin, Tcp, Tls, UdpIn, UdpOut};
            report.give_up(
                Line::failed(Subject::Identity, why),
                &[Certificate, Name, Tcp, Tls, Pin, Device, Clock, UdpOut, UdpIn],
            );
        }
    }
    report.add(match status {
        None => spool::of_directory(&directory.spool()),
        Some(Ok(status)) => spool::of_agent(&status),
        Some(Err(error)) => Line::failed(Subject::Spool, not_told(&error)),
    });
}

/// The device's certificate, by its own clock.
fn certificate(identity: &Identity) -> Line {
    let Some(status) = CertificateStatus::of(identity) else {
        let why = "it is none: enrol again (muster-agent enroll --force)";
        return Line::failed(Subject::Certificate, why);
    };
    let CertificateStatus { number, key_type, expires_at, renews_at } = status;
    if Clock::new().now().wall >= expires_at {
        let why = format!(
            "number {number} ({key_type}) expired at {expires_at}: the server lets the device in all the same, and the next sync renews it; \
             if it stays so, the server's log says why"
        );
        return Line::failed(Subject::Certificate, why);
    }
    let told = format!("number {number} ({key_type}), until {expires_at}, is renewed about {renews_at}");
    Line::ok(Subject::Certificate, told)
}

/// The device's identity and its server; otherwise why not.
fn who(
    directory: &Directory,
    settings: &Settings,
    told: Option<String>,
) -> Result<(Identity, ServerAddress), String> {
    let identity = Identity::read_enrolled(directory.path()).map_err(|error| {
        match (&error, join::read(directory.path())) {
            (IdentityError::NotEnrolled(_), Ok(Some(join))) => not_yet(directory, &join),
            _ => error.to_string(),
        }
    })?;
    // A running agent's are in force, whatever its file says by now.
    if let Some(server) = told.and_then(|told| told.parse().ok()) {
        return Ok((identity, server));
    }
    let own = OwnSettings::read(directory.path());
    let server = own.servers(settings.server.as_deref(), &identity).map_err(|error| error.to_string())?;
    Ok((identity, server))
}

/// That of a device that enrols by itself.
fn not_yet(directory: &Directory, join: &Join) -> String {
    let why = match join::problem(directory.path()) {
        Some(problem) => format!("the last attempt failed: {problem}"),
        None => "it has not tried yet".to_owned(),
    };
    format!(
        "this device waits to enrol at {}: 'muster-agent run' does it and tries until it is enrolled; {why}",
        join.server
    )
}

/// `copy`: why the server takes this machine for a copy of the device.
fn look(
    identity: &Identity,
    server: &ServerAddress,
    copy: Option<String>,
    prober: Result<&mut dyn Prober, String>,
    report: &mut Report<'_>,
) {
    use Subject::{Clock, Device, UdpIn, UdpOut};
    let mut connection = match connection::open(server, identity, report) {
        Ok(connection) => connection,
        Err(cause) => return report.skip(&[Device, Clock, UdpOut, UdpIn], cause),
    };
    let device = match copy {
        Some(why) => Line::failed(Device, why),
        None => connection::device(&mut connection, identity),
    };
    let is_known = device.verdict == line::Verdict::Ok;
    if !is_known {
        report.give_up(device, &[Clock, UdpOut, UdpIn]);
        return;
    }
    report.add(device);
    report.add(connection::clock(&mut connection));
    match prober {
        Ok(prober) => {
            let outbound = udp::outbound(&mut connection, prober);
            report.add(outbound.unwrap_or_else(|why| Line::failed(UdpOut, why)));
            let inbound = udp::inbound(&mut connection, prober);
            report.add(inbound.unwrap_or_else(|why| Line::failed(UdpIn, why)));
        }
        Err(why) => {
            report.give_up(Line::failed(UdpOut, format!("the system refuses: {why}")), &[UdpIn]);
        }
    }
    connection.close();
}

fn not_told(error: &LocalError) -> String {
    format!("the running agent does not tell: {error}")
}

/// Milliseconds with one decimal, for people.
fn elapsed(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
