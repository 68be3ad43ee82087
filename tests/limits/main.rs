//! Everything in the handbook's table of limits, and somebody who tries to consume it.
//!
//! Each attack meets a server in a process of its own. Meanwhile an honest device delivers events on a link
//! that it keeps and on new ones, and an administrator asks how things are; afterwards the server's memory
//! must not have grown by more than the row allows.
#![cfg(all(feature = "server", feature = "ctl"))]
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod administrator;
#[path = "../common/mod.rs"]
mod common;
mod device;
#[path = "../storm/process.rs"]
mod process;
mod scene;
mod stranger;

use scene::consume;

/// One test for each row: its first column, how much the server's memory may grow, in MiB, and who tries.
macro_rules! attacks {
    ($($name:ident: $row:literal, $mebibytes:literal, $attack:path;)*) => {
        $(
            #[test]
            fn $name() {
                consume($row, $mebibytes, $attack);
            }
        )*

        #[test]
        fn every_row_of_the_table_is_tried() {
            let tried: std::collections::BTreeSet<&str> = [$($row),*].into();
            assert_eq!(scene::rows(), tried, "left: the handbook's table; right: what is tried here");
        }
    };
}

attacks! {
    probes: "probes of one device", 8, device::probes;
    pings: "messages of one device", 8, device::pings;
    events: "events of one device", 24, device::events;
    unread: "answers that a device does not read", 8, device::unread;
    uploads: "uploads that a device does not finish", 8, device::uploads;
    links: "links of one device", 4, device::links;
    epochs: "epochs of one device", 4, device::epochs;
    undecodable: "what can't be decoded", 4, device::undecodable;
    silent: "connections on which nothing is said", 4, stranger::silent;
    half: "handshakes that stop half-way", 8, stranger::half;
    idle: "connections without a certificate", 4, stranger::idle;
    guesses: "guesses of a join token", 4, stranger::guesses;
    datagrams: "datagrams", 4, stranger::datagrams;
    connections: "connections of administrators", 4, administrator::connections;
    followers: "followers that do not read", 48, administrator::followers;
    waits: "answers that wait for devices", 4, administrator::waits;
    bodies: "requests of administrators", 12, administrator::bodies;
}
