//! The same loads against muster, mosquitto, nats-server and redis, in one run: how, what is fair about it,
//! and what is not.
//!
//! ```text
//! tools/side-by-side                                          all servers that are installed, all loads: about five minutes
//! tools/side-by-side --quick                                  smaller counts, to see that it works: not for figures
//! tools/side-by-side --servers muster,redis --loads messages  some of them
//! tools/side-by-side --rounds 3 --json FILE                   medians of three rounds, and everything that was measured
//! tools/side-by-side --directory /srv/x                       the servers' data there: the disk is a part of the comparison
//! tools/side-by-side --reactors 1                             muster in one thread for links, as redis and mosquitto
//! ```
//!
//! On Debian: `apt-get install mosquitto nats-server redis-server`, and `systemctl disable --now` for each:
//! services that run are left alone, but they take time from the ones that are measured. A server that is not
//! installed is named and left out.
//!
//! The script (Python, standard library) builds `musterd` and the driver `muster-compare` (`tools/compare/`)
//! in release, starts one server at a time as a process of its own with a configuration in a temporary
//! directory, has the driver run the loads against it, kills it, and goes on to the next. Whatever ends the
//! script ends its children. Nothing leaves loopback.
//!
//! # The loads
//!
//! | load | what is done | what is measured |
//! |---|---|---|
//! | `held` | 1,000 and then 9,000 idle connections that have said their protocol's hello | memory that is the process's alone (`smaps_rollup`): slope between the two counts, and what is left 5 s after all have gone |
//! | `handshakes` | 2,000 full ones, then 2,000 resumed ones, four under way at a time: connect, shake hands, hello, its answer, goodbye | the server's CPU each |
//! | `messages` | closed loops, 3 s each after 0.7 s to warm up: 1,000 links with one message in flight each; 64 such links; one link with 64 in flight, what leaves together in one write; the same with a TLS record for each message | messages a second, acknowledgement p50, p99, p99.9, CPU of both ends each |
//! | `storm` | 64 publishers, 6,400 messages a second in all, open loop, 3 s in quiet and 6 s while 256 full handshakes are under way at any time: one that is done or turned away makes room for the next | rate kept, acknowledgement p50, p99, max |
//! | `low` | one message at a time on one link, and between two of them one durable write of 4 KiB (`pwritev2` with `RWF_DSYNC`) into a file beside the server's | both medians, and their ratio |
//!
//! In the open loop a message's latency counts from when it was *due*, not from when the client came to send
//! it, so that a server that stalls is charged for all that should have left meanwhile; what is given up 10 s
//! after the end counts with the time that it has waited. The client's own delay stands beside it.
//!
//! # Meaning of an acknowledgement
//!
//! | server | message | its acknowledgement |
//! |---|---|---|
//! | muster | `Events` with one event | the journal's write is synced to disk (`RWF_DSYNC`) |
//! | redis | `XADD` to one stream | `appendfsync always`: the append-only file is synced |
//! | nats-server | publish to a JetStream of file storage, with a reply subject | written to the stream's file, *not* synced: 2.9 syncs every two minutes |
//! | mosquitto | MQTT 3.1.1, `PUBLISH` with QoS 1 | in memory, for a subscriber that is away; saved every half an hour |
//!
//! So redis is the bar for durable messages. The other two promise less and are the bar for speed.
//!
//! # Common conditions
//!
//! - Mutual TLS 1.3 with AES-128-GCM and X25519, as OpenSSL 3.0 and Go 1.19 know no post-quantum key
//!   exchange. muster prefers one: the run says what it costs. Certificates are Ed25519 on both sides; as
//!   libraries are not equally quick in every kind, the others' handshakes are measured with ECDSA on P-256
//!   too and printed below the table.
//! - The client: one thread with one poll and rustls, the same code for all but the bytes of the protocol;
//!   the storm comes from a second thread. It runs on the same cores as the server. It counts its own CPU,
//!   and a figure for which it was busy for 90 % of a core or more is marked as the client's.
//! - Messages carry 200 bytes: for muster an encoded event of 200 bytes, which it decodes and checks; for the
//!   others any bytes. Answers are checked: a refusal, an acknowledgement out of order or a link that ends
//!   ends the run with its reason. At the end every server is asked what it holds (`XLEN`, the stream's
//!   information, `musterctl status`, `$SYS`, which counts some statistics of its own), and that must not be
//!   less than what it acknowledged.
//!
//! # Settings
//!
//! The output quotes every configuration. Differences from the defaults are in the peers' favour, or needed
//! for the comparison: redis takes no snapshots and does not rewrite its file in the middle of a load;
//! mosquitto sends small answers at once (`set_tcp_nodelay`) and keeps messages without a bound; nats-server
//! gives a handshake 30 s instead of 2. Threads are what each server takes by default: redis and mosquitto
//! serve in one thread (`io-threads` is 1 by default), nats-server and muster on every core. muster runs as
//! it is installed, unless `--reactors` says otherwise, but for the rate of a device's events
//! (`device_rate`): here one link brings what thousands of devices do.
//!
//! # Caveats
//!
//! - Client and server share the cores. With one message in flight on each link, most of a message's time is
//!   the kernel's, on both sides; the client takes about as much of it as the server.
//! - nats-server's clients hear a line in clear before TLS begins, and its handshake has a round trip more.
//!   Its memory depends on when its garbage collector ran last.
//! - muster's memory for a connection includes what it takes to know one more device, which has enrolled and
//!   is in its database. The others' clients share a certificate and are known to nobody.
//! - A machine that does something else spoils it: latencies and rates above all, and CPU each is too high.
//!   The run warns of it; the load average before each server's loads is printed. Compare within one run, and
//!   take the medians of three.
//!
//! # Results
//!
//! One round on the machine of [`measurements`](super::measurements), which did nothing else of its own:
//! muster 0.1.0, redis 7.0.15, nats-server 2.9.10, mosquitto 2.0.11 of Debian 12. A single round: take the
//! ratios, and expect others elsewhere.
//!
//! | | muster | redis | nats-server | mosquitto | muster to the best |
//! |---|---|---|---|---|---|
//! | an acknowledgement means | synced | synced | written, not synced | in memory | |
//! | memory for an idle connection, 1,000 to 9,000, bytes | 1,122 | 42,541 | 41,693 | 17,715 | 0.06 |
//! | full handshake; resumed, µs of server CPU | 188; 146 | 960; 461 | 494; 472 | 921; 458 | 0.38; 0.32 |
//! | 1,000 links, one in flight each, messages a second | 162,671 | 83,633 | 76,734 | 99,618 | 1.63 |
//! | µs of server CPU each | 6.3 | 11.6 | 19.3 | 10.0 | 0.62 |
//! | 64 links, one in flight each, messages a second | 91,883 | 62,392 | 70,020 | 121,553 | 0.76 |
//! | µs of server CPU each | 8.7 | 12.7 | 17.5 | 8.2 | 1.06 |
//! | 64 in flight, one write, messages a second | 278,904 | 146,226 | 291,467 | 138,982 | 0.96 |
//! | 64 in flight, a record each, messages a second | 267,957 | 4,036 | 249,144 | 118,136 | 1.08 |
//! | 64 in flight, as an agent sends them, messages a second; µs of server CPU each | 338,565; 1.2 | | | | |
//! | 6,400 a second: acknowledgement p50, µs; p99, ms | 389; 1.4 | 501; 2.3 | 143; 0.5 | 115; 0.2 | |
//! | in a storm of handshakes: rate kept | 1.00 | 0.14 | 1.00 | 0.20 | |
//! | acknowledgement p99 then, ms | 7.4 | 13,749 | 76 | 12,726 | 0.10 |
//! | handshakes a second in the storm | 4,910 | 1,119 | 2,909 | 1,066 | |
//! | one at a time: acknowledgement p50 ÷ durable write | 1.13 | 1.72 | 0.62 | 0.14 | |
//! | memory a while after 9,000 connections have gone, MiB; before | 12.8; 16.2 | 155; 10.5 | 374; 11.6 | 161; 7.4 | |
//!
//! The client takes a core of the two, so that muster's two reactors share the other with what the kernel
//! does for the disk. With `--reactors 1`, which leaves each end a core as redis and mosquitto do, right
//! after it:
//!
//! | | muster, one reactor | redis | mosquitto | muster to the best |
//! |---|---|---|---|---|
//! | 1,000 links, one in flight each, messages a second; µs of server CPU each | 159,297; 6.1 | 82,903; 11.7 | 87,342; 11.4 | 1.82; 0.53 |
//! | 64 links, one in flight each, messages a second; µs of server CPU each | 122,699; 6.3 | 62,351; 12.6 | 129,168; 7.7 | 0.95; 0.81 |
//! | 64 in flight, one write, messages a second | 303,744 | 142,824 | 133,353 | 2.13 |
//! | 64 in flight, a record each, messages a second | 256,878 | 4,196 | 127,834 | 2.01 |
//! | 64 in flight, as an agent sends them, messages a second; µs of server CPU each | 323,159; 1.4 | | | |
//!
//! The limit of 64 links is in [`throughput`](super::throughput). p99 in the storm differs from run to run:
//! with two reactors 6.7 to 12.2 ms in 16 runs of `muster-load` within three hours, 7.4 in the middle, below
//! 10 in 13. The figures of mosquitto over 64 links vary too: 98,455 to 129,168 in four comparisons.
//!
//! Of the 1,122 bytes 873 are for knowing the device, which has enrolled and is in the database; the figure
//! counts pages of the program and the first visits' buffers as well (what a device takes by itself is in
//! [`density`](super::density)). Of the two that answer when a message is synced, muster takes 1.9 times as
//! many over 1,000 links, 1.5 to 2.0 times over 64, and 1.9 to 2.1 times with 64 in flight.
#![forbid(unsafe_code)]
