//! Facts about the server and the machine from outside, in `/proc`.

pub(crate) mod capacity;
pub(crate) mod disk;
pub(crate) mod kernel;
pub(crate) mod machine;
mod proc_text;
pub(crate) mod process;
pub(crate) mod slope;
