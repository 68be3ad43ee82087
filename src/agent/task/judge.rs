//! Meaning of the end of what a run executed.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::files::Outcome;
use super::output::{OutputKeeper, again_seconds, clipped};
use crate::wire::task::RunStage;

/// Exit code of what can't be done now (EX_TEMPFAIL, sysexits.h): nothing was done.
pub const EXIT_NOT_NOW: i32 = 75;

/// The end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// That of a program.
    pub(super) fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

/// Judges it by what was written before.
pub(super) fn judge(ended: Ended, keeper: &OutputKeeper) -> Outcome {
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) => {
            return Outcome::without_output(RunStage::Failed, format!("signal {signal} ended it"));
        }
    };
    let lines = keeper.last_lines();
    let again = lines.iter().take(2).find_map(|line| again_seconds(line));
    let last = lines.into_iter().find(|line| code != EXIT_NOT_NOW || again_seconds(line).is_none());
    let last = last.unwrap_or_default();
    let (stage, message) = match code {
        0 => (RunStage::Succeeded, String::new()),
        EXIT_NOT_NOW => (RunStage::NotNow, last),
        _ if last.is_empty() => (RunStage::Failed, format!("exit code {code}")),
        _ => (RunStage::Failed, clipped(&format!("exit code {code}: {last}"))),
    };
    let again_seconds = again.filter(|_| code == EXIT_NOT_NOW);
    Outcome { exit_code: Some(code), again_seconds, ..Outcome::without_output(stage, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: i32, output: &str) -> Outcome {
        let mut keeper = OutputKeeper::default();
        keeper.add(output.as_bytes());
        judge(Ended::of(ExitStatus::from_raw(status)), &keeper)
    }

    #[test]
    fn an_end_is_understood() {
        assert_eq!(judged(0, "done\n").stage, RunStage::Succeeded);
        let failed = judged(3 << 8, "a\nno disk\n");
        assert_eq!((failed.stage, failed.exit_code), (RunStage::Failed, Some(3)));
        assert_eq!(failed.message, "exit code 3: no disk");
        assert_eq!(judged(1 << 8, "").message, "exit code 1");
        let killed = judged(9, "a\n");
        assert_eq!(
            (killed.stage, killed.exit_code, killed.message.as_str()),
            (RunStage::Failed, None, "signal 9 ended it")
        );
    }

    #[test]
    fn not_now_says_when_again() {
        let later = judged(75 << 8, "busy with a sale\nagain: 600\n");
        assert_eq!((later.stage, later.again_seconds), (RunStage::NotNow, Some(600)));
        assert_eq!(later.message, "busy with a sale");
        let later = judged(75 << 8, "again: 600\nbusy\n");
        assert_eq!((later.again_seconds, later.message.as_str()), (Some(600), "busy"));
        assert_eq!(judged(75 << 8, "busy\n").again_seconds, None);
        assert_eq!(judged(1 << 8, "again: 600\n").again_seconds, None);
    }
}
