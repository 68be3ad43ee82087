//! The artifacts of runs: what is asked of the server, and of a helper.

use super::Agent;
use crate::agent::artifact::Fault;
use crate::agent::task::artifacts::Step;
use crate::wire::task::RunStage;

impl Agent {
    /// Does the next step towards an artifact.
    pub(super) fn work_on_artifacts(&mut self) {
        let (fetch, check) = match self.runs.next_artifact_step(&self.settings) {
            Some(Step::Fetch(fetch)) => (Some(fetch), None),
            Some(Step::Check(run, file, signature)) => (None, Some((run, file, signature))),
            None => (None, None),
        };
        self.machine.set_fetch(fetch);
        let Some((run, file, signature)) = check else { return };
        if let Err(error) = self.helpers.check(run, file, signature, &self.settings, self.directory.path()) {
            let why = format!("no thread to check its artifact: {error}");
            self.runs.checked(run, Err(Fault::Ends(RunStage::NotNow, why)));
        }
    }
}
