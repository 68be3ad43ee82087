#![no_main]
//! Messages to the server: what decodes survives being written and read again.
use libfuzzer_sys::fuzz_target;
use muster::wire::frame;
use muster::wire::message::ToServer;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = ToServer::from_body(bytes) {
        let mut out = Vec::new();
        message.write_to(&mut out);
        let (body, _) = frame::split(&out).expect("a frame").expect("a whole frame");
        assert_eq!(ToServer::from_body(body).expect("what we wrote"), message);
    }
});
