//! The rest of the server, as a reactor sees it.

use std::net::IpAddr;

use super::channel::CertificateStatus;
use crate::machine::command::Job;
pub use crate::machine::commit_delay::Flushed;
use crate::machine::device_state::LinkRef;
use crate::machine::endpoint::Services;
use crate::machine::permits::Permit;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;

/// The rest of the server, as a reactor sees it. Nothing here waits for a disk but [`Backend::flush_here`].
pub trait Backend: Services + Send + Sync + 'static {
    /// Returns the status of a certificate.
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus;

    /// Returns the status of a certificate (DER) that nobody here has seen, and whose owner has shown that it
    /// has the key. When this server has issued it to a device that is there, it is known from now on; when
    /// to one that is not, an administrator is told. `peer` is where it came from, as far as that is known.
    fn status_of_unseen(&self, certificate: &[u8], peer: Option<IpAddr>) -> CertificateStatus;

    /// The device has shown this certificate, and has proved that it holds the key.
    fn certificate_shown(&self, device: DeviceId, certificate: CertificateHash, peer: Option<IpAddr>);

    /// Whether any join token lets a device in at this time, which is one of
    /// [`Clock::ages`](super::Clock::ages).
    fn is_enrolment_open(&self, wall: WallTime) -> bool;

    /// Wakes the flusher: called once a turn, when something was appended.
    fn flush(&self);

    /// Makes durable what was appended while the caller waits, if that is a matter of a moment.
    fn flush_here(&self) -> Flushed;

    /// Whether somebody makes something durable now.
    fn is_flushing(&self) -> bool;

    /// Everything before this position is durable.
    fn durable(&self) -> u64;

    /// Hands a job to a worker; its permit comes back with the outcome, in a message to the link's reactor.
    /// `false`: no worker is there any more.
    #[must_use]
    fn submit(&self, link: LinkRef, job: Job, permit: Permit) -> bool;

    /// Somebody at this address has refused our certificate.
    fn refused_at(&self, peer: IpAddr);

    /// Number of devices whose links are to stay: room for as many is theirs.
    fn persistent_devices(&self) -> u64;
}
