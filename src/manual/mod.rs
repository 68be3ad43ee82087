//! The handbook.
//!
//! | chapter | for whom |
//! |---|---|
//! | [`architecture`] | whoever changes muster: layers, threads, paths |
//! | [`delivery`] | whoever relies on an event arriving: what is promised, and how it is kept |
//! | [`clocks`] | what a wrong clock does |
//! | [`applications`] | whoever manages an application: its file on the device, settings, drift, statistics |
//! | [`density`] | whoever asks where the memory is: a link without its library, tables that grow by a piece |
//! | [`load`] | whoever sizes a server: `muster-load`, and what its figures mean |
//! | [`neighbours`] | a device that is shared with other users: what they can do to the agent, and what its sandbox does not stop |
//! | [`operations`] | whoever runs a server: configuration, backup, full disks, removed devices |
//! | [`policies`] | whoever sets applications: policies, locks, own settings, drift |
//! | [`reach`] | whoever calls devices: wakes, notices, presence, persistent links, firewalls and NAT |
//! | [`runs`] | whoever offers tasks on a device: what its program gets and may say, and what becomes of it when something dies |
//! | [`security`] | people who expose a server: who is trusted with what, what a stolen thing is good for, and what one of them can consume |
//! | [`status`] | whoever wants to know which devices are not well: rules, conditions, statistics |
//! | [`storms`] | whoever wants to know what happens when everyone comes back at once |
//! | [`tasks`] | whoever has devices execute something: targets, schedules, windows, what becomes of runs |
//! | [`throughput`] | whoever asks where the time of an event goes, and what was done about it |
//! | [`wire`] | whoever writes an agent in another language |
//! | [`measurements`] | whoever sizes a server: what was measured, and how |
//! | [`side_by_side`] | whoever chooses a server: the same loads against muster, mosquitto, nats-server and redis |
//! | [`testing`] | whoever wants to see that it holds |
//!
//! The layout of the journal on disk is documented where it is read and written, in [`crate::journal`]; the messages are
//! documented in [`crate::wire::message`] and, for other languages, in `src/wire/muster.cddl`.
#![forbid(unsafe_code)]

pub mod applications;
pub mod architecture;
pub mod clocks;
pub mod delivery;
pub mod density;
pub mod load;
pub mod measurements;
pub mod neighbours;
pub mod operations;
pub mod policies;
pub mod reach;
pub mod runs;
pub mod security;
pub mod side_by_side;
pub mod status;
pub mod storms;
pub mod tasks;
pub mod testing;
pub mod throughput;
pub mod wire;
