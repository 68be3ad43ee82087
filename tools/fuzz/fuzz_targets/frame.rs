#![no_main]
//! Frames: whatever arrives is split or refused, and what is split lies inside what arrived.
use libfuzzer_sys::fuzz_target;
use muster::wire::frame;

fuzz_target!(|bytes: &[u8]| {
    let mut left = bytes;
    while let Ok(Some((body, whole))) = frame::split(left) {
        assert!(!body.is_empty() && body.len() < whole && whole <= left.len());
        left = &left[whole..];
    }
});
