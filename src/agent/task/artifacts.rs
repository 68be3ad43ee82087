//! The artifacts of runs that wait: fetched oldest run first, one at a time, checked, and removed when no run
//! needs them any more.
//!
//! A run that waits for its artifact is accepted and no more, and says how far that is as often as a running
//! one says that it lives. Its time goes on: when that is over it is 'not now', and what has come stays for
//! the next time.

use std::collections::BTreeSet;

use super::execution::LEASE_SECONDS;
use super::files::Outcome;
use super::plan::is_signed;
use super::run_store::{DeviceRun, Runs, Stage, Wait};
use crate::agent::artifact::{Fault, ToCheck};
use crate::agent::settings::Settings;
use crate::wire::artifact::{Artifact, ArtifactPart, Fetch};
use crate::wire::id::{ArtifactHash, RunId};
use crate::wire::task::RunStage;
use crate::wire::time::{Moment, Now};

/// Times that an artifact is fetched whose content turns out to be wrong: a disk may fail once.
const FAULTS_MAX: u32 = 3;

/// The next step towards an artifact.
#[derive(Debug)]
pub enum Step {
    /// A part has to come.
    Fetch(Fetch),
    /// All has come: check it for this run, with this signature if it needs one. Answered by
    /// [`Runs::checked`].
    Check(RunId, ToCheck, Option<String>),
}

impl DeviceRun {
    /// Its artifact, and its wait for that, while there is one.
    fn wait(&mut self) -> Option<(&Artifact, &mut Wait)> {
        match (&self.order.artifact, &mut self.stage) {
            (Some(artifact), Stage::Waiting(wait)) if wait.checked.is_none() => Some((artifact, wait)),
            _ => None,
        }
    }

    /// When it says next how far its artifact is.
    pub(super) fn say_wait_at(&self, wait: &Wait) -> Option<Moment> {
        let is_waiting = self.order.artifact.is_some() && wait.checked.is_none() && !wait.message.is_empty();
        is_waiting.then(|| wait.said_at.map_or(Moment(0), |at| at.plus_seconds(LEASE_SECONDS)))
    }
}

impl Runs {
    /// Says how far a run's artifact is, when that is due.
    pub(super) fn say_wait(&mut self, id: RunId, now: &Now) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Stage::Waiting(wait) = &run.stage else { return };
        if run.say_wait_at(wait).is_none_or(|at| now.moment < at) {
            return;
        }
        let progress = wait.progress();
        if let Some((_, wait)) = run.wait() {
            wait.said_at = Some(now.moment);
        }
        let said = run.say(RunStage::Accepted, &progress);
        self.news.push(said);
    }

    /// The next step for the artifacts of runs that wait; `None`: there is none.
    pub fn next_artifact_step(&mut self, settings: &Settings) -> Option<Step> {
        if self.checking.is_some() {
            return None;
        }
        let mut waiting: Vec<&mut DeviceRun> = self.runs.values_mut().collect();
        waiting.retain_mut(|run| run.wait().is_some());
        waiting.sort_by_key(|run| run.came());
        let mut ended = Vec::new();
        let mut step = None;
        for run in waiting {
            let id = run.order.run;
            let Some((artifact, wait)) = run.wait() else { continue };
            match self.artifacts.offset(artifact, &settings.artifacts) {
                Ok(Some(offset)) => {
                    wait.message =
                        format!("fetches its artifact: {offset} of {} bytes are here", artifact.bytes);
                    step = Some(Step::Fetch(Fetch { hash: artifact.hash, offset }));
                    break;
                }
                Ok(None) => {
                    "checks its artifact".clone_into(&mut wait.message);
                    let (hash, signature) = (artifact.hash, artifact.signature.clone());
                    let signature = signature.filter(|_| is_signed(settings, &run.order));
                    self.checking = Some(id);
                    step = Some(Step::Check(id, self.artifacts.end_download(hash), signature));
                    break;
                }
                Err(Fault::Waits(why)) => wait.message = why,
                Err(Fault::Wrong) => {}
                Err(Fault::Ends(stage, why)) => ended.push((id, stage, why)),
            }
        }
        for (id, stage, why) in ended {
            self.end(id, Outcome::without_output(stage, why));
        }
        step
    }

    /// Keeps a part that has come.
    pub fn take_artifact_part(&mut self, part: &ArtifactPart) {
        let kept = match &part.refusal {
            Some(why) => Err((RunStage::Failed, format!("the server does not give it its artifact: {why}"))),
            None if part.bytes.is_empty() => Err((
                RunStage::Failed,
                format!("the server has no more than {} bytes of its artifact", part.offset),
            )),
            None => match self.artifacts.append(part) {
                Err(Fault::Ends(stage, why)) => Err((stage, why)),
                _ => Ok(()),
            },
        };
        let Err((stage, why)) = kept else { return };
        for id in self.waiting_for(part.hash) {
            self.end(id, Outcome::without_output(stage, why.clone()));
        }
    }

    fn waiting_for(&mut self, hash: ArtifactHash) -> Vec<RunId> {
        let waits = |run: &mut DeviceRun| run.wait().is_some_and(|(artifact, _)| artifact.hash == hash);
        self.runs.iter_mut().filter_map(|(id, run)| waits(run).then_some(*id)).collect()
    }

    /// An artifact was checked for a run: it has the comment of its signature, or this fault.
    pub fn checked(&mut self, id: RunId, result: Result<Option<String>, Fault>) {
        self.checking = None;
        let Some((artifact, wait)) = self.runs.get_mut(&id).and_then(DeviceRun::wait) else { return };
        match result {
            Ok(comment) => {
                wait.message.clear();
                wait.checked = Some(comment);
            }
            Err(Fault::Wrong | Fault::Waits(_)) => {
                wait.faults += 1;
                let (faults, hash) = (wait.faults, artifact.hash);
                log::warn!(
                    "run {id}: the content of its artifact is not what its hash says ({faults} times)"
                );
                self.artifacts.remove(hash);
                if faults >= FAULTS_MAX {
                    let message =
                        format!("the content of its artifact is not what its hash says, {faults} times");
                    self.end(id, Outcome::without_output(RunStage::Failed, message));
                }
            }
            Err(Fault::Ends(stage, why)) => self.end(id, Outcome::without_output(stage, why)),
        }
    }

    /// Removes the artifacts that no run needs any more.
    pub(super) fn keep_artifacts(&mut self, now: &Now) {
        if self.artifacts.is_empty() {
            return;
        }
        let (mut needed, mut done) = (BTreeSet::new(), BTreeSet::new());
        for run in self.runs.values() {
            let Some(artifact) = &run.order.artifact else { continue };
            match run.stage {
                Stage::Waiting(_) | Stage::Running(_) => needed.insert(artifact.hash),
                Stage::Over { stage: RunStage::NotNow, .. } => false,
                Stage::Over { .. } => done.insert(artifact.hash),
            };
        }
        self.artifacts.keep(&needed, &done, now);
    }
}
