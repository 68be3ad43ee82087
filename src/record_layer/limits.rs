//! Every limit of a record, its unit and its reason.

/// Length of a record's header: type, version, length (RFC 8446 section 5.2).
pub const HEADER_BYTES: usize = 5;

/// Most content of one record (RFC 8446 section 5.1).
pub const FRAGMENT_BYTES_MAX: usize = 1 << 14;

/// Most content, padding and content type of one record (RFC 8446 section 5.4).
pub const INNER_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + 1;

/// Most that a header's length may name (RFC 8446 section 5.2). More than what can follow, so that what is
/// longer than [`INNER_BYTES_MAX`] is refused only once it is known to be the peer's.
pub const PROTECTED_BYTES_MAX: usize = FRAGMENT_BYTES_MAX + 256;

/// Length of an authentication tag; each of the suites has this one.
pub const TAG_BYTES: usize = 16;

/// Longest record that can arrive: what a buffer must have room for.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + PROTECTED_BYTES_MAX;

/// Bytes that a sealed fragment is longer than its content.
pub const SEALED_BYTES_MORE: usize = HEADER_BYTES + 1 + TAG_BYTES;

/// Most records in a row that bring nothing. They are allowed (RFC 8446 section 5.1), cost us a decryption
/// and the peer next to nothing; common libraries allow as many.
pub const EMPTY_RECORDS_IN_A_ROW_MAX: u8 = 32;

/// Most KeyUpdates that are not yet outweighed by records with data, one each. A KeyUpdate costs us several
/// hashes; common libraries allow as many without data, and any number with it.
pub const KEY_UPDATES_AHEAD_MAX: u8 = 32;

/// Records that are sealed under one key before it is renewed: well before [`SEALED_RECORDS_MAX`].
pub const SEALED_RECORDS_PER_KEY: u64 = 1 << 22;

/// Most records that are ever sealed under one key. AES-GCM allows 2^24.5 of full size (RFC 8446 section
/// 5.5), QUIC allows 2^23 (RFC 9001 section 6.6). ChaCha20-Poly1305 would bear more and is treated alike.
pub const SEALED_RECORDS_MAX: u64 = 1 << 23;

/// Records of the peer's under one key after which it is asked to renew it. That it does so is its own
/// business, and what it has sealed too often is not made better by refusing it.
pub const OPENED_RECORDS_PER_KEY: u64 = 1 << 23;

// Between the two there is room for the KeyUpdate itself, and for any alert.
const _: () = assert!(SEALED_RECORDS_PER_KEY + 1_000 < SEALED_RECORDS_MAX);
// A length is written in two bytes.
const _: () = assert!(PROTECTED_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(INNER_BYTES_MAX + TAG_BYTES <= PROTECTED_BYTES_MAX);
