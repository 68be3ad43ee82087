//! The simulated devices' identities: enrolled over the wire, and kept for the next run.

pub(crate) mod cache;
pub(crate) mod enrol;
pub(crate) mod template;

/// Name of a device.
pub(crate) fn name(device: usize) -> String {
    format!("load-{device:06}")
}
