//! The time of an event and of a sync: its parts, the means that made it short, and those that were tried and
//! left.
//!
//! # The path
//!
//! A reactor reads what is ready, opens records, decodes events and appends them to the journal's memory.
//! When nothing more is there to read it makes all that waits durable with one write, its own and others',
//! and sends the acknowledgements. While there is more to do, or somebody else is writing, or the disk is
//! slow, it rings the journal's own thread instead, goes on, and is woken when that has written. So an event
//! takes a durable write, on average half of the one that was under way when it came, and the time until the
//! reactor and the device have a processor.
//!
//! On a small machine, and on a virtual one above all, to wake a thread takes as long as the work. Our own
//! code is a small part of the server's time; most is the kernel's: sockets, the disk, and putting threads to
//! sleep and waking them.
//!
//! # Before and after
//!
//! `perf record -g` of the server during `muster-load events --devices 64`, `events --devices 1 --in-flight
//! 64` and `sync --devices 1000`: what of the server's processor time was spent below each function, in
//! percent. The last columns of events are of another day, on which everything took about a quarter longer:
//! compare parts, not microseconds.
//!
//! | | 64 links, before | after | 64 in flight, before | after | sync, before | after |
//! |---|---|---|---|---|---|---|
//! | `send`, with what the kernel does for the receiver at once | 20.6 | 25.1 | 10.6 | 16.5 | 40.2 | 41.9 |
//! | the durable write | 21.6 | 18.3 | 32.5 | 41.4 | | |
//! | `epoll_wait` | 16.9 | 15.0 | 11.9 | 9.6 | 10.3 | 12.5 |
//! | `futex`: the journal's thread sleeps, is woken | 2.9 | 2.6 | 13.1 | 0.2 | | |
//! | `sched_yield`: waiting for those who were just acknowledged | | 1.5 | | 0 | | |
//! | `recv` | 5.2 | 5.7 | 0.7 | 1.1 | 10.2 | 10.3 |
//! | the eventfd that wakes a reactor | 3.3 | 2.6 | 6.6 | 0.1 | | |
//! | randomness for jitter | 3.9 | 0 | 0.6 | 0 | 6.7 | 0 |
//! | setting up ciphers; opening and sealing | 2.7; 1.8 | 2.6; 1.8 | 0.6; 0.4 | 0.9; 0.5 | 3.6; 2.7 | 3.7; 2.9 |
//! | the device's record, under its lock | 1.7 | 3.5 | 0.2 | 0.2 | 5.1 | 5.7 |
//! | `getpeername`: where the device is | | | | | 3.1 | 3.4 |
//! | making the next segment, a thread of its own | 0.9 | 0.7 | 4.4 | 3.3 | | |
//! | µs of server CPU each | 12.4 | 12.9 | 2.8 | 2.0 | 7.2 | 6.4 |
//!
//! Done:
//!
//! - **The journal's next segment is made past the page cache, with pauses** (`journal/zeros.rs`). Zeros that
//!   nobody reads were copied into the cache and synced 4 MiB at a time: 0.17 s of the processor for 64 MiB,
//!   and each time a flush waited for up to 14 ms. With direct writes it is 0.03 s, and with four times as
//!   long a pause after each piece of 256 KiB, as long as the current segment is not used up sooner, the p99
//!   of a durable write beside it is 0.5 ms instead of 3.2.
//! - **The tail goes past the page cache too** (`journal/direct.rs`). One durable write of 4 to 16 KiB
//!   through the cache takes 130 to 147 µs and 50 to 70 µs of the processor; past it 108 to 113, and 26 to
//!   29. Two threads that write at the same time in two places get 15,000 of those a second instead of 8,000,
//!   which one log can't use: the second write would have to begin in a page of its own. Readers map the
//!   files and read from the disk what they used to find in the cache.
//! - **The thread that has appended writes** (`journal/leader.rs`): a group commit with a leader. With 64
//!   in flight that is the same thread from the socket to the disk and back, and 64 events take two wakings
//!   instead of four: 1.5 µs of the processor for each instead of 3.6 in the same minutes, and 30 and 38 %
//!   more of them. A reactor that finds another one at it goes on reading until that one is done, and is told
//!   then: nobody is woken in between, which with two reactors and 64 links takes a tenth to a fifth less of
//!   the processor than to leave it to the journal's thread. Threads that looked out before they slept, which
//!   came before it, were for the same purpose; they cost more and are gone.
//! - **A write waits up to 60 µs for those who were just acknowledged**
//!   ([`machine::commit_delay`](crate::machine::commit_delay)), while that proves worth it. In the first
//!   trial, which always waited, one reactor with 64 links took 113,000 and 109,000 events a second instead
//!   of 94,000 and 99,000.
//! - **Jitter comes from a stream of the reactor's own.** Each message drew eight bytes from the generator
//!   for secrets, in case its device had to be told to come later.
//! - **A reactor gives its core away after each turn of handshakes** ([`storms`](super::storms)): p99 of
//!   acknowledgements among 256 handshakes at a time 8 ms instead of 12.
//!
//! The cost: a reactor that writes does not read meanwhile. With 6,400 events a second from 64 devices, each
//! when it occurs, the median acknowledgement takes a tenth to a fifth longer than with a thread that only
//! writes (320 to 350 µs instead of 290 to 320), for half of the processor time (77 µs an event instead of
//! 135); at 640 a second it is a tenth shorter.
//!
//! Tried and left:
//!
//! - To wait for another reactor that is writing, up to 300 µs, and then write: as many events, and single
//!   ones later, as who waits does not read.
//! - To leave the disk to its own thread and look for nothing but its answer meanwhile: 64 links fell from
//!   88,000 to 82,000 a second, for 12.8 µs each instead of 9.3. Each hand-over costs.
//! - Short slices for the flusher's thread (`sched_setattr(2)`), and real-time priority: nothing, and a fifth
//!   less. More switches, smaller batches.
//! - To spin without leaving the processor to others, when threads still did: the flusher often ran on the
//!   core that its reactor was spinning on. 4 durable writes instead of 1.8.
//! - One unit of code generation for the release build: the same speed and memory, for three times the time
//!   to build. Programs for installation have it, for their size ([`packages`](super::packages)).
//! - To give handshakes 50 to 80 % of a reactor's time instead of 90 while events are under way: no
//!   difference that could be told from noise.
//! - To have the kernel write while the reactor reads and sends (io_uring, the same direct write with
//!   `RWF_DSYNC`): 64 links and one reactor 78,000 to 89,000 a second, where waiting for the write took
//!   100,000 to 118,000. The flush of the disk that follows a write is begun by a worker of the kernel that
//!   is bound to the core on which the disk's interrupt comes. That is the reactor's own, and it waits until
//!   the reactor sleeps: a write took 230 to 305 µs instead of 115 to 190, and 4 ms where the thread never
//!   slept. Giving the core away every few links made that 107 to 160 µs and 93,000 to 98,000 events, for 8.8
//!   µs of the processor each instead of 7.2. Holding writes back until 24 to 40 events wait: 101,000 to
//!   106,000; and never sleeping meanwhile: 93,000 to 127,000, most of them like those that wait.
//! - A thread that only writes and holds back in the same way: 85,000 to 94,000. Two reactors, each bound to
//!   a core: 90,000 to 112,000. Three and four: 75,000 to 92,000.
//! - The same thread on the core that the reactor is not on, each bound to its own, with writes held back
//!   until 16 to 40 events wait: 48,000 to 58,000, and 82,000 to 90,000 with the cores changed; unbound
//!   64,000 to 114,000. A thread that is woken on a busy core waits there.
//! - Short slices for reactors, against acknowledgements that wait in a storm of handshakes: no difference. A
//!   reactor that writes itself while handshakes are ready too: half of the acknowledgements in a storm
//!   within 1.9 ms instead of 2.4, and 99 % as before; where the devices are elsewhere the handshakes would
//!   wait for the disk.
//! - Another congestion control than the one that this machine's kernel takes (bbr): with cubic or reno 64
//!   links take 3 % more, which is within the noise.
//! - To wait for 120 and 200 µs instead of 60, and until the devices of all reactors have answered: nothing.
//!
//! # The limit of 64 links
//!
//! With a disk that takes no time (the write left out, for this measurement alone) one reactor acknowledges
//! 183,000 events a second over 64 links, for 5.4 µs each, and both cores are busy. Two reactors take
//! 131,000: with the devices' thread they are three on two cores, and each waits for its slice. So with one
//! reactor the disk costs the rest: 47 events with each write, which keeps the reactor waiting for 170 to 190
//! µs of 440. More links give it more to do meanwhile: 150,000 a second over 200.
//!
//! A write takes 26 to 29 µs of the processor, and the kernel's worker that flushes the disk 20 to 25 on the
//! same core: 1.1 µs for each of 47 events. So were the disk's time hidden wholly, without a pause and a
//! switch too many, that core could do 155,000 a second. mosquitto, which keeps messages in memory, takes
//! 98,000 to 129,000.
//!
//! The devices' thread takes 4.6 to 5.8 µs of its own for an event, more than the reactor beside the disk. In
//! each round it answers 47 acknowledgements, while the reactor sends and reads, and then both wait for the
//! disk: 47 × 5.5 and 150 µs are the 410 that a round takes.
//!
//! One and a half times what mosquitto takes is 147,000 to 194,000. On the days of the higher figure it can't
//! be done at all on these two cores: 4.6 µs of the devices' thread, 5.4 of the reactor without the disk and
//! 1.1 for the disk are 11.1 for each event, and two cores have 10.3 to 11.0 when 182,000 to 194,000 come in
//! a second, were neither ever idle. Most of it is what the kernel does for two small TCP segments.
//!
//! # One reactor or two
//!
//! Events a second and µs of server CPU each, two runs of two seconds, server and devices on the same two
//! cores (`muster-load events --reactors N`):
//!
//! | | one reactor | two |
//! |---|---|---|
//! | 64 links, one in flight each | 115,310 and 113,579; 6.3 and 6.4 | 108,971 and 102,839; 7.9 and 8.1 |
//! | 1,000 links, one in flight each | 170,456 and 163,530; 5.3 and 5.5 | 146,371 and 132,233; 6.1 and 6.9 |
//! | one link, 64 in flight | 317,808 and 302,444; 1.3 and 1.4 | 316,045 and 328,901; 1.3 and 1.3 |
//! | 99 % of 5,000 devices back after `kill -9` | 0.89 and 0.94 s | 0.89 and 0.97 s |
//!
//! With both ends on two cores one reactor takes more events than two: its turns are larger, and nobody is in
//! its way. If the devices are elsewhere the other core would have nothing to do, and handshakes are work of
//! our own, which a fleet that comes back needs all cores for. So there is one for each core, and `reactors`
//! in the configuration says otherwise.
//!
//! # A sync
//!
//! A sync in which nothing changed is one read, one write and half a microsecond of decisions. Two fifths of
//! its time are `send`, most of which is the receiver's half of a connection on loopback. Little is left to
//! take away: `getpeername`, of which a change of address could tell instead, and a cipher for each burst.
#![forbid(unsafe_code)]
