//! Tests of muster, and the way to run one again.
//!
//! | what | where | how to run it |
//! |---|---|---|
//! | unit and property tests | beside the code | `cargo nextest run --lib` |
//! | the fleet under a seed | `tests/simulation/` | `cargo nextest run --test simulation`; `SIM_SEED=7` replays one seed with its trace; `SIM_FIRST=5000 SIM_SEEDS=20000` runs that many, best with `cargo test --release` |
//! | the library without a process: journal, record layer, wire, tables | `tests/library/` | `cargo nextest run --test library` |
//! | the server, in the test's process and as `musterd` | `tests/server/` | `cargo nextest run --test server` |
//! | the agent as its user runs it | `tests/agent/` | `cargo nextest run --test agent` |
//! | `musterctl` on an API that follows a script | `tests/ctl/` | `cargo nextest run --test ctl` |
//! | the console, page by page, and in Chromium | `tests/console/` | `cargo nextest run --test console`; the browser wants `chromium`, `node` and `npm ci` in that directory |
//! | the programs on a system: service manager, clock, network, nginx, documents | `tests/system/` | `cargo nextest run --test system` |
//! | the load tool and the comparison | `tools/*/tests/` | `cargo nextest run --workspace` |
//! | the conventions; dependencies of each part | `tests/tidy.rs`, `tests/tidy/` | `cargo nextest run --test tidy` |
//! | every order of threads at hand-made fences | `src/concurrency/mailbox.rs`, `src/journal/leader.rs` | `RUSTFLAGS="--cfg loom" cargo test --no-default-features --lib -- loom_tests`: loom in the place of locks and atomics (`src/sync.rs`) |
//! | what it is built from | `deny.toml` | `tests/tidy/dependencies.rs`, or `cargo deny check bans licenses sources` |
//! | everything that a peer can send | `tools/fuzz` | `cargo fuzz run --fuzz-dir tools/fuzz -s none to_server` |
//! | speed and memory | `benches/` | `cargo bench --bench wire` and so on |
//!
//! Each of these folders is one program, because linking takes longer than most tests; a test is
//! `--test server` with a part of its name (`-E 'test(storm::)'`). nextest gives each test a process of its
//! own, `cargo test` a thread: a test that needs a process for itself starts its program again. They share
//! `tests/kit`: the server in the test's process or as one, a site of server and agent, a device that speaks
//! the wire by hand, one time for all that is waited for.
//!
//! Tests never measure time: the machines that run them are shared. Speed is shown by benches, as ratios in
//! one run.
//!
//! # The simulation
//!
//! The server's endpoints ([`Endpoint`](crate::machine::endpoint::Endpoint), two of them, as a machine with
//! two cores has), its records and the real journal run in one thread with many agent machines, under a seed.
//! The network breaks links, delays and repeats; disks keep any subset of what was not yet synced; clocks
//! jump; images are rolled back. Beside it runs a reference model. After every step: no acknowledged event is
//! missing, none is stored twice, and each device's order holds. Then the faults stop, and every device must
//! come to rest in sync. Bugs are planted, most of them by breaking a
//! [`Rule`](crate::machine::endpoint::Rule) of the endpoint that ships; each must be found, or the simulation
//! itself is broken.
//!
//! Datagrams are lost, repeated, delayed, forged, flipped and replayed, to anybody and long after; devices
//! hide behind NAT, move, sleep, reboot, and end with and without a shutdown notice. At every quiet point the
//! presence of each device is what the model knows to be true, each call has had its one outcome, and what
//! the server learned of UDP is so.
//!
//! Sealed segments of the journal are damaged, cut and lost; store and journal are restored alone, or from
//! copies of different moments. Events that the recovery tells as damaged may be missing, and no other event
//! may. The server's clock is set to any year and some minutes off, with the shipped watch over it and a
//! retention by age: nothing is deleted until the clock has run for an hour since. Tasks that come again and
//! again, join tokens and runs go by that clock, with the shipped rules; a judge who knows the time in truth
//! finds tasks that come too late or too often, runs that end early, tokens that are refused early or live
//! again. A start whose clock is ahead excuses some of that, for it can't be told from a long stop. Devices
//! drop events for want of room. No acknowledgement covers an event that the server does not have, the device
//! did not drop and the recovery did not tell of.
//!
//! Policies are edited, tasks made and cancelled all the while. When all is quiet, each device has in place
//! what a plain reference makes of the policies, the server knows so, every run has ended, and none was begun
//! twice that may not be.
//!
//! In every third seed the log takes few events of a device at a time, so that they wait and come again. No
//! honest device ever uses up its allowance in the simulation ([`rate`](crate::machine::rate)). The effect of
//! hostile ones is bounded by a property: whatever is said, in whatever order, on however many links that end
//! and come anew, the datagrams, jobs, answers and events in a time stay below what the allowance has.
//! `tests/server/limits` floods a real server, while an honest device and an administrator are served.
//!
//! ## Ten years of identity
//!
//! `tests/simulation/lifetime` runs fleets through ten years of their own clock, with the agent's machine,
//! the sessions, the store and both identities' files as they ship: certificates are renewed, the server's
//! key is rotated, lost and stolen, writes are cut off at any sector, server and devices are set back to
//! copies of any day, clocks are in 1970 and 2100, machines are reimaged, removed and copied. At each moment
//! the certificate that worked last is on each disk, a device that counts as ready has the pins, what is dead
//! stays dead, and no thief is trusted once the theft was mended; at the end every device is in sync, each
//! with a key of its own. `SIM_LIFETIME_SEED=n` shows one seed, `SIM_LIFETIME_SEEDS=n` runs that many;
//! `.ci/run` does so in release.
//!
//! The administrator there follows the handbook: the recovery key is made before the fleet, and after another
//! one was made, or another authority, copies of before are not used any more.
//!
//! # Real applications
//!
//! `tests/system/nginx` puts settings into a real nginx of the distribution's: served after the reload,
//! refused by its own test, recovered after a kill in the middle, of the engine alone and of the whole agent
//! under a real server. `tests/agent/tasks` has the real agent execute runs that a hand-made server orders.
//!
//! # Across a network
//!
//! `tests/system/nat` makes three hosts of network namespaces, a server, a NAT box or router, and a device,
//! with real processes on them: a device behind NAT is learned as such and keeps its connection through a cut
//! and a new address; one that is reached is woken across the router. It needs root, `ip` and `nft`.
//!
//! # Numbers
//!
//! `tools/load/tests/load_tool.rs` runs every command of `muster-load` in small;
//! `tools/load/benches/density.rs` holds 2,000 devices and says what one takes of the memory;
//! `tests/library/two_million.rs` fills the tables and timers with two million entries; `tests/server/storm`
//! has hundreds of devices come back at once, with attackers among them. Speed is never asserted:
//! [`measurements`](super::measurements) and [`side_by_side`](super::side_by_side) say how to see it.
//!
//! # Peers that nobody here wrote
//!
//! `openssl s_client` for the handshake; the same and an unmodified client of rustls for the record layer
//! (`tests/library/record_layer`: thousands of records each, with KeyUpdates of both kinds from both sides);
//! the machine's own package database and `dpkg-query` for the inventory. A test that needs something which
//! the machine does not have says `SKIPPED` with its name and what it needs, leaves the same line in
//! `target/debug/skipped-tests`, and passes; `.ci/run` has everything installed and prints the lines that are
//! left.
//!
//! # As it is written
//!
//! `tests/system/documented_commands.rs` takes every command line of the README and of this handbook and runs
//! it as it stands, as root of a system of its own; what is not run is named there with the reason.
//! `tests/tidy` looks whether the functions and constants are there that this handbook names by their file.
//! `tests/system/service_manager.rs` is what a service manager asks of server and agent.
