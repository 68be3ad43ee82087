//! The agent's socket for programs on the same device: one JSON line in, one JSON line out.
//!
//! | a line in | a line out |
//! |---|---|
//! | `{"application":…,"severity":…,"kind":…,"message":…,"fields":{…}}` | `{"sequence":N}` once the event is durable |
//! | `{"command":"status"}` | the status, an object |
//! | `{"command":"sync"}` | `{"synced":true}` once the sync is done |
//! | `{"command":"move"}` | `{"moved":true,"synced":true}` once the staged identity is taken up and in sync; `"synced":false` and the `"problem"` when the sync failed |
//! | anything that can't be done | `{"error":"why"}` |
//!
//! Lines are answered in order. The permissions of the socket's file (mode 0600: the agent's own user and
//! root) and of the directory it is in say which users may connect; `[socket]` in the configuration widens
//! it. Users other than those two may emit events and nothing else, within a [rate](peer::Allowances) of
//! their own; their events get the field `uid` with the number of the user, which the kernel knows, and can't
//! be of `muster` or `muster-agent`.

pub mod client;
pub mod peer;
pub mod protocol;
pub mod server;

#[cfg(test)]
mod tests;
