#![no_main]
//! Events: what decodes and keeps the limits survives being written and read again, and what is mended keeps
//! them.
use libfuzzer_sys::fuzz_target;
use muster::wire::event::Event;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::from_bytes(bytes) {
        // Encoding refuses an empty application or kind, decoding does not.
        if let Ok(written) = event.to_bytes() {
            assert_eq!(Event::from_bytes(&written).expect("what we wrote"), event);
        }
        if !event.application.is_empty() && !event.kind.is_empty() {
            let mended = event.mended();
            assert!(mended.to_bytes().is_ok(), "what was mended can be sent");
            assert_eq!(mended.clone().mended(), mended, "there is nothing more to mend");
        }
    }
});
