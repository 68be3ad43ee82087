//! Floor 0: bytes to values and back. Frames, messages, records, ids, digests, limits; no IO, no clock.
#![forbid(unsafe_code)]
