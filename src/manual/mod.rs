//! The handbook.
//!
//! | chapter | for whom |
//! |---|---|
//! | [`architecture`] | people who change muster: layers, threads, paths |
//! | [`delivery`] | people who rely on an event arriving: the promise, and how it is kept |
//! | [`clocks`] | what a wrong clock does |
//! | [`applications`] | people who manage an application: its file on the device, settings, drift, statistics |
//! | [`density`] | people who ask about memory: a link without its library, tables that grow by a piece |
//! | [`load`] | people who size a server: `muster-load`, and the meaning of its figures |
//! | [`neighbours`] | a device that is shared with other users: what they can do to the agent, and what its sandbox does not stop |
//! | [`operations`] | people who run a server: configuration, backup, full disks, removed devices |
//! | [`glossary`] | people who meet a word for the first time: muster's own terms, each in one sentence |
//! | [`policies`] | people who set applications: policies, locks, own settings, drift |
//! | [`reach`] | people who call devices: wakes, notices, presence, persistent links, firewalls and NAT |
//! | [`runs`] | people who offer tasks on a device: the program's input and output, and its fate when something dies |
//! | [`security`] | people who expose a server: who is trusted with what, what a stolen thing is good for, and what one of them can consume |
//! | [`status`] | people who want to know which devices are not well: rules, conditions, statistics |
//! | [`storms`] | people who want to know what happens when everyone comes back at once |
//! | [`tasks`] | people who have devices execute something: targets, schedules, windows, the fate of runs |
//! | [`throughput`] | people who ask about the time of an event: its parts, and the means that made it short |
//! | [`wire`] | people who write an agent in another language |
//! | [`measurements`] | people who size a server: figures, and methods |
//! | [`side_by_side`] | people who choose a server: the same loads against muster, mosquitto, nats-server and redis |
//! | [`testing`] | people who want to see that it holds |
//!
//! The layout of the journal on disk is documented where it is read and written, in [`crate::journal`]; the
//! messages are documented in [`crate::wire::message`] and, for other languages, in `src/wire/muster.cddl`.
#![forbid(unsafe_code)]

pub mod applications;
pub mod architecture;
pub mod clocks;
pub mod delivery;
pub mod density;
pub mod glossary;
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
