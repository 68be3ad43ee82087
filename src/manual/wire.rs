//! The wire protocol, for people who write an agent in another language.
//!
//! Transport is TLS 1.3 with ALPN `muster/1` on TCP port 13000. Inside, each frame is a length (u32,
//! big-endian) and a body of at most 64 KiB; a body is one CBOR value (RFC 8949): an array of the kind and a
//! map with integer keys. The description in CDDL (RFC 8610) is `src/wire/muster.cddl`, and
//! `tests/library/cddl` holds real messages against it:
//!
//! ```text
#![doc = include_str!("../wire/muster.cddl")]
//! ```
//!
//! # One conversation
//!
//! 1. Once in a device's life: connect without a client certificate, compare the hash of the server's
//!    certificate with the one in the join token ([`wire::token`](crate::wire::token)), send `enrol`, receive
//!    `enrolled`, store what it brings, connect anew.
//! 2. On each connection: compare the server's certificate with the stored copies, byte for byte, or follow a
//!    voucher (below); present the own one; send `sync` with the digest of each section, and with the first
//!    of a link the label of what is trusted. The answer is `in-sync`, or `want`, which is followed by parts
//!    and then by `in-sync`.
//! 3. Events at any time after that, oldest first; `ack` says through which sequence number they are durable.
//! 4. On a connection that stays, `ping` says when the next one will come, and `sync-now` asks for a sync at once. `goodbye` ends it.
//! 5. `renew-now`, before `in-sync`, asks the device for a new certificate: it sends `renew` with a request for a key when no sync is
//!    under way, and receives `renewed`, or an `error`. It stores both beside those in use, durably, connects anew with them, and forgets
//!    the old ones when a sync has ended well there. It may send `renew` by itself, to have a key of another kind.
//! 6. `in-sync` says when to come again, and whether the connection stays: without `keep` the agent closes it.
//!
//! # What a device trusts
//!
//! The server's certificate equals a stored copy, or its public key is that of a voucher: a certificate that
//! is sent behind it, signed with Ed25519 by the key of a stored copy, or by a key that another voucher is
//! for, at most four deep; eight certificates behind the server's are looked at. A voucher's serial number
//! has 16 bytes: 0x41, its number (u32, big-endian), random ones. One whose number is below the device's
//! `voucher-floor` does not count. No date, name or extension is looked at. A device that enrols may find the
//! certificate that its token names behind the server's own, with a voucher by its key.
//!
//! When the label that a device names is not the server's, it is sent `trust` before `in-sync`: all that it
//! is to trust from the next connection on, in the place of what it had. It stores that durably and then
//! names the label in another `sync`; only that counts.
//!
//! # Desired state
//!
//! A `sync` that names sections 4 and 5 says that the device takes a desired state: settings of applications,
//! and runs of tasks. When the sum of both digests is not what the server has for the device, it sends,
//! behind the device's own sections and before `in-sync`, one `settings-order` for each application that
//! differs from what the device's conditions report, one `run-order` for each run that the device has not
//! accepted, and one `run-list` with all runs that it is to have. A device keeps an order durably before its
//! next sync names it; it executes a run once, however often it is ordered, and says 'not now' of one that it
//! could not begin with in time; it ends runs that the list lacks and reports those that it does not know.
//! `run-updates` go up at any time and are repeated until `runs-stored` names their serial number.
//! `statistics` go up just before a `sync` that is due or asked for. The device declares with its host facts
//! which orders it takes.
//!
//! A long message is said as the socket takes it, on both sides: a part of a section is made when less than
//! 128 KiB wait to be sent, and a device's desired state is worked out in portions of that size, each when
//! the socket has taken the one before. So neither side's memory depends on how much there is. A peer that
//! takes some of what waits for it is slow; one that takes nothing for `write_deadline` is gone.
//!
//! The version of a package that is there and not wholly installed is followed by its state in parentheses
//! (`1.2-3 (half-configured)`, `2.0 (triggers-pending)`, `9 (to be reinstalled)`), which no version has:
//! versions are compared without it.
//!
//! # A device's allowance
//!
//! Everything that a device says takes from one allowance, whatever the number of its links: about what it
//! costs the server, and more for what an honest device says seldom. A second of it comes back in a second,
//! and 75 seconds may be used ahead. In a second it is worth 50,000 events or more, 10,000 pings, 1,000
//! parts, 500 syncs, 100 probes without a wake or messages that can't be read, 50 reports of runs or
//! statistics. When it is used up, the server does not read the connection until some has come back: nothing
//! is lost, and an agent need not know of it. Only a `probe` that asks for a wake beyond six a minute is
//! answered, with an `error` (code 2) that names the limit and says in how many seconds to try again. The
//! weights are in [`rate`](crate::machine::rate).
//!
//! Its events' share of the log has a rate besides ([`delivery`](super::delivery)). Above it they are
//! answered with `later`, which says that only events are to wait; the first `events` message after that time
//! says so (`begins_again`), and none that was under way is taken.
//!
//! A peer without a certificate has eight messages that are not an enrolment, then the connection ends.
//!
//! # Datagrams
//!
//! A wake (server to device, UDP 15000 or what the device named) and a notice (device to server, UDP 13000 or
//! what the server named) have 56 bytes each; [`wire::datagram`](crate::wire::datagram) has the layout in
//! rows of 8 bytes. The keys come with `enrolled`. Each side remembers the highest counter that it took, on
//! its disk, and takes no other twice.
//!
//! # Growing
//!
//! Unknown keys are ignored. An unknown kind is answered with an error, not a hang-up. Numbers are never used
//! twice. The limits are in [`wire::limits`](crate::wire::limits), each with its unit and reason.
#![forbid(unsafe_code)]
