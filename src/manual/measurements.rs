//! What was measured, how, and on what.
//!
//! Machine: 2 cores, 24 GiB, Debian 12, Linux 6.18, Rust 1.95; a shared virtual machine, so that single figures are noisy and
//! ratios within one run are what counts. Each figure names its command.
//!
//! | what | figure | command |
//! |---|---|---|
//! | sync in which nothing changed, three sections, both ways | below 150 bytes of TLS payload (asserted) | `cargo test --lib a_sync_in_which_nothing_changed_stays_below_its_budget` |
//! | inventories of 100,000 devices × 200 applications, 50 kinds, four differences each | 0.82 bytes an entry on disk | `cargo bench --bench store` |
//! | the rest of the database | 172 bytes a device | the same |
//! | resident memory of the store and the device table | 279 bytes a device | the same |
//! | open the store, table of 100,000 devices loaded | 213 ms | the same |
//! | durable enrolments | 52,466/s | the same |
//! | which devices have an application, page of 100, p50 | 67 µs (few have it) to 3.2 ms (all have it) | the same |
//! | list all 100,000 devices, page by page | 81 ms | the same |
//!
//! The store's figures were taken while other builds ran on the same two cores.
