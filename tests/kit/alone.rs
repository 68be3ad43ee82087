//! A process of its own for a test that would notice others in it: `cargo test` runs tests as threads.

use std::process::Command;

/// Tells the process of its own from the one that starts it.
const ALONE: &str = "MUSTER_TEST_ALONE";

/// Runs this test, by its path in the test program, in a process of its own, and fails as it does. `false`:
/// this is that process.
pub(crate) fn is_elsewhere(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_there = said.contains("1 passed") || said.contains("1 failed");
    assert!(is_there, "there is no test '{test}': {said}");
    print!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    true
}
