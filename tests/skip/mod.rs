//! For tests that can't do their work on this machine: a test runner knows passed and failed only.
//!
//! Each says `SKIPPED` with its name and what it needs, and leaves the same line in `skipped-tests` beside
//! the test programs' directory (`target/debug/skipped-tests`), so that a run can be told from one that
//! tested everything.

use std::fmt::Display;
use std::io::Write as _;

/// Tells that the test that runs in this thread is skipped.
pub(crate) fn skipped(why: impl Display) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
    let Ok(program) = std::env::current_exe() else { return };
    let Some(directory) = program.ancestors().nth(2) else { return };
    let file = std::fs::File::options().create(true).append(true).open(directory.join("skipped-tests"));
    // If nothing can be written, the line above is all there is.
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}
