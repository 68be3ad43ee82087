//! The handbook.
//!
//! # Running it
//!
//! | chapter | about |
//! |---|---|
//! | [`administration`] | the first day with a server: enrolment, events, devices, calls, an application of your own |
//! | [`console`] | the fleet in a browser: its pages, keys, certificate, and what keeps it safe |
//! | [`applications`] | managed applications: their file on the device, settings, drift, statistics |
//! | [`policies`] | what applications are set to: policies, locks, own settings |
//! | [`status`] | which devices are not well: rules, conditions, statistics |
//! | [`tasks`] | having devices execute something: targets, schedules, windows, what becomes of runs |
//! | [`runs`] | offering tasks on a device: what a program gets and may say, and what becomes of it when something dies |
//! | [`embedding`] | muster within a program of your own: the agent in a device's firmware, in Rust and in C; the server in an appliance |
//! | [`reach`] | calling devices: wakes, notices, presence, persistent links, firewalls and NAT |
//! | [`operations`] | running a server: configuration, backup, full disks, removed devices |
//! | [`standby`] | when the machine of the server dies: a second one that takes over, and what each kind loses |
//! | [`metrics`] | watching a server with Prometheus and Grafana: each number, alert rules, a dashboard |
//! | [`identity`] | how devices and the server know each other for a lifetime: renewal, rotation, recovery, approval, copies, passphrase |
//! | [`packages`] | installing without a compiler: Debian's packages, one file for any Linux, how they are built |
//! | [`upgrades`] | replacing versions: what an older and a newer one make of each other, on the wire and on the disk |
//! | [`security`] | exposing a server: who is trusted with what, what a stolen thing is good for, what each can consume |
//! | [`neighbours`] | a device that is shared with other users: what they can do to the agent, and what its sandbox does not stop |
//!
//! # Its inside
//!
//! | chapter | about |
//! |---|---|
//! | [`architecture`] | layers, threads, queues with their bounds, paths |
//! | [`lives`] | reading along in the source: the functions through which an event, a sync, a task and a wake go |
//! | [`glossary`] | muster's own terms, each in one sentence |
//! | [`delivery`] | an event's arrival: what is promised, and how it is kept |
//! | [`clocks`] | what a wrong clock does, and what it does not |
//! | [`storms`] | everyone comes back at once |
//! | [`wire`] | writing an agent in another language |
//! | [`testing`] | seeing that it holds |
//!
//! # Measured
//!
//! | chapter | about |
//! |---|---|
//! | [`measurements`] | every figure, with the command that brings it |
//! | [`load`] | sizing a server with `muster-load`, and what its figures mean |
//! | [`density`] | where the memory is: a link without its library, tables that grow by a piece |
//! | [`throughput`] | where the time of an event goes, what was done about it, what was tried and left |
//! | [`side_by_side`] | the same loads against muster, mosquitto, nats-server and redis |
//!
//! The layout of the journal on disk is documented where it is read and written, in [`crate::journal`]; the
//! messages are documented in [`crate::wire::message`] and, for other languages, in `src/wire/muster.cddl`.
#![forbid(unsafe_code)]

pub mod administration;
pub mod applications;
pub mod architecture;
pub mod clocks;
pub mod console;
pub mod delivery;
pub mod density;
pub mod embedding;
pub mod glossary;
pub mod identity;
pub mod lives;
pub mod load;
pub mod measurements;
pub mod metrics;
pub mod neighbours;
pub mod operations;
pub mod packages;
pub mod policies;
pub mod reach;
pub mod runs;
pub mod security;
pub mod side_by_side;
pub mod standby;
pub mod status;
pub mod storms;
pub mod tasks;
pub mod testing;
pub mod throughput;
pub mod upgrades;
pub mod wire;
