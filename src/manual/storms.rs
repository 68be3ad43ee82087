//! When everyone comes back at once: what the server does, which numbers decide, and why.
//!
//! A server that was away, or a network between it and its devices, comes back to a fleet that wants to be
//! served now. The session's part of a sync in which nothing changed takes half a microsecond; the handshake
//! before it takes more than a hundred, and nobody is known before its end
//! ([`measurements`](super::measurements)). So everything here is about handshakes: to make them cheap, to
//! spread them, to keep them from the links that live, and to let nobody use them as a weapon.
//!
//! # Cheap: tickets outlive the server
//!
//! A device that comes back with a session ticket (RFC 8446 section 4.6.1) is spared the signatures of both
//! sides: about a third of the work. The keys of tickets are in the store, so that this holds after a
//! restart, after `kill -9` and after a power cut. A new key is drawn every 12 hours and the last three open,
//! so that a ticket is good for a day ([`rotation`](crate::fleet::rotation)). The store has half of each key;
//! the other half is the server secret in `identity/`, so that a copy of the database alone opens nothing and
//! makes no tickets. A clock that starts in 1970 takes no key away; a ticket that does not open costs a full
//! handshake and nothing else.
//!
//! A device has one ticket at a time, and the connection that offers it uses it up (RFC 8446, appendix C.4:
//! an observer could tell by a ticket that is offered twice that both connections are one device's). So the
//! TLS client is made when TCP has connected and not before: an attempt that is refused, or whose SYN is not
//! answered, costs no ticket. One that breaks off behind its ClientHello does, and the next handshake is
//! full: of thousands of devices a few dozen at most ([`measurements`](super::measurements)). A second ticket
//! for them would be made, sent and kept with every handshake; so there is none.
//!
//! Whether a device still belongs to the fleet is looked up on resumed sessions as on others.
//!
//! # Spread: the reconnect window
//!
//! With each sync the server says over how many seconds the device is to spread its return when it loses the
//! server (`in-sync`, key 6 in `muster.cddl`):
//!
//! ```text
//! window = 1.2 × devices ÷ devices that can be taken in a second
//! ```
//!
//! Devices are those whose links are to stay, or all that are connected when those are more. The capacity is
//! computed from the reactors' processor time for the handshakes so far, on as many cores as they have, and
//! is no more than `[links] handshakes_per_second`. A fifth more than needed, so that few have to wait and
//! all are back soon; nothing below one second, so that a small fleet is back at once; never more than the
//! device's interval (30 s to 15 min), after which it would count as lost. With 100 µs a handshake and two
//! cores 10,000 devices come back within a second, and 1,000,000 within a minute.
//!
//! The agent draws its first attempt from the whole window, and each one after it from the larger of the
//! window and the time for which the server has been away by then: full jitter *after* the cap, so that there
//! is no crowd at its end. A server that was away for a moment has back within the window those too who came
//! too early, and after a longer outage nobody stays away for more than as long again.
//!
//! A server that is stopped (SIGTERM) tells each device when to come again, drawn from the same window, or
//! from five seconds when that is longer, as a start takes a few. A peer that does not listen is waited for
//! two seconds, a worker's answer for eight, and then the server ends.
//!
//! # Held back: what may begin
//!
//! Each reactor works in turns, and in each turn live links are read, answered and written first. Then
//! handshakes get half a millisecond, so that an acknowledgement waits that long for them and not for all
//! that are ready. And then the reactor gives its core away: kernels without preemption leave a core to its
//! present thread for milliseconds, and each acknowledgement needs three other threads in turn. Beyond that
//! ([`admission`](crate::machine::admission)):
//!
//! | limit | value | when it is reached |
//! |---|---|---|
//! | a reactor's time that goes to handshakes | 90 % | they wait; the rest is for the threads that share its core |
//! | handshakes of a reactor under way | 2,048 | connections wait in the kernel's backlog |
//! | `[links] handshakes_per_second` | none | the same |
//! | the backlog | `net.core.somaxconn`, at most 65,535 for each reactor | a connection is not refused; its SYN is repeated after 1, 2, 4 … s |
//! | links of devices | `[links] max` | a device that is not to stay is told to come later |
//! | handshakes beyond those | 64 | connections wait in the kernel's backlog |
//! | strangers: links without a device whose handshake is over | one for 32 links, 16 to 256 for the server, 16 for a reactor at least | the oldest is closed, as `stranger_evicted`, those first that were told why they are closed |
//! | links of one device beside its own, on their way in or out | 2 | the oldest is closed, as `extra_link` |
//! | what all links hold beside what each takes idle: unsent bytes, frames that are not whole or wait for room, half uploads | `[links] buffer_size`; an eighth of the memory that is free at the start, 64 MiB to 1 GiB; its share for each reactor | those that hold most for longest are closed, as `held_most`, until an eighth is free |
//! | jobs that wait for a worker | 512, and 64 MiB | the device is told to come later |
//! | operations of devices that wait for the store's writer | 4,000, and 64 MiB | the same |
//! | operations of administrators and the server that wait for it | 256 and 32 MiB more | the request is refused as `busy` |
//! | enrolments that are being worked on | as many again | the request is not read until one has ended |
//!
//! The server logs at its start when `net.core.somaxconn` is below 4,096: set it with sysctl, and
//! `net.ipv4.tcp_max_syn_backlog` with it.
//!
//! # Sent away: `Later`
//!
//! A device that can't be served is told when to come again, in turns: no faster than a quarter of what the
//! server can take, however many they are, since each costs a handshake when it comes. It begins with 5 to 10
//! seconds and grows with those who have been sent away before.
//!
//! | told so | closed as |
//! |---|---|
//! | a device that differs while all workers are busy, before it sends anything | the link stays |
//! | a device that is not to stay, when only the room that is kept for those is left | `too_many_links` |
//! | a device with more events than its [rate](super::delivery), of these alone | the link stays; it counts as `events_held` and takes no turn |
//! | a device that only comes by with a ticket, while connections have waited for ten seconds without a pause | `overloaded` |
//!
//! The last one is for those alone whose handshake was cheap, and only while others are about to give up:
//! they have to make another. A device whose link is to stay would only come again the sooner, and one that
//! somebody waits for is let in.
//!
//! # Attackers
//!
//! Connections that say nothing, and handshakes that are left half way, take places. While nobody waits they
//! have until `[links] handshake_deadline`. When somebody does, the oldest of them loses its place, as
//! `handshake_evicted`: after 1.5 s without a word, after 4 s half way. To keep devices out they have to come
//! faster than about 1,300 a second for each reactor, half handshakes 500 a second, which is a matter for a
//! packet filter. A connection on which nothing was said takes 3 KiB of memory, a handshake half way 11 to 12
//! KiB, and the beginning of a long message up to 8 KiB more
//! ([`HANDSHAKES_UNDER_WAY_MAX`](crate::machine::admission::HANDSHAKES_UNDER_WAY_MAX) of them 24 MiB, at
//! worst 40); longer ones are refused. Their cost is charged to the same time as all handshakes, and live
//! links do not feel it.
//!
//! Peers without a certificate that end their handshake are *strangers*. They have a pool of their own and
//! use up no device's place. A stranger has 5 s to ask for its enrolment
//! ([`STRANGER_SECONDS`](crate::machine::session::STRANGER_SECONDS)), and is never closed for another one
//! while that is worked on. While no join token is valid (none was made, or each has expired, is used up or
//! was revoked) there are none: the peer is told so in words at the end of its handshake, and closed as
//! `no_valid_token`. So revoke a token when the devices that it is for are there.
//!
//! # To be seen
//!
//! `musterctl status` shows handshakes, how many resumed, what one has cost on average, how many are under
//! way and how often connections were held back; closes by reason as above. Embedders find every budget in
//! [`Counters`](crate::concurrency::counters::Counters).
#![forbid(unsafe_code)]
