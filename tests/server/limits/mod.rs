//! Everything in the handbook's table of limits, and somebody who tries to consume it.
//!
//! Each attack meets a server in a process of its own. Meanwhile an honest device delivers events on a link
//! that it keeps and on new ones, and an administrator asks how things are; afterwards the server's memory
//! must not have grown by more than the row allows.

mod administrator;
mod device;
mod network;
mod scene;
mod stranger;

use scene::{By, consume};

/// One test for each row: its first column, the peer that it limits, by how many MiB the server's memory may
/// grow, and the attempt.
macro_rules! attacks {
    ($($name:ident: $row:literal, $by:ident, $mebibytes:literal, $attack:path;)*) => {
        $(
            #[test]
            fn $name() {
                consume($row, By::$by, $mebibytes, $attack);
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
    probes: "probes of one device", Device, 8, device::probes;
    messages: "messages of one device", Device, 8, device::messages;
    events: "events of one device", Device, 24, device::events;
    unread: "answers that a device does not read", Device, 8, device::unread;
    parts: "parts of artifacts that a device asks for", Device, 16, device::parts;
    uploads: "uploads that a device does not finish", Device, 32, device::uploads;
    links: "links of one device", Device, 4, device::links;
    epochs: "epochs of one device", Device, 4, device::epochs;
    undecodable: "what can't be decoded", Device, 4, device::undecodable;
    silent: "connections on which nothing is said", Stranger, 4, stranger::silent;
    half: "handshakes that stop half-way", Stranger, 8, stranger::half;
    idle: "connections without a certificate", Stranger, 4, stranger::idle;
    guesses: "guesses of a join token", Stranger, 4, stranger::guesses;
    datagrams: "datagrams", Stranger, 4, stranger::datagrams;
    places: "connections to the administrators' port", Stranger, 8, network::places;
    unknown: "requests without a token that is good", Stranger, 8, network::unknown;
    streams: "requests in HTTP/2", Stranger, 40, network::streams;
    installer: "requests for the installer", Stranger, 16, network::installer;
    wrong: "wrong API tokens", Stranger, 8, network::wrong;
    sign_ins: "sign-ins that have gone to a provider", Stranger, 8, network::sign_ins;
    passwords: "wrong passwords", Stranger, 32, network::passwords;
    connections: "connections of administrators", Administrator, 4, administrator::connections;
    followers: "followers that do not read", Administrator, 48, administrator::followers;
    followers_from_afar: "followers that do not read", Stranger, 48, network::followers;
    waits: "answers that wait for devices", Administrator, 4, administrator::waits;
    artifacts: "artifacts that administrators add", Administrator, 16, administrator::artifacts;
    bodies: "requests of administrators", Administrator, 12, administrator::bodies;
}
