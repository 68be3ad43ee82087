//! After the faults: everything must come right, and what then happens must be seen as it is.

use muster::machine::wall_clock::GRACE_SECONDS;
use muster::wire::datagram::WakeReason;

use crate::world::{Step, World};

/// Longest time until a healed fleet is in sync, in simulated seconds: until a clock that was set is believed
/// and a run that nobody takes expires, the longest backoff, and a few intervals.
const IN_SYNC_SECONDS: u64 = GRACE_SECONDS + 3_600;

/// Time of the longest way back, in simulated seconds: a minute away after another link took over, the
/// longest backoff, three intervals to learn what was forgotten on one side.
const SETTLE_SECONDS: u64 = 480;

impl World {
    /// The attacker goes on meanwhile.
    pub(crate) fn liveness(&mut self) -> Result<(), String> {
        self.show("the faults stop");
        self.heal();
        self.restart_server()?;
        self.replay_everything();
        self.until_in_sync()?;
        self.rest(SETTLE_SECONDS)?;
        self.check_presence(true)?;
        self.check_reach()?;
        self.serve_beside_hostile()?;

        self.show("some go");
        self.some_go()?;
        self.rest(50)?;
        self.check_presence(true)?;
        self.rest(250)?;
        self.check_presence(true)?;
        self.call_all()?;
        self.show("the server starts anew");
        self.restart_server()?;
        self.rest(60)?;
        self.check_presence(false)?;
        self.rest(200)?;
        self.check_presence(true)?;

        self.show("all come back");
        for number in 0..self.devices.len() {
            self.after(1, Step::AgentStart(number));
            self.after(1, Step::Resume(number));
        }
        self.rest(300)?;
        self.check_presence(true)?;
        self.check_reach()?;
        self.call_all()?;
        self.until_in_sync()?;
        // Promised events are there after one more power cut.
        self.crash_server()?;
        self.start_server()
    }

    fn until_in_sync(&mut self) -> Result<(), String> {
        let end = self.now + IN_SYNC_SECONDS * 1_000_000;
        loop {
            self.rest(10)?;
            self.check_runs()?;
            match self.unfinished().or_else(|| self.desired_state_left()) {
                None if self.server.opened.is_some() => return Ok(()),
                Some(why) if self.now >= end => return Err(format!("not in sync after two hours: {why}")),
                _ => {}
            }
        }
    }

    pub(crate) fn rest(&mut self, seconds: u64) -> Result<(), String> {
        let end = self.now + seconds * 1_000_000;
        while self.step(end)? {}
        Ok(())
    }

    fn restart_server(&mut self) -> Result<(), String> {
        match self.server.opened.is_some() {
            true if self.chance(500) => self.stop_server(),
            true => self.crash_server(),
            false => Ok(()),
        }
    }

    /// Some say that they go, and not every notice arrives; one or another just falls silent.
    fn some_go(&mut self) -> Result<(), String> {
        self.air.notice_loss = self.random.up_to(1) * self.random.up_to(900);
        for number in 0..self.devices.len() {
            match self.random.up_to(4) {
                0 | 1 => {
                    let kind = self.any_departure();
                    if self.chance(500) {
                        self.emit(number);
                    }
                    self.leave(number, kind)?;
                }
                2 if self.devices[number].runs() => {
                    self.counts.agent_crashes += 1;
                    let link = self.devices[number].link;
                    let random = &mut self.random;
                    self.devices[number].crash(self.now, || random.up_to(1) == 0);
                    if let Some(link) = link.filter(|_| self.chance(500)) {
                        self.towards_server(link, 1_000_000, Step::ServerHearsEnd(link));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Everybody is called, and what is said of each must be true.
    pub(crate) fn call_all(&mut self) -> Result<(), String> {
        let reason = if self.chance(500) { WakeReason::Sync } else { WakeReason::Retrieve };
        let then: Vec<_> = self.devices.iter().map(|device| (device.truth, self.is_ahead(device))).collect();
        let asked = self.now;
        let operation = self.call(0..self.devices.len(), reason)?;
        self.rest(40)?;
        self.check_outcomes(operation, asked, &then)
    }
}
