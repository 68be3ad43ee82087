#![no_main]
//! Files that a device keeps and is handed: slots, saved state, application files, and lines of local
//! programs.
use libfuzzer_sys::fuzz_target;
use muster::agent::ab_slots;
use muster::agent::application::definition;
use muster::agent::local::peer::Peer;
use muster::agent::local::protocol;
use muster::machine::agent::AgentState;
use muster::wire::time::WallTime;

fuzz_target!(|bytes: &[u8]| {
    if let Some(slot) = ab_slots::decode(bytes) {
        assert_eq!(ab_slots::decode(&ab_slots::encode(slot.generation, &slot.content)), Some(slot));
    }
    let _ = AgentState::from_bytes(bytes);
    let _ = protocol::parse(bytes, WallTime(0), Peer::Other(1_000));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = definition::parse(text, std::path::Path::new("fuzz.toml"));
    }
});
