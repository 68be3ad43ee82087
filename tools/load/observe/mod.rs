//! What can be seen of the server and of the machine from outside, in `/proc`.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "every command uses its part")]
