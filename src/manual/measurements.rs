//! What was measured, how, and on what.
//!
//! Machine: 2 cores, 24 GiB, Debian 12, Linux 6.18, Rust 1.95; a shared virtual machine, so that single figures are noisy and
//! ratios within one run are what counts. Each figure names its command.
//!
//! | what | figure | command |
//! |---|---|---|
//! | sync in which nothing changed, three sections: 77 bytes up, 29 down | 106 bytes of TLS payload | `cargo bench --bench session` |
//! | the session's part of it, no socket | 0.22 µs | the same |
//! | decode the sync; encode the answer | 0.11 µs; 0.06 µs | `cargo bench --bench wire` |
//! | decode a message of 64 events | 1.1 µs | the same |
//! | full mutual handshake, both ends in one thread: our channel; bare rustls that builds a chain | 262 µs; 318 µs (ratio 0.82) | `cargo bench --bench handshake` |
//! | resumed handshake, the same two | 204 µs; 205 µs (ratio 1.0) | the same |
//! | memory of the server's end of an idle channel | 6,672 bytes | the same |
//! | session; device record | 48 bytes; 136 bytes | `cargo bench --bench session` |
//! | append to the journal | 67 ns | `cargo bench --bench journal` |
//! | append and make durable, 1 in flight; the same with msync of a shared map | 190 µs; 795 µs | the same |
//! | append and make durable, 64 in flight; the same with msync of a shared map | 208 µs; 226 µs | the same |
//! | open a full segment, every record told | 1.4 GiB/s | the same |
//! | the demo, release: server resident; agent resident | 13.1 MiB; 10.1 MiB | `cargo run --release -- demo --exit` |
//! | 200 events during an outage: durable on the device, each; all on the server after its restart | 0.22 ms; 272 ms | the same |
//! | inventories of 100,000 devices × 200 applications, 50 kinds, four differences each | 0.82 bytes an entry on disk | `cargo bench --bench store` |
//! | the rest of the database | 172 bytes a device | the same |
//! | resident memory of the store and the device table | 279 bytes a device | the same |
//! | open the store, table of 100,000 devices loaded | 213 ms | the same |
//! | durable enrolments | 52,466/s | the same |
//! | which devices have an application, page of 100, p50 | 67 µs (few have it) to 3.2 ms (all have it) | the same |
//! | list all 100,000 devices, page by page | 81 ms | the same |
//!
//! The store's and the demo's figures were taken while other builds ran on the same two cores.
