//! For tests that can't do their work on this machine: a test runner knows passed and failed only.
//!
//! Each says `SKIPPED` with its name and what it needs, and leaves the same line in `skipped-tests` beside
//! the test programs' directory (`target/debug/skipped-tests`), so that a run can be told from one that
//! tested everything.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Tells that the test that runs in this thread is skipped.
pub(crate) fn skipped(why: impl Display) {
    let line = line(why);
    eprint!("{line}");
    let Ok(program) = std::env::current_exe() else { return };
    let Some(directory) = program.ancestors().nth(2) else { return };
    // If nothing can be written, the line above is all there is.
    let _ = leave(directory, &line);
}

pub(crate) fn line(why: impl Display) -> String {
    let thread = std::thread::current();
    format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"))
}

pub(crate) fn leave(directory: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(directory.join("skipped-tests"))?;
    file.write_all(line.as_bytes())
}
