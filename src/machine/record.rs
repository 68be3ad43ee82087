//! An event in the journal: the spool epoch (u64, big-endian), then the event's bytes as they came.

use crate::wire::id::Epoch;

/// Bytes before the event.
pub const PREFIX_BYTES: usize = 8;

/// The spool epoch of the server's own events: no device has it, its session refuses it.
pub const OWN_EPOCH: Epoch = Epoch(0);

/// Appends the payload of an event's record to `out`.
pub fn encode(spool_epoch: Epoch, event: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&spool_epoch.0.to_be_bytes());
    out.extend_from_slice(event);
}

/// The spool epoch and the event's bytes; `None` when the payload is too short to be one.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<(Epoch, &[u8])> {
    let (epoch, event) = payload.split_first_chunk::<PREFIX_BYTES>()?;
    Some((Epoch(u64::from_be_bytes(*epoch)), event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_comes_back_and_a_short_one_is_none() {
        let mut payload = Vec::new();
        encode(Epoch(0x0102), b"event", &mut payload);
        assert_eq!(decode(&payload), Some((Epoch(0x0102), &b"event"[..])));
        assert_eq!(decode(&payload[..7]), None);
    }
}
