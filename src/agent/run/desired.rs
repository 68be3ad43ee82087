//! Desired state: settings and runs that the server has ordered, and statistics.

use super::{Agent, Now, RUNS, RunError};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::directory::{Directory, DirectoryError};
use crate::agent::managed::own::OwnSettings;
use crate::agent::managed::{Managed, statistics};
use crate::agent::settings::CONCURRENT_RUNS_MAX;
use crate::agent::signature::pin_key_of_policy;
use crate::agent::spool::SpoolError;
use crate::agent::task::files::uptime_milliseconds;
use crate::machine::agent::SectionContent;
use crate::wire::event::Event;
use crate::wire::id::RunId;
use crate::wire::limits::CONDITIONS_MAX;
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::settings::SettingsOrder;
use crate::wire::statistics::Statistic;
use crate::wire::task::{RunAck, RunOrder};
use crate::wire::time::WallTime;

impl Agent {
    /// Tells the machine what is kept here of what was ordered: the next sync names it.
    pub(super) fn name_desired_digests(&mut self) {
        self.machine.set_desired_digests(self.managed.digest(), self.runs_digest);
    }

    /// Keeps ordered settings, and has them put in place.
    pub(super) fn take_settings(&mut self, now: &Now, order: &SettingsOrder) {
        if let Err(error) = self.managed.take(order, now.wall) {
            // Settings that are not kept are not named: the server orders them again.
            log::error!("{}: ordered settings can't be kept: {error}", order.application);
            return;
        }
        self.name_desired_digests();
        if order.settings.is_none()
            && order.application == AGENT_NAME
            && let Err(error) = self.set_own(now, "{}")
        {
            log::error!("what the server had set of the agent stays in force: {error}");
        }
        self.set_own_when_ordered(now);
        self.managed_changed(now);
        // The helper begins with it, and what happened is flushed.
        self.has_more = true;
    }
}

/// Opens the ordered settings that are kept.
pub(super) fn open(directory: &Directory, now: WallTime) -> Result<Managed, RunError> {
    let path = directory.ordered();
    Managed::open(&path, now).map_err(|source| DirectoryError::Io(path, source).into())
}

impl Agent {
    /// Hands the next piece of work to a helper, one at a time.
    pub(super) fn manage_when_due(&mut self, now: &Now) {
        // Before the shutdown notice nothing new is begun: it would be interrupted.
        if self.mode.is_leaving() || self.mode.asleep().is_some() {
            return;
        }
        let Some(work) = self.managed.next_work(now.wall) else { return };
        if let Err(error) = self.helpers.manage(work.clone()) {
            log::warn!("no thread to put settings in place: {error}");
            self.managed.put_off(work);
        }
    }

    /// Says what has changed of the settings: in the conditions, and as events.
    pub(super) fn managed_changed(&mut self, now: &Now) {
        for event in self.managed.take_events() {
            if let Err(error) = self.append(&event, now.wall) {
                log::error!("{}: '{}' is not told: {error}", event.application, event.message);
            }
        }
        if self.sections.is_known {
            self.machine.section_changed(SectionContent::Conditions(self.conditions().into()));
        }
    }

    /// Appends an event of the agent itself.
    ///
    /// # Errors
    /// Why it is not in the spool, in words.
    pub(super) fn append(&mut self, event: &Event, now: WallTime) -> Result<(), String> {
        let body = event.to_bytes().map_err(|error| error.to_string())?;
        self.spool.append(event.severity, &body, now).map_err(|error| error.to_string())?;
        self.is_spool_dirty = true;
        Ok(())
    }

    /// The conditions, with how far the settings are; an application that has an order and no definition is
    /// among them.
    pub(super) fn conditions(&self) -> Vec<ApplicationCondition> {
        let mut conditions = self.sections.conditions.clone();
        if let Some(own) = conditions.iter_mut().find(|one| one.application == AGENT_NAME) {
            self.sections.add_own_problems(own, self.renewal_problem());
        }
        for (application, report) in self.managed.reports() {
            match conditions.iter().position(|known| known.application == application) {
                Some(known) => conditions[known].settings = Some(report),
                None if conditions.len() >= CONDITIONS_MAX => {}
                None => conditions.push(ApplicationCondition {
                    application: application.to_owned(),
                    condition: Condition::Unknown,
                    since: report.since,
                    version: String::new(),
                    detail: String::new(),
                    settings: Some(report),
                }),
            }
        }
        conditions.sort_unstable_by(|a, b| a.application.cmp(&b.application));
        conditions
    }

    /// Has what was ordered of the agent itself in force.
    pub(super) fn set_own_when_ordered(&mut self, now: &Now) {
        let Some(text) = self.managed.own_pending().map(str::to_owned) else { return };
        let result = self.set_own(now, &text);
        self.managed.settle(AGENT_NAME, result.map(|()| String::new()), now.wall);
        self.managed_changed(now);
    }

    fn set_own(&mut self, now: &Now, text: &str) -> Result<(), String> {
        let own = OwnSettings::parse(text)?;
        if let Some(key) = &own.release_key {
            pin_key_of_policy(self.directory.path(), &self.settings, key)?;
        }
        OwnSettings::keep(self.directory.path(), text).map_err(|error| error.to_string())?;
        self.own = own;
        let servers = self.own.servers(self.settings.server.as_deref(), &self.identity);
        self.connection.set_server(servers.map_err(|error| error.to_string())?);
        self.machine.set_own_interval(now, self.own.interval_seconds);
        self.judge_key();
        self.put_own_in_force().map_err(|error| error.to_string())
    }

    /// The log's level and the spool's quotas: as the device's file says, and above it what the server set.
    pub(super) fn put_own_in_force(&mut self) -> Result<(), SpoolError> {
        self.surroundings.set_log_level(self.own.log_level(&self.settings));
        self.spool.set_quotas(self.own.spool(&self.settings).quotas_bytes())
    }

    /// The numbers as they are now: they go with the next sync.
    pub(super) fn take_statistics(&mut self, mut own: Vec<Statistic>, applications: Vec<Statistic>) {
        own.push(statistics::spool(self.spool.bytes()));
        let (statistics, problem) = statistics::together(own, applications);
        self.sections.statistics_problem = problem;
        self.machine.set_statistics(statistics);
    }
}

const _: () = assert!(RUNS + CONCURRENT_RUNS_MAX <= super::LOCAL);

impl Agent {
    /// Keeps an ordered run, and has it executed.
    pub(super) fn take_run(&mut self, now: &Now, order: &RunOrder) {
        // A run that this device does not execute is refused at once, and not when its turn would come.
        let rejection = self.runs.plan(&self.settings, order).err();
        self.machine.forget_run(order.run);
        if let Err(error) = self.runs.accept(order, now, rejection) {
            log::error!("run {} is not accepted, the server will order it again: {error}", order.run);
        }
        self.work_on_runs(now);
    }

    /// Ends runs that the server does not want, and reports those that this device does not know.
    pub(super) fn take_run_list(&mut self, now: &Now, runs: &[RunId]) {
        for run in runs.iter().filter(|run| !self.runs.has(**run)) {
            // It is said anew.
            self.machine.forget_run(*run);
        }
        self.runs.keep_only(runs, now);
        self.work_on_runs(now);
    }

    /// Forgets runs whose final report is stored.
    pub(super) fn runs_stored(&mut self, now: &Now, acks: &[RunAck]) {
        if let Err(error) = self.runs.stored(acks) {
            log::error!("runs that are over can't be forgotten, they are reported again: {error}");
        }
        self.work_on_runs(now);
    }

    /// The line to a supervisor has something to say.
    pub(super) fn hear_run(&mut self, now: &Now, slot: usize) {
        self.runs.heard(slot, now);
    }

    /// Begins and looks at what is due, and has the machine report it.
    pub(super) fn work_on_runs(&mut self, now: &Now) {
        // An agent that is about to end begins nothing; what runs goes on under its supervisor.
        if !self.mode.is_leaving() {
            self.runs.note_uptime(uptime_milliseconds(), now);
            self.runs.work(&self.settings, self.poll.registry(), RUNS, now);
            self.work_on_artifacts();
        }
        for update in self.runs.take_news() {
            self.machine.report_run(update);
        }
        let digest = self.runs.digest();
        if digest != self.runs_digest {
            self.runs_digest = digest;
            self.name_desired_digests();
        }
    }

    /// A machine that has just been made hears what is not yet stored at its server.
    pub(super) fn hand_runs_in(&mut self) {
        for update in self.runs.final_reports() {
            self.machine.report_run(update);
        }
        self.runs_digest = self.runs.digest();
        self.name_desired_digests();
    }
}
