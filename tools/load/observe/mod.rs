//! What can be seen of the server and of the machine from outside, in `/proc`.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "every command uses its part")]

pub(crate) mod capacity;
pub(crate) mod disk;
pub(crate) mod kernel;
pub(crate) mod machine;
mod proc_text;
pub(crate) mod process;
pub(crate) mod slope;

#[allow(unused_imports, reason = "every command uses its part")]
pub(crate) use {
    capacity::{Capacity, capacity},
    disk::DiskReference,
    kernel::{KernelSample, SOCKET_BYTES_DEFAULT, SocketMemory, socket_memory},
    machine::machine,
    process::{ProcessError, ProcessSample, ServerProcess},
    slope::Line,
};
