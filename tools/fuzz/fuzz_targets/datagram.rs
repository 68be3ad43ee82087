#![no_main]
//! Datagrams: whatever comes is dropped for a reason or is authentic, and what is authentic is the very bytes
//! that its owner seals.
use libfuzzer_sys::fuzz_target;
use muster::wire::datagram::{DATAGRAM_BYTES, Notice, Wake};
use muster::wire::id::DeviceId;

const KEY: [u8; 32] = [7; 32];

fuzz_target!(|bytes: &[u8]| {
    let claimed = Notice::claimed(bytes);
    match Notice::open(bytes, &KEY) {
        Ok(notice) => {
            assert_eq!(claimed, Ok(notice.device));
            // One byte means nothing yet, and is authenticated all the same.
            assert!(bytes[7] != 0 || notice.seal(&KEY) == bytes);
        }
        Err(_) => assert!(bytes.len() != DATAGRAM_BYTES || claimed.is_err() || bytes.starts_with(b"mstr")),
    }
    if let Ok(wake) = Wake::open(bytes, DeviceId(1), &KEY) {
        assert_eq!(wake.device, DeviceId(1));
    }
});
