//! Layer 1: pure state machines, told bytes, time and randomness; they answer with commands.
//!
//! | module | what it decides |
//! |---|---|
//! | [`session`] | the server's half of one link |
//! | [`endpoint`] | the server's half of all links of one reactor |
//! | [`agent`] | all that an agent decides |
//! | [`device_state`] | what the server remembers of each device, and whether an event is new |
//! | [`replay`] | what a start makes of the journal |
//! | [`restored`] | whether the server was restored from a copy, or one device only says so |
//! | [`acks`] | which acknowledgements a durable position releases |
//! | [`slab`] | tables that grow by a segment |
//! | [`timers`] | whose deadline has come |
//! | [`lateness`] | when deadlines may be judged, after a pause of the process |
//! | [`record`] | what the journal keeps of an event |
//! | [`admission`] | which handshakes may begin, and when |
//! | [`extra_links`] | which links a device may have beside its own |
//! | [`holdings`] | what all links hold of memory, and which are closed when it is too much |
//! | [`clones`] | whether two devices use one identity |
//! | [`credentials`] | which of its certificates a device shows, and when it may forget one |
//! | [`close`] | why a link ended |
//! | [`wake_scheduler`] | the server calls devices: where each is, how it is reached, what becomes of it |
//! | [`rate`] | how much a device may ask of the server |
//! | [`reach`] | how a device is reached by datagrams, and which notices count |
//! | [`task_clock`] | what time tasks go by |
//! | [`token`] | how long a join token lives |
//! | [`trust`] | which server a device accepts |
//! | [`turns`] | when devices that were sent away come again |
//! | [`wall_clock`] | whether the wall clock can be believed, and what may go by age |
//! | [`permits`] | a bounded right to have work done |
//! | [`random`] | jitter and epochs, from randomness that is handed in |
#![forbid(unsafe_code)]

pub mod acks;
pub mod admission;
pub mod agent;
pub mod bucket;
pub mod clones;
pub mod close;
pub mod command;
pub mod commit_delay;
pub mod credentials;
pub mod device_state;
pub mod endpoint;
pub mod extra_links;
pub mod holdings;
pub mod lateness;
pub mod permits;
pub mod random;
pub mod rate;
pub mod reach;
pub mod record;
pub mod replay;
pub mod restored;
pub mod session;
pub mod slab;
pub mod task_clock;
pub mod timers;
pub mod token;
pub mod trust;
pub mod turns;
pub mod wake_scheduler;
pub mod wall_clock;
