//! Writes what packages install beside the programs, from their own command lines: a man page of each command
//! (man-pages(7)) below `man1`, completions for bash, zsh and fish below `completions`.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap_complete::Shell;
use muster::programs;

/// Writes the man pages and shell completions of musterd, muster-agent and musterctl.
#[derive(Parser)]
struct Arguments {
    /// Directory to write to; it is made
    directory: PathBuf,
}

fn main() -> ExitCode {
    let directory = Arguments::parse().directory;
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-pages: can't write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let (pages, completions) = (directory.join("man1"), directory.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    for mut command in programs::command_lines() {
        clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &pages)?;
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, &name, &completions)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic in a test is its report")]
mod tests {
    use super::*;

    /// Names of the pages of a command and of all below it.
    fn names(command: &clap::Command, above: &str) -> Vec<String> {
        let name = format!("{above}{}", command.get_name());
        let shown = command.get_subcommands().filter(|below| !below.is_hide_set());
        let mut all: Vec<_> = shown.flat_map(|below| names(below, &format!("{name}-"))).collect();
        all.push(name);
        all
    }

    #[test]
    fn each_command_has_a_page_with_its_examples_and_each_program_completions() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let page = |name: &str| {
            std::fs::read_to_string(directory.path().join(format!("man1/{name}.1"))).unwrap_or_default()
        };
        for command in programs::command_lines() {
            for name in names(&command, "") {
                assert!(page(&name).contains(".TH"), "{name} has no page");
            }
        }
        let list = page("musterctl-device-list");
        assert!(list.contains("Examples") && list.contains("presence"), "{list}");
        let made = |file: &str| directory.path().join("completions").join(file).is_file();
        for program in ["musterd", "muster-agent", "musterctl"] {
            let files = [format!("{program}.bash"), format!("_{program}"), format!("{program}.fish")];
            assert!(files.iter().all(|file| made(file)), "{program}");
        }
    }
}
