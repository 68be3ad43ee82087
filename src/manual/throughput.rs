//! Where the time of an event and of a sync goes, what was done about it, and what was tried and left.
//!
//! # The road
//!
//! A reactor reads a link, opens its records, decodes the events, appends them to the journal's memory and rings the flusher; the flusher writes all that
//! waits with one durable write; the reactor that waits for it sends the acknowledgements. So an event takes a durable write, on average half of the one
//! that was under way when it came, and the time until four threads have a processor: the reactor, the flusher, the reactor again, the device.
//!
//! On a small machine, and on a virtual one above all, those ways are longer than the work. Our own code is a small part of the server's time; most is the kernel's: sockets,
//! the disk, and putting threads to sleep and waking them.
//!
//! # Before and after
//!
//! `perf record -g` of the server during `muster-load events --devices 64`, `events --devices 1 --in-flight 64` and `sync --devices 1000`, in one run: what of the server's processor time was
//! spent below each function, in percent. (*After* is without the last of the changes below, to look out only where something is likely to be seen.)
//!
//! | | 64 links, before | after | 64 in flight, before | after | sync, before | after |
//! |---|---|---|---|---|---|---|
//! | `send`, with what the kernel does for the receiver at once | 20.6 | 22.3 | 10.6 | 7.2 | 40.2 | 41.9 |
//! | the durable write | 21.6 | 21.1 | 32.5 | 41.3 | | |
//! | `epoll_wait` | 16.9 | 16.8 | 11.9 | 10.2 | 10.3 | 12.5 |
//! | `futex`: the flusher sleeps, is woken | 2.9 | 1.1 | 13.1 | 0.6 | | |
//! | `sched_yield`: looking out | | 0.6 | | 8.8 | | |
//! | `recv` | 5.2 | 5.0 | 0.7 | 0.8 | 10.2 | 10.3 |
//! | the eventfd that wakes a reactor | 3.3 | 3.2 | 6.6 | 6.2 | | |
//! | randomness for jitter | 3.9 | 0 | 0.6 | 0 | 6.7 | 0 |
//! | setting up ciphers; opening and sealing | 2.7; 1.8 | 2.9; 1.7 | 0.6; 0.4 | 0.9; 0.4 | 3.6; 2.7 | 3.7; 2.9 |
//! | the device's record, under its lock | 1.7 | 4.0 | 0.2 | 0.4 | 5.1 | 5.7 |
//! | `getpeername`: where the device is | | | | | 3.1 | 3.4 |
//! | making the next segment, a thread of its own | 0.9 | 0.8 | 4.4 | 3.5 | | |
//! | µs of server CPU each | 12.4 | 10.0 | 2.8 | 2.1 | 7.2 | 6.4 |
//!
//! What was done:
//!
//! - **The journal's next segment is made past the page cache, with pauses** (`journal/zeros.rs`). Zeros that nobody reads were copied into the cache and synced
//!   4 MiB at a time: 0.17 s of the processor for 64 MiB, and each time a flush waited for up to 14 ms. With direct writes it is 0.03 s, and with four times as long a pause after
//!   each piece of 256 KiB, as long as the current segment is not used up sooner, the p99 of a durable write beside it is 0.5 ms instead of 3.2. Pages that are in no cache must not be read
//!   before they are written in part, so the flusher fills up the last one with zeros.
//! - **Threads look out before they sleep** ([`machine::look_out`](crate::machine::look_out)). A reactor that waits for the disk, one that has just sent acknowledgements, and the flusher
//!   after a flush have work again within microseconds. They look for it without sleeping, and leave the processor to whoever wants it meanwhile; for a part
//!   of their time at most, and only where something was seen the last times. In the first trial, which looked out for 50 µs whatever came of it, 64 links took half as many events again
//!   (112,162 and 118,135 a second instead of 80,141 and 71,149 in the same run), each for less of the processor; an acknowledgement at 50 events a second takes 1.6 to 1.8 durable
//!   writes instead of 1.8 to 2.5.
//! - **Jitter comes from a stream of the reactor's own.** Each message drew eight bytes from the generator for secrets, in case its device had to be told to come later.
//! - **A reactor gives its core away after each turn of handshakes** ([`storms`](super::storms)): p99 of acknowledgements among 256 handshakes at a time 8 ms instead of 12.
//!
//! What was tried and left:
//!
//! - To look out without leaving the processor to others: the flusher often runs on the core that its reactor looks out on. 4 durable writes instead of 1.8.
//! - To sleep for 20 to 100 µs before each poll, so that more comes at once: 64 links gained 15 to 20 %, an acknowledgement by itself lost as much.
//! - To give handshakes 50 to 80 % of a reactor's time instead of 90 while events are under way: no difference that could be told from noise.
//!
//! # One reactor or two
//!
//! Events a second and µs of server CPU each, two runs of two seconds, server and devices on the same two cores (`muster-load events --reactors N`):
//!
//! | | one reactor | two |
//! |---|---|---|
//! | 64 links, one in flight each | 83,134 and 83,665; 10.9 and 11.8 | 69,176 and 113,042; 14.5 and 9.4 |
//! | 1,000 links, one in flight each | 140,697 and 153,814; 7.0 and 6.4 | 127,833 and 138,028; 7.5 and 7.0 |
//! | one link, 64 in flight | 234,961 and 248,785; 3.3 and 3.2 | 240,940 and 269,614; 3.1 and 2.9 |
//!
//! With both ends on two cores a second reactor gains nothing on the road of events that could be told from noise: the fewer, larger turns of one make up for it. It is there for
//! handshakes, which are work of our own: a fleet that comes back is served on all cores. So there is one for each core, and `reactors` in the configuration says otherwise.
//!
//! # A sync
//!
//! A sync in which nothing changed is one read, one write and half a microsecond of decisions. Two fifths of its time are `send`, most of which is the receiver's half of a
//! connection on loopback. What is left to take away is small: `getpeername`, of which a change of address could tell instead, and a cipher for each burst.
#![forbid(unsafe_code)]
