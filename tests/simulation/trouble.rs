//! Faults, and the work that goes on meanwhile.

use muster::journal::sim::WriteFault;
use muster::machine::wall_clock::{GRACE_SECONDS, STEP_SECONDS};

use crate::desired::SCHEDULER_SECONDS;
use crate::device::Truth;
use crate::server::{DISK_BYTES, SEGMENT_BYTES};
use crate::world::{Step, World};

/// Interval at which the server writes back what it has in memory of its devices.
const WRITE_BACK_SECONDS: u64 = 10;

impl World {
    /// Once a simulated second: events and changes, and by chance a fault.
    pub(crate) fn trouble(&mut self) -> Result<(), String> {
        if !self.has_faults {
            return Ok(());
        }
        self.after(1_000_000, Step::Trouble);
        self.check_links()?;
        self.check_notices()?;
        if self.full_until != 0 && self.now >= self.full_until {
            self.full_until = 0;
            self.server.disk.set_capacity(DISK_BYTES);
        }
        for number in 0..self.devices.len() {
            if self.chance(200) {
                for _ in 0..=self.random.up_to(3) {
                    self.emit(number);
                }
            }
            if self.chance(30) {
                let change = self.random.up_to(50);
                self.devices[number].change_content(change);
                self.pump(number)?;
            }
            self.trouble_of(number)?;
        }
        self.check_runs()?;
        let rates = self.rates.clone();
        if self.server.opened.is_some() {
            self.change_desired_state()?;
        }
        if self.chance(rates.call) {
            self.call_somebody()?;
        }
        if self.chance(rates.partition) {
            self.partitioned_until = self.now + self.random.up_to(30_000_000);
            for link in self.links.keys().copied().collect::<Vec<_>>() {
                self.break_link(link);
            }
        }
        if self.chance(rates.disk_full) && self.full_until == 0 {
            self.counts.full_disks += 1;
            self.full_until = self.now + self.random.up_to(60_000_000);
            self.server.disk.set_capacity(SEGMENT_BYTES);
        }
        if self.chance(rates.disk_hang) && self.hangs_until <= self.now {
            self.counts.disk_hangs += 1;
            self.hangs_until = self.now + self.random.up_to(20_000_000);
        }
        if self.chance(rates.clock_jump) {
            self.counts.clock_steps += 1;
            let before = self.server.clock.offset;
            self.server.clock.offset = self.any_step(before);
            self.show(&format!("the clock is set from {before} to {}", self.server.clock.offset));
            self.has_unnoticed |= self.server.clock.offset.abs_diff(before) <= STEP_SECONDS * 1_000;
            self.clock_stepped_at = self.now;
            self.note_clock_trouble();
        }
        if self.server.opened.is_some() {
            self.copy_now_and_then()?;
            if self.chance(rates.server_crash) {
                match self.random.up_to(4) {
                    4 => self.stop_server()?,
                    0 => {
                        let fault = if self.chance(500) { WriteFault::PowerCut } else { WriteFault::Short };
                        self.server.disk.fail_after(self.random.up_to(3), fault);
                    }
                    _ => self.crash_server()?,
                }
            } else if self.chance(rates.restore) {
                self.restore_server()?;
            }
        }
        Ok(())
    }

    /// A clock is set: to any year, or some minutes to two years off.
    fn any_step(&mut self, offset: u64) -> u64 {
        let by = 60_000 << self.random.up_to(20);
        match self.random.up_to(2) {
            0 => self.random.up_to(1 << 42),
            1 => offset.saturating_sub(by),
            _ => offset.saturating_add(by),
        }
    }

    /// Tasks are due anew from here on.
    fn note_clock_trouble(&mut self) {
        self.clock_troubles += 1;
        self.tasks_from = self.now;
    }

    /// Work by age: none may happen, while the clock is not to be believed.
    pub(crate) fn watch_clock(&mut self) -> Result<(), String> {
        let now = self.server_now();
        self.server.watch_clock(now);
        self.noticed_troubles = self.clock_troubles;
        if let Some(end) = self.server.retain(now)? {
            let believed_at = self.clock_stepped_at + GRACE_SECONDS * 1_000_000;
            // A store that was put back remembers another time: a step before the next start may be hidden by
            // it.
            let is_hidden =
                self.store_restored_at > 0 && self.clock_stepped_at <= self.server.started.moment.0;
            if self.now < believed_at && !is_hidden {
                return Err(format!(
                    "the journal was deleted up to {end} for its age, right after the clock stepped"
                ));
            }
            self.counts.aged += 1;
        }
        Ok(())
    }

    /// Both parts at one moment, or each at its own.
    fn copy_now_and_then(&mut self) -> Result<(), String> {
        let has_both = self.journal_copy.is_some() && self.store_copy.is_some();
        if has_both || self.rates.restore == 0 || !self.chance(100) {
            return Ok(());
        }
        self.flush()?;
        if self.server.opened.is_none() {
            return Ok(());
        }
        let parts = self.random.up_to(3);
        if parts != 0 && self.journal_copy.is_none() {
            self.journal_copy = Some((self.server.copy_journal(), self.promised.clone()));
        }
        if parts != 1 && self.store_copy.is_none() {
            self.store_copy = Some(self.server.copy_store());
        }
        Ok(())
    }

    fn trouble_of(&mut self, number: usize) -> Result<(), String> {
        let rates = self.rates.clone();
        if self.chance(rates.leave) && self.devices[number].runs() {
            let kind = self.any_departure();
            self.leave(number, kind)?;
            let delay = 3_000_000 + self.random.up_to(30_000_000);
            self.after(delay, Step::AgentStart(number));
            self.after(delay, Step::Resume(number));
        }
        if self.chance(rates.move_away) {
            self.counts.moves += 1;
            let is_nated = self.random.up_to(2) == 0;
            self.devices[number].move_away(is_nated);
            if let Some(link) = self.devices[number].link {
                self.break_link(link);
            }
        }
        if self.chance(rates.link_break)
            && let Some(link) = self.devices[number].link
        {
            self.break_link(link);
        }
        if self.chance(rates.spool_drop) {
            let (first, count) = (self.random.up_to(8), self.random.up_to(3));
            self.counts.spool_drops += self.devices[number].drop_events(first, count);
        }
        if self.chance(20) && self.devices[number].image.is_none() {
            self.devices[number].image = Some(self.devices[number].disk.clone());
        }
        if self.chance(rates.clock_jump) {
            self.devices[number].wall_offset = self.random.up_to(1 << 42);
        }
        let rolls_back = self.chance(rates.roll_back) && self.devices[number].image.is_some();
        if self.devices[number].machine.is_some() && (rolls_back || self.chance(rates.agent_crash)) {
            if let Some(link) = self.devices[number].link {
                // The server may hear of it, or not.
                if self.chance(500) {
                    let delay = self.random.up_to(3_000_000);
                    self.towards_server(link, delay, Step::ServerHearsEnd(link));
                }
            }
            if rolls_back {
                self.counts.roll_backs += 1;
                self.devices[number].roll_back(self.now);
            } else {
                self.counts.agent_crashes += 1;
                let random = &mut self.random;
                self.devices[number].crash(self.now, || random.up_to(1) == 0);
            }
            let delay = self.random.up_to(10_000_000);
            self.after(delay, Step::AgentStart(number));
        }
        Ok(())
    }

    /// Nothing more arrives; each end hears of it soon, late, or only from the silence.
    pub(crate) fn break_link(&mut self, link: u32) {
        if self.device_of(link).is_none() {
            // A hostile device makes another one at once.
            let _ = self.server_hears_end(link);
            return;
        }
        let Some(ends) = self.links.get_mut(&link) else { return };
        if std::mem::replace(&mut ends.is_broken, true) {
            return;
        }
        self.counts.link_breaks += 1;
        let (soon, late) = (self.random.up_to(1_000_000), self.random.up_to(20_000_000));
        if self.random.up_to(3) > 0 {
            self.after(soon, Step::AgentHearsEnd(link));
        }
        if self.random.up_to(3) > 0 {
            self.after(late, Step::ServerHearsEnd(link));
        }
    }

    /// The server is killed, or the power goes; it starts again after a while.
    pub(crate) fn crash_server(&mut self) -> Result<(), String> {
        self.counts.server_crashes += 1;
        // A shutdown notice that was taken just now is not in the store yet.
        for device in &mut self.devices {
            if let Truth::Said { counter, is_heard, .. } = &mut device.truth {
                let written = self.server.written.get(&device.id);
                *is_heard &= written.is_some_and(|written| written.notice_counter >= *counter);
            }
        }
        self.server.stop();
        if self.random.up_to(1) == 0 {
            self.server.disk.power_cut();
        } else {
            self.server.disk.kill();
        }
        let damage = self.rates.damage * 10;
        if self.has_faults && self.chance(damage) {
            self.counts.damages += u64::from(self.server.damage_journal(&mut self.random));
        }
        self.after_stop();
        Ok(())
    }

    /// An administrator puts old copies in the place of what there is. Records that were stored since are
    /// gone, and nobody promised otherwise.
    fn restore_server(&mut self) -> Result<(), String> {
        if self.journal_copy.is_none() && self.store_copy.is_none() {
            return Ok(());
        }
        self.counts.restores += 1;
        self.server.stop();
        // 'musterd backup restore' puts both parts back and draws another epoch; a copy of files does not.
        let has_new_epoch = self.journal_copy.is_some() && self.store_copy.is_some() && self.chance(500);
        if let Some((copy, promised)) = self.journal_copy.take() {
            let seed = self.random.next_u64();
            self.server.restore_journal(&copy, seed);
            self.promised = promised;
        } else {
            self.server.disk.kill();
        }
        if let Some(copy) = self.store_copy.take() {
            self.show("the store is restored");
            self.server.restore_store(copy);
            self.store_restored_at = self.now;
        }
        if has_new_epoch {
            self.server.draw_epoch(&mut self.random);
        }
        self.full_until = 0;
        self.after_stop();
        // Acknowledgements of the life that is undone are not under way any more.
        for number in 0..self.devices.len() {
            if let Some(link) = self.devices[number].link {
                self.agent_hears_end(number, link, "the server was restored")?;
            }
        }
        self.links.clear();
        Ok(())
    }

    pub(crate) fn after_stop(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.break_link(link);
        }
        self.links.retain(|link, _| self.devices.iter().any(|device| device.link == Some(*link)));
        let delay = self.random.up_to(5_000_000);
        self.after(delay, Step::ServerStart);
    }

    pub(crate) fn start_server(&mut self) -> Result<(), String> {
        if self.server.opened.is_some() {
            return Ok(());
        }
        let hostiles = self.hostiles.iter().map(|hostile| (hostile.id, false));
        let devices: Vec<_> =
            self.devices.iter().map(|device| (device.id, device.persistent)).chain(hostiles).collect();
        let (now, seed) = (self.server_now(), self.random.next_u64());
        self.note_clock_trouble();
        self.server.start(now, seed, devices.into_iter())?;
        self.noticed_troubles = self.clock_troubles;
        self.after(WRITE_BACK_SECONDS * 1_000_000, Step::WriteBack(self.server.life));
        self.after(SCHEDULER_SECONDS * 1_000_000, Step::Scheduler(self.server.life));
        self.check_promises()
    }

    /// Only in the life of the server in which it was due.
    pub(crate) fn write_back(&mut self, life: u32) {
        if self.server.opened.is_some() && life == self.server.life {
            let now = self.server_now();
            if self.server.write_back(now) {
                self.note_known();
            }
            self.after(WRITE_BACK_SECONDS * 1_000_000, Step::WriteBack(life));
        }
    }

    /// The faults stop.
    pub(crate) fn heal(&mut self) {
        self.has_faults = false;
        self.partitioned_until = 0;
        self.full_until = 0;
        self.hangs_until = 0;
        self.server.disk.set_capacity(DISK_BYTES);
        self.server.disk.fail_after(u64::MAX / 2, WriteFault::Short);
        self.after(0, Step::ServerStart);
        self.after(0, Step::Flush);
        for number in 0..self.devices.len() {
            // Once more for those who were just about to go.
            for delay in [1, 5_000_000] {
                self.after(delay, Step::AgentStart(number));
                self.after(delay, Step::Resume(number));
            }
        }
    }
}
