//! The steps in which the server calls the device, and the device sends its shutdown notice.

use std::time::Instant;

use crate::wire::api::{CallLine, CallOutcome, CallRequest, CallVia, DeviceChange, Presence};

use super::process::wait_for;
use super::steps::{DEVICE, Demo};
use super::{Failure, shown};

/// Wakes that are timed: one alone says little.
const WAKES: usize = 10;

impl Demo {
    pub(super) fn wake_the_disconnected_agent(&mut self) -> Result<(), Failure> {
        let (mut begun, mut synced) = (Vec::new(), Vec::new());
        for _ in 0..WAKES {
            self.wait_for_presence(Presence::Idle)?;
            let outcome = self.call(false)?;
            let CallOutcome::Synced { by: CallVia::Wake, begun_microseconds, synced_microseconds } = outcome
            else {
                return Err(Failure::new(format!("the agent was to be woken: {outcome}")));
            };
            begun.push(begun_microseconds);
            synced.push(synced_microseconds);
        }
        self.tell(
            "wake, forced sync",
            &format!("the agent was not connected; one authenticated datagram of 56 bytes made it come, {WAKES} times"),
            &[
                format!("sync begun after {}", spread(&mut begun)),
                format!("in sync after {}", spread(&mut synced)),
            ],
        );
        Ok(())
    }

    pub(super) fn force_a_fresh_look(&mut self) -> Result<(), Failure> {
        self.wait_for_presence(Presence::Idle)?;
        let started = Instant::now();
        let outcome = self.call(true)?;
        if !outcome.is_synced() {
            return Err(Failure::new(format!("the device was to look at itself anew: {outcome}")));
        }
        self.tell(
            "retrieve now",
            "woken again, and asked to look at itself anew before it syncs ('device show --now')",
            &[format!(
                "{} until its packages, conditions and host facts of this moment were here",
                shown(started.elapsed())
            )],
        );
        Ok(())
    }

    pub(super) fn keep_the_connection(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        self.keep(true)?;
        self.wait_for_presence(Presence::Connected)?;
        let stays = started.elapsed();
        let mut begun = Vec::new();
        for _ in 0..WAKES {
            let outcome = self.call(false)?;
            let CallOutcome::Synced { by: CallVia::Link, begun_microseconds, .. } = outcome else {
                return Err(Failure::new(format!("the agent was to be asked on its link: {outcome}")));
            };
            begun.push(begun_microseconds);
        }
        self.tell(
            "persistent link",
            "'do not disconnect': the agent was called to stay, and from now on is asked on its link",
            &[
                format!("stays {} after it was asked to", shown(stays)),
                format!("forced sync begun after {}", spread(&mut begun)),
            ],
        );
        Ok(())
    }

    pub(super) fn hear_the_notice(&mut self) -> Result<(), Failure> {
        let Some(agent) = self.agent.take() else { return Err(Failure::new("there is no agent to stop")) };
        let took = agent.stop()?;
        let device = self.client.device(DEVICE)?;
        if device.device.presence != Presence::AgentStopped {
            let presence = device.device.presence;
            return Err(Failure::new(format!("the agent was stopped, and the server says '{presence}'")));
        }
        let outcome = self.call(false)?;
        self.start_agent()?;
        let restarted = Instant::now();
        self.wait_for_presence(Presence::Connected)?;
        self.keep(false)?;
        let changes = wait_for("the changes of presence", || {
            let changes = self.events_of_kind("presence")?;
            Ok(changes
                .iter()
                .any(|change| change.message.starts_with("agent stopped"))
                .then_some(changes.len()))
        })?;
        self.tell(
            "shutdown notice",
            "the agent was asked to end (SIGTERM): it delivered what it had and said so, and the server tells it from a lost one",
            &[
                format!("ended after {}", shown(took)),
                format!("back {} after it was started again", shown(restarted.elapsed())),
                format!("{changes} changes of presence in the log of events"),
            ],
        );
        self.quote("a forced sync meanwhile", &outcome.to_string());
        Ok(())
    }

    fn keep(&mut self, keep: bool) -> Result<(), Failure> {
        let change = DeviceChange { keep_connected: Some(keep.into()), ..DeviceChange::default() };
        Ok(self.client.change_device(DEVICE, &change).map(drop)?)
    }

    /// Calls the device and waits for what becomes of it.
    fn call(&mut self, is_fresh: bool) -> Result<CallOutcome, Failure> {
        let request =
            CallRequest { devices: vec![DEVICE.into()], is_fresh, wait: true, ..CallRequest::default() };
        for line in self.client.sync(&request)? {
            if let CallLine::Device(called) = line? {
                return Ok(called.outcome);
            }
        }
        Err(Failure::new("a call without an outcome"))
    }

    fn wait_for_presence(&mut self, presence: Presence) -> Result<(), Failure> {
        self.wait_for_device(&format!("the device to be {presence}"), |device| {
            device.device.presence == presence
        })
        .map(drop)
    }
}

/// The median, and the longest.
fn spread(microseconds: &mut [u64]) -> String {
    microseconds.sort_unstable();
    let shown_at = |at: usize| {
        shown(std::time::Duration::from_micros(microseconds.get(at).copied().unwrap_or_default()))
    };
    format!(
        "{} (median; longest {})",
        shown_at(microseconds.len() / 2),
        shown_at(microseconds.len().saturating_sub(1))
    )
}
