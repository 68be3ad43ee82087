//! One durable write at a place in a file: Linux's `pwritev2(RWF_DSYNC)`, and what does the same elsewhere.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;

/// Writes the parts at `offset` and makes them durable, in one call to the kernel. Returns the bytes written; fewer than
/// given means that the rest was not. Never tried again here, not even after EINTR: after a failed sync the next
/// one answers ok though pages are lost.
///
/// # Errors
/// Whatever `pwritev2(2)` answers.
#[cfg(target_os = "linux")]
pub(crate) fn write_durable(file: &File, offset: u64, parts: [&[u8]; 3]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    let slices = parts.map(io::IoSlice::new);
    Ok(pwritev2(file, &slices, offset, ReadWriteFlags::DSYNC)?)
}

/// Writes the parts at `offset`, then makes them durable. Returns the bytes written; fewer than given means that the
/// rest was not.
///
/// # Errors
/// Whatever `pwrite(2)` and `fdatasync(2)` answer.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_durable(file: &File, offset: u64, parts: [&[u8]; 3]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let mut written = 0;
    for part in parts {
        let count = file.write_at(part, offset + written as u64)?;
        written += count;
        if count < part.len() {
            break;
        }
    }
    file.sync_data()?;
    Ok(written)
}
