//! Reaching devices: calls, wakes, notices, presence, persistent links, firewalls and NAT.
//!
//! # Three ways to be there
//!
//! | a device | how it is called | what it costs while nothing happens |
//! |---|---|---|
//! | comes by at its interval | a wake datagram makes it connect | nothing |
//! | keeps its connection (`--keep-connected on`, or its group's) | a message on its link | a link here, a ping there |
//! | comes by, and wakes do not reach it | not before its slot; so it keeps its connection by itself (`[links] keep_unreachable`) | as above |
//!
//! `musterctl device sync` takes whichever way there is and says of each device what became of it: synced (in
//! how many milliseconds, by link or by wake), unreachable by UDP with the time of its next slot, asleep,
//! shut down, agent stopped, certificate refused. A device whose link does not answer in two seconds is woken
//! as well. Calls of a whole fleet begin at most 1,000 a second
//! ([`wake_scheduler`](crate::machine::wake_scheduler)), so that the server is free for everything else. A
//! forced sync is a sync like any other: the same messages, after one of ten bytes on the link or one
//! datagram of 56.
//!
//! # Wakes
//!
//! The datagram ([`datagram`](crate::wire::datagram) has its bytes) carries a counter that rises with each
//! wake of the device and an HMAC-SHA-256 under a key that only this device and the server have, `HKDF(server
//! secret, device, purpose)`: the server stores no secret per device. The agent verifies it in constant time,
//! takes each counter once, remembers the highest on its disk, and is woken at most ten times a second for
//! long. Then it connects to *its stored server address*, wherever the datagram came from, checks the
//! certificate, and syncs. Nothing ever answers a datagram with a datagram, so nobody learns from outside
//! whether there is an agent, and nobody can use one to hit another.
//!
//! Copies of one wake are the same bytes: it is sent up to six times, with pauses that double from 150 ms,
//! until the sync has begun. The server keeps what it learns from it, and `musterctl device show` shows it.
//! It need not wait for a call to learn: behind the first sync from a new address it sends one wake of the
//! kind *probe*, which is only noted, and the next sync names the highest counter that the device has taken.
//!
//! A wake goes to a port of the device's choosing, so that a device has few of them: for its checks
//! (`muster-agent check`) six at once and six a minute, on all its links together, and behind its syncs no
//! more than half of that. A check that finds none left is answered with the limit and with when to try
//! again; a sync goes without. At most 4,096 such wakes wait for the port, and what comes beyond that counts
//! as lost. Administrators' calls are kept in a queue of their own and sent first, so that no device keeps a
//! call waiting.
//!
//! The counter follows the server's clock, in seconds, and is never below what the device says it has taken:
//! a server that was restored from a copy is not mistaken for a replay. A start skips 1,024 counters, because
//! wakes may have been sent of which nothing was stored, and the clock may have been set back. A device is
//! held for reached at an address only by the counter of a wake that was sent to that address: one that says
//! that it was woken may have heard it where it was before.
//!
//! # Notices
//!
//! An agent that ends says why: the device shuts down, reboots, goes to sleep, or only the agent was stopped.
//! It first delivers what its spool holds, as far as there is time, then says so on its link if it has one,
//! and in three copies of a datagram within 200 ms. All in all it takes at most two seconds, with the server
//! away. Each sync names the highest counter of the notices sent before it; a notice that arrives behind that
//! sync is stale, and one that was sent before its device's newest sync can't mark it as gone, whatever the
//! network did. No clock is asked. A device whose allowance is used up ([`rate`](crate::machine::rate)) is
//! not heard: its notices count as dropped, `limited`.
//!
//! Systemd stops the agent before the network; `tools/systemd/muster-agent-sleep.service` tells it of sleep
//! and of waking up.
//!
//! # Presence
//!
//! | presence | means |
//! |---|---|
//! | connected | it has a link |
//! | idle | it has none and need not have one: its slot lies ahead, or is not longer past than the margin |
//! | asleep, shut down, agent stopped | it said so, and has not synced since |
//! | lost | its slot, and half an interval of margin (10 s to 2 m) are past, and it said nothing; a reboot that took 15 minutes; a link that was to stay and did not come back in the reconnect window |
//! | never seen | it enrolled, and nothing more |
//! | waiting | it enrolled, and waits for an administrator to approve it |
//!
//! The slot is the one that the server itself gave the device with its last sync. After a start of the server
//! nobody is lost before they could have come, and nothing is said of a device that was lost before until it
//! is heard. The first word of a device that was told as lost behind a reboot ends the reboot, before the
//! sync as well. A link becomes the device's with the first word on it; the end of an older link, however
//! late, changes nothing.
//!
//! Each change is an event of the server's own: application `muster`, kind `presence`, under the device that
//! it is about. That a device without a persistent link comes by and goes again is none.
//!
//! # Kept connections
//!
//! The agent pings as rarely as the network allows: it begins with 30 seconds and grows while it is answered,
//! up to `[links] keep_interval`; a ping without an answer in 20 seconds ends the link, halves the interval
//! and caps it at three quarters of the silence that was too long. Each ping says when the next will come, so
//! that the server gives a dead link up soon after that, and not after the longest time that there is.
//!
//! There is no limit of 300. `max_persistent_connections` is what file descriptors and half of the free
//! memory allow, worked out and logged at start, or what the configuration says. At the limit, the flag is
//! refused with the number. Kept devices have their room reserved: when it is all that is left, others are
//! told to come later.
//!
//! # Firewalls and NAT
//!
//! | direction | port | for | needed |
//! |---|---|---|---|
//! | device → server | TCP 13000 | everything | yes |
//! | device → server | UDP 13000 | notices | no: without it a device that shuts down while it has no link is lost after its slot |
//! | server → device | UDP 15000 | wakes | no: without it a device keeps its connection, or comes at its slot |
//!
//! On the server: `nft add rule inet filter input tcp dport 13000 accept` and the same for `udp dport 13000`.
//! On a device: `nft add rule inet filter input ip saddr SERVER udp dport 15000 accept`. The ports are
//! settings (`listen` and `udp` in `musterd.toml`, `[wake] port` in `muster-agent.toml`); devices and server
//! tell each other what they are.
//!
//! Wakes come from the server's UDP port 13000, and go to the address that the device's TCP connection comes
//! from. Behind NAT that is the box's, which does not know to which device it should give them. The server
//! finds that out by itself (the probe behind the first sync from each new address), shows it (`musterctl
//! device show`: *wakes do not reach it*) and lets such a device keep its connection (`keep_unreachable` in
//! `musterd.toml`), so that it can be called all the same. The agent's pings find out how long the NAT box
//! remembers a connection. A port forward to the device's UDP port makes wakes work: set `[wake] port` to the
//! forwarded number. Forged, replayed and foreign datagrams are dropped and counted (`musterctl status`,
//! `muster-agent status`).
//!
//! On the device:
//!
//! ```sh
//! sudo muster-agent check                                    # name, TCP, TLS, certificate, clock, UDP both ways, spool: ok or why not
//! sudo muster-agent move --server new.example.org --token-file new-token  # to another server; stays with the old one unless the new one has answered
//! ```
#![forbid(unsafe_code)]
