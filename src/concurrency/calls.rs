//! Messages to the owner of the UDP port, which calls devices.

use std::net::{IpAddr, SocketAddr};

use crate::machine::command::CallStep;
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// A message to the owner of the UDP port.
#[derive(Debug)]
pub enum ToWakeScheduler {
    /// Somebody wants these devices to come.
    Call {
        /// The operation that is told of the outcomes.
        operation: u64,
        /// Whom to call.
        devices: Vec<DeviceId>,
        /// Why.
        reason: WakeReason,
    },
    /// Nobody waits for this operation any more.
    Cancel(u64),
    /// A session has seen something of a device that is called.
    Step(DeviceId, CallStep),
    /// Somebody at this address has refused our certificate.
    RefusedAt(IpAddr),
    /// Send the device a wake of the kind probe, with this counter.
    Probe(DeviceId, SocketAddr, u32),
    /// End.
    Stop,
}
