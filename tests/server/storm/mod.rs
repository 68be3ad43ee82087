//! Everyone comes back at once: real servers, real sockets, and more devices than they are allowed to serve
//! at a time.

mod admission;
mod crowd;
mod later;
mod tickets;
