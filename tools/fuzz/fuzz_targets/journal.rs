#![no_main]
//! The journal's bytes: a header, a record or a trailer that is read is one that could have been written.
use libfuzzer_sys::fuzz_target;
use muster::journal::layout::{SegmentHeader, Trailer, decode_record};
use muster::machine::record;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        let _ = Trailer::decode(&header, bytes);
    }
    if let Some(view) = decode_record(0, 0, bytes) {
        assert!(view.record.payload.len() <= bytes.len());
        let _ = record::decode(view.record.payload);
    }
});
