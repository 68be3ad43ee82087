//! Measurements: figures, methods, and machines.
//!
//! Machine: 2 cores, 24 GiB, Debian 12, Linux 6.18, Rust 1.95; a shared virtual machine, so that single
//! figures are noisy and ratios within one run are what counts. Each figure names its command.
//!
//! More of what was measured has chapters of its own: where the memory is ([`density`](super::density)),
//! where the time goes and what was tried ([`throughput`](super::throughput)), what the load tool prints
//! ([`load`](super::load)), other servers under the same loads ([`side_by_side`](super::side_by_side)).
//!
//! # Messages and syncs
//!
//! | what | figure | command |
//! |---|---|---|
//! | sync in which nothing changed, three sections and two of desired state, with how the device is reached: 113 bytes up, 29 down, and 3 more when a reconnect window is announced | 145 bytes of TLS payload | `cargo bench --bench session` |
//! | the agent's own six numbers, which go up beside a sync that is due or asked for | 132 bytes | the same |
//! | the session's part of such a sync, no socket | 0.52 µs | the same |
//! | decode the sync; encode the answer | 0.11 µs; 0.06 µs | `cargo bench --bench wire` |
//! | decode a message of 64 events | 1.1 µs | the same |
//! | a sync in which nothing changed, on an open link, 124,000 a second: server CPU with TLS and system calls | 6.4 µs | `muster-load sync --devices 1000` ([`throughput`](super::throughput)) |
//!
//! # Handshakes, and a fleet that comes back
//!
//! | what | figure | command |
//! |---|---|---|
//! | full mutual handshake, both ends in one thread: our channel; bare rustls that builds a chain | 258 µs; 367 µs (ratio 0.70) | `cargo bench --bench handshake` |
//! | resumed handshake, the same two | 175 µs; 222 µs (ratio 0.79) | the same |
//! | renewal of a device's certificate, the server's work for it: Ed25519; P-256; beside a full handshake in the same run, while the cores were busy; bytes up and down, without TLS | 71 µs; 108 µs; 377 µs; 173 and 299, 232 and 346 | the same |
//! | full; full with post-quantum key exchange; resumed handshake, server CPU, four runs; with the library's own buffers in the same minutes | 169 to 179 µs; 192 to 200; 127 to 134; 178 to 191; 203 to 227; 130 to 154 | `tools/side-by-side --servers muster --loads handshakes` |
//! | 640 events a second over 64 links, acknowledged durably: p50, p99 without a storm; with 256 full handshakes at a time, 2,859/s; with 256 resumed ones, 3,988/s | 0.44 ms, 7.6 ms; 1.4 ms, 11.7 ms; 1.4 ms, 10.6 ms | `cargo bench --bench storm` |
//! | 18,000 devices back after `kill -9`, with tickets: 99 % live; the target, one and a half times the processor time of both ends' handshakes; events lost or twice | 3.20 s; 5.25 s; none | `muster-load storm --devices 18000` |
//! | a handshake with a ticket to a live session and its first sync, 1,000 of them: processor time of the server; of the device | 158 to 166 µs; 202 to 230 µs | `muster-load storm --devices 18000`, two runs |
//! | 5,000 devices back, the same, two runs | 0.87 and 0.89 s; 1.22 and 1.64 s; none | `muster-load storm --devices 5000` |
//! | attempts of a storm that broke off behind their ClientHello, so that their ticket was used up: of 18,000 devices; of 5,000 | 16 to 78; at most 2 | `muster-load storm`, several runs |
//!
//! # Memory
//!
//! | what | figure | command |
//! |---|---|---|
//! | memory of the server's end of a handshake that waits for the device's last flight, post-quantum key exchange; with the library's own buffers, as before | 10,260 bytes; 14,460 bytes | `cargo bench --bench handshake` |
//! | memory of the server's end of an idle channel; of a whole link | 152 bytes; 224 bytes, nothing on the heap (asserted when it is compiled) | `src/reactor/channel/server_channel.rs` |
//! | session; device record | 40 bytes; 160 bytes | `cargo bench --bench session` |
//! | memory of a connected device, `Anonymous` of `smaps_rollup`, all included, with 10,000; with 18,000, three runs | 426 bytes; 425, 450 and 456 | `muster-load hold --no-cache --devices 10000`, and so on, which is what `cargo bench -p muster-load --bench density` runs |
//! | anonymous memory of the server: without devices; just started, with 18,000 known; when all had been there and gone; with all 18,000 links | 2.8 MiB; 7.1 to 7.3; 8.9; 12.8 | `muster-load hold --devices 18000` |
//! | with 2,000, the link measured, and the device table measured by itself where what else moves in the process hides it | 425 to 498 bytes | `cargo bench -p muster-load --bench density` |
//! | of it with 18,000: for a link (slope over six steps); for a device that it knows (slope between 9,000 and 18,000); the kernel's, for a socket | 228 to 232 bytes; 193 to 223; 3,849 to 3,905 | `muster-load hold --devices 18000` |
//! | what the whole server grew by from 2,000 connected devices to 18,000, whatever came once in it, for each | 447 and 451 bytes | two of these runs |
//! | resident memory five seconds after 18,000 links have closed, of that when all devices had been there and gone; of that of the server before the first link; three runs, and six of builds of the same day | 0.67 to 0.98, 0.69 to 0.97; 0.77 to 1.05, 0.73 to 1.06; since the server lets its own code be, one run: 0.97; 1.13 | `muster-load hold --devices 18000` |
//! | 1,000 events a second of 64 devices, beside ten people who follow all of them in the console and load the overview anew every three seconds: the server's processor time, of one core; acknowledgement, half of them and 99 %; in brackets alone before, and alone after; two runs | 9.9 % (6.8, 7.9); 200 and 245 µs (239 and 233, 242 and 257); 0.59 and 0.96 ms (0.68 and 0.63, 0.41 and 0.47) | `muster-load events --self --rate 1000 --consoles 10` |
//! | the tables alone at two million entries: records and certificates; links, in a debug build, in which sockets are larger; deadlines | 212; 244; 8 bytes each | `cargo test --test library two_million -- --nocapture` |
//! | idle server without devices, 60 s after its start, three starts: anonymous memory; with the pages of its program and libraries that the page cache has as well; with a build that gave up its code, in the same minutes | 3.1 MiB; 15.8 to 16.1 MiB; 3.2 and 9.7 to 10.0 | `musterd run`, `/proc/PID/smaps_rollup` |
//!
//! # Events and the journal
//!
//! | what | figure | command |
//! |---|---|---|
//! | append to the journal | 67 ns | `cargo bench --bench journal` |
//! | append and make durable, 1 in flight; the same with msync of a shared map | 190 µs; 795 µs | the same |
//! | append and make durable, 64 in flight; the same with msync of a shared map | 208 µs; 226 µs | the same |
//! | open a full segment, every record told | 1.4 GiB/s | the same |
//! | the same loads against redis, nats-server and mosquitto | [`side_by_side`](super::side_by_side) | `tools/side-by-side` |
//!
//! # Calls, wakes, datagrams
//!
//! | what | figure | command |
//! |---|---|---|
//! | forced sync of a disconnected agent, by wake, 200 rounds: from the question at the server's socket until the sync has begun | p50 1.4 to 2.0 ms, p99 1.9 to 2.6 ms | `cargo bench --bench reach` |
//! | forced sync of a connected agent, on its link, the same | p50 0.23 to 0.26 ms, p99 0.32 to 0.40 ms | the same |
//! | the same two with starting `musterctl` as a process: p50 | 5.2 ms; 2.9 ms | the same |
//! | a datagram that means nothing, 10,000 a second, server CPU with receiving it: replayed; forged; of an unknown device | 7.3 µs; 7.0 µs; 6.3 µs | the same |
//! | an agent that is asked to end and has nothing to deliver | 163 ms, of which 150 ms are the three copies of its shutdown notice | `cargo run --release -- demo --exit` |
//!
//! # The demo
//!
//! | what | figure | command |
//! |---|---|---|
//! | the demo, release, each just started: server resident; agent resident | 15.8 MiB; 11.8 MiB | `cargo run --release -- demo --exit` |
//! | 200 events during an outage: durable on the device, each; all on the server after its restart | 0.22 ms; 272 ms | the same |
//!
//! # The store
//!
//! | what | figure | command |
//! |---|---|---|
//! | inventories of 100,000 devices × 200 applications, 50 kinds, four differences each | 0.82 bytes an entry on disk | `cargo bench --bench store` |
//! | the rest of the database | 172 bytes a device | the same |
//! | resident memory of the store and the device table | 279 bytes a device | the same |
//! | open the store, table of 100,000 devices loaded | 213 ms | the same |
//! | durable enrolments | 52,466/s | the same |
//! | which devices have an application, page of 100, p50 | 67 µs (few have it) to 3.2 ms (all have it) | the same |
//!
//! # Finding devices
//!
//! Over the administration socket, p50 of 21, while other programs had both cores:
//!
//! | what | figure | command |
//! |---|---|---|
//! | 100,000 devices × 200 applications × 3 tags: the first question of all, which reads the index | 172 ms | `cargo bench --bench selection` |
//! | first page of 100; with a tag and a system; with a text in the middle of a name | 0.6 ms; 2.7 ms; 11 ms | the same |
//! | by an application's version and the agent's; by presence, where nobody is so | 19 ms; 31 ms | the same |
//! | first page sorted by group; by what changes with every sync | 10 ms; 44 ms | the same |
//! | counts of all by presence, status, system, group and tag; of those with a tag | 57 ms; 49 ms | the same |
//! | all of them, page by page of 500; as CSV | 383 ms; 304 ms | the same |
//!
//! # A managed fleet
//!
//! | what | figure | command |
//! |---|---|---|
//! | a managed fleet: 10,000 devices × 200 applications, 5 managed, 20 tasks that ran everywhere, a day of 12 numbers each: the file, with two more tasks for everybody | 85 MB, of which runs 43, statistics 28 | `cargo bench --bench fleet` |
//! | device list, first page of 500, over HTTP; only critical ones | 2.2 ms; 3.9 ms | the same |
//! | application list --name 'openssl*' --version '<3.0.14', over HTTP | 0.5 ms | the same |
//! | device show with a day of 12 numbers, over HTTP | 1.2 ms | the same |
//! | a policy for all 10,000 devices, each of which has other settings then: one transaction | 257 ms | the same |
//! | judge all 10,000 devices, which the scheduler does once a minute | 125 ms: 0.2 % of a core | the same |
//! | judge a device of which something is new | 38 µs | the same |
//! | reports of 12 numbers, durable | 10,500/s | the same |
//! | task show: the task with 10,000 runs counted; the first page of 500 runs; those that failed | 2.7 ms; 7.0 ms; 1.8 ms | the same |
//! | a task for all 10,000 devices: made; a run for everybody, ordered of its device | 31 ms; 1.8 s, at most 163 ms in one transaction | the same |
//! | runs accepted, begun and ended, durable | 3,800/s | the same |
//! | a task for all cancelled: final for every run; written down for every run | 18 ms; 1.7 s | the same |
//!
//! # Notes
//!
//! The forced syncs are of four runs. In a fifth, three of 200 rounds took 130 ms: about as long as until the
//! second copy of a wake, so that the first was late or lost. Why is not known; a wake is on the agent's disk
//! before it counts, and this disk stalls at times.
//!
//! The storm's figures are of one run in which the machine had little else to do (load 1.6 before it); its
//! clients share the two cores with the server. In five others, while other builds ran, single
//! acknowledgements took hundreds of milliseconds without any storm as well.
//!
//! Beside other builds the return of 5,000 devices took 1.86 s, with the last tenth a second behind the
//! others, as when a SYN is repeated; on a quiet machine that did not happen. The server's time for a
//! handshake with a ticket (191 µs of its reactors, by samples of a storm of 5,000) goes: 40 % into
//! cryptography, a third of that X25519; 27 % into the kernel, half of it for sending; 14 % into allocation
//! and copying; 7 % into the TLS library's own code; 6 % into ours.
//!
//! The store's, the demo's and the tasks' figures were taken while other builds ran on the same two cores.
