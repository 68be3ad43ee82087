//! The memory of a connected device: its parts, and the means that keep it small.
//!
//! The kernel takes about 4 KB for a socket, in any program. A TLS library that keeps its connection takes 4
//! to 8 KB more, a server in a language with a runtime 20 to 150. Here a link is 224 bytes and what the
//! tables hold of a connected device is below 512, so that what is left is the kernel's. `cargo bench -p
//! muster-load --bench density` prints the sizes and measures what a whole server grows by for each device
//! ([`measurements`](super::measurements) has the figures); it runs with the checks of every change. One-time
//! costs of the first few hundred visits are no part of that: one to two megabytes of buffers, prepared
//! statements, pages of the database, and of what the allocator can't give back between them.
//!
//! | bytes | what | where |
//! |---|---|---|
//! | 224 | a link | its reactor's table, in segments that fill 64 pages |
//! | 152 | of it: the channel, of which 144 are two traffic secrets with their keys, two numbers, a suite and a state | [`record_layer`](crate::record_layer) |
//! | 40 | of it: the session | [`machine::session`](crate::machine::session) |
//! | 8 | its deadline: a tenth of a second and a slot | [`machine::timers`](crate::machine::timers), a heap in segments |
//! | 160 | the device's record | [`store::table`](crate::store::table), 256 shards, in segments of 16 |
//! | 24 | whose certificate it is | the same |
//! | 11 to 23 | two indexes of four-byte numbers | the same |
//! | 6 | what the segments of both take themselves | the same |
//!
//! # A link without its library
//!
//! A handshake belongs to rustls, which needs 11 to 12 KB for it, post-quantum key exchange included (14 with
//! buffers of its own; so it works in what the reactor has just read, and a record or message that is not
//! whole is kept for it); how many are under way is bounded ([`storms`](super::storms)). When it is done, its
//! traffic secrets go into the table and the library goes away. From then on the records of the link are ours
//! (RFC 8446 section 5): a cipher is set up for a burst of records, which is little beside the system call
//! that brings or takes them, and is dropped with it. Half a record, half a frame, or bytes that the socket
//! does not take stand in a box that goes when it is empty. A peer's address is asked of the system when
//! somebody wants to know. Deadlines, and when it was heard, stand there in tenths of a second, four bytes
//! each: a server would have to run for 13 years to use them up.
//!
//! AES-128-GCM is preferred, by agents and by the server: with its shorter secret there is room for the key
//! beside it, so that it is not derived again for each burst, as those of AES-256-GCM and ChaCha20-Poly1305
//! are.
//!
//! Risks, and their remedies:
//!
//! | trap | answer |
//! |---|---|
//! | the last handshake message and a KeyUpdate, or data, in one segment: the library would take both | it is shown one record at a time until the handshake ends |
//! | secrets of another connection | what the library logs is taken after each step of a handshake, of which a thread makes one at a time; the keys that follow from the secrets must be those that the library gives away |
//! | tickets of the library, sent after the handover under the same numbers | they leave before it; our numbers begin behind them |
//! | a resumed session does not check the certificate | the device is looked up after every handshake |
//! | the same number sealed twice | a half gives each number once, before anything is sealed; it can't be copied |
//! | a key used for too long | a KeyUpdate long before the limit of the AEAD, and an end of the link at it |
//! | a flood of KeyUpdates or empty records | both are bounded |
//! | secrets in a core dump, or in memory that was given back | no core dumps (`RLIMIT_CORE`); secrets are wiped when a link goes |
//!
//! # Tables that grow by a piece
//!
//! A table that doubles needs its memory twice for a moment, which for a large server is the moment at which
//! it ends. Links, records, certificates and deadlines stand in segments instead: nothing moves, and a
//! segment is given back when it is empty. Places are filled from the front, so that what a storm made long
//! becomes short again; free ones name each other, so that the list of them takes nothing. A link has one
//! deadline, which lies a minute ahead at most: it seldom moves before that and leaves an entry behind, and
//! those of links that have gone are forgotten when they are most. `tests/library/two_million.rs` does it all
//! with two million entries, without sockets.
//!
//! # Memory that comes back
//!
//! The allocator keeps what a storm took. When handshakes have been made by the hundred, or links have gone,
//! and things are quiet again, the server closes connections to the database that nobody uses, frees
//! statements, gives free pages back (`malloc_trim(3)`). The same is done two seconds after a start. The
//! database's writer keeps pages only while something waits to be written. There are no more heaps than cores
//! (`M_ARENA_MAX` of mallopt(3)): with one for each thread, each kept pages in which something small lived
//! on. When thousands of devices come or go at once, those to be judged for it are remembered up to a limit;
//! the others are within a minute anyway.
//!
//! Two seconds later it is given back once more, with what the end of the storm itself needed.
//!
//! A thread keeps some free blocks of each small size for itself (glibc's tcache, 7 of each by default), and
//! each holds a page that can't be given back for its sake: with the very same blocks in use as when it was
//! started, a server that 18,000 devices had visited takes 2 to 2.7 MiB more than with two of each. There is
//! no call for it: the C library takes the number from the environment before the program begins. If the 1.5
//! MiB matter, `GLIBC_TUNABLES=glibc.malloc.tcache_count=2` in the unit (`Environment=`) saves them; two
//! serve as many events as seven, with none it was about 5 % fewer. The server does not begin itself again to
//! have it so: with capabilities of its file, or started through the loader, it can't.
//!
//! An idle server shows 15 MiB resident. 3.1 of them are its own; the others are pages of its program and of
//! the C library as they lie in the page cache, of which the kernel maps sixteen around each one that is used
//! (fault-around) and which it takes back, without a write, when memory is short. A smaller program changes
//! little: built for size (`opt-level = "s"`), its code is 13 % smaller and 0.3 MiB more of it is mapped;
//! with link-time optimisation over everything it is as large as before. Giving its code up by itself
//! (`MADV_PAGEOUT` and the like) would show 10 MiB, and read it back from the disk under the first load.
//!
//! All this is the daemon's ([`ProcessOptions`](crate::server::process::ProcessOptions)): allocator and
//! limits belong to the whole process, which may be somebody else's.
#![forbid(unsafe_code)]
