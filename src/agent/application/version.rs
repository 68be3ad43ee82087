//! The version that an application says of itself.

use super::adapter::Program;
use crate::agent::process;
use crate::wire::limits::NAME_BYTES_MAX;

/// Most of what a program says of its version that is looked at.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Asks the program; empty when it says nothing that looks like a version. Takes as long as it may: not for
/// the loop's thread.
#[must_use]
pub fn ask(program: &Program) -> String {
    match process::run_to_end(&program.arguments, program.timeout, OUTPUT_BYTES_MAX) {
        Ok(answer) => find(&String::from_utf8_lossy(&answer.output)),
        Err(error) => {
            log::debug!("no version: {error}");
            String::new()
        }
    }
}

/// The first word that begins with a digit, be it after a `v` or a `/`: of `nginx version: nginx/1.22.1` it
/// is `1.22.1`.
pub(super) fn find(output: &str) -> String {
    let found = output.split_whitespace().find_map(|word| {
        let word = word.rsplit('/').next().unwrap_or_default();
        let word = word.trim_start_matches(['v', 'V', '(', '"']).trim_end_matches([',', ';', ')', '"', '.']);
        (word.starts_with(|first: char| first.is_ascii_digit()) && word.len() <= NAME_BYTES_MAX)
            .then(|| word.to_owned())
    });
    found.unwrap_or_default()
}
