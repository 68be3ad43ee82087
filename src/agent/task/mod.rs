//! Runs of tasks on the device: kept on the disk, executed under a supervisor of their own, reported until
//! the server has stored it.
//!
//! Each run has a directory, `runs/ID` in the data directory. Every file in it is replaced as a whole
//! ([`files`]):
//!
//! | file | who writes it | what |
//! |---|---|---|
//! | `order` | the agent | what was ordered; with it on the disk the run is accepted |
//! | `plan` | the agent | what is executed; with it on the disk it may have been begun |
//! | `settings` | the agent | the program's standard input |
//! | `lock` | the supervisor | locked (flock(2)) for as long as it lives; its process number |
//! | `group` | the supervisor | the process group, so that it can be ended when the supervisor was killed |
//! | `progress` | the supervisor | percent and text |
//! | `cancel` | the agent | the server does not want it any more |
//! | `result` | the supervisor; the agent when nothing was executed | the final report, with the output |
//! | `reported` | the agent | up to where serial numbers may have been used |
//!
//! A run whose final report is stored at the server is remembered among the [`tombstones`], so that it is
//! never executed again.
//!
//! The supervisor is this program once more, in a session that neither the agent's end nor its death touches.
//! In a program that embeds the agent it is a thread ([`function`]). [`run_store`] is what the agent knows,
//! [`plan`] what is executed.

pub mod artifacts;
mod cgroup;
mod descendants;
pub mod execution;
pub mod files;
pub mod function;
pub mod judge;
pub mod output;
pub mod plan;
pub mod program;
mod report;
pub mod run_store;
#[cfg(feature = "muster-agent")]
pub mod supervisor;
pub mod tombstones;

#[cfg(test)]
mod tests;
