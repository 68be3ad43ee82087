#![no_main]
//! Events: what decodes and keeps the limits survives being written and read again.
use libfuzzer_sys::fuzz_target;
use muster::wire::event::Event;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::from_bytes(bytes) {
        // Encoding refuses an empty application or kind, decoding does not.
        if let Ok(written) = event.to_bytes() {
            assert_eq!(Event::from_bytes(&written).expect("what we wrote"), event);
        }
    }
});
