//! The agent's side: what its machine wants done, and what the network brings it.

use muster::machine::agent::{Action, AgentState};
use muster::wire::frame;
use muster::wire::message::ToAgent;
use muster::wire::time::Moment;

use crate::world::{Link, Step, World};

impl World {
    /// Takes the agent's actions until there is none, then sets its timer.
    pub(crate) fn pump(&mut self, number: usize) -> Result<(), String> {
        let now = self.agent_now(number);
        for _ in 0..10_000 {
            // A device that sleeps does nothing.
            let Some(machine) = self.devices[number].awake() else { return Ok(()) };
            let Some(action) = machine.poll(&now) else {
                let next = machine.next_timeout();
                if self.devices[number].leaving.is_some() && self.devices[number].has_delivered() {
                    self.say_goodbye(number);
                    return Ok(());
                }
                let device = &mut self.devices[number];
                if let Some(next) = next
                    && device.wake_at.is_none_or(|at| next < at || at.0 < self.now)
                {
                    let next = next.max(Moment(self.now + 1));
                    device.wake_at = Some(next);
                    self.at(next.0, Step::Wake(number));
                }
                return Ok(());
            };
            self.act(number, action)?;
        }
        Err(format!("device {number} never rests"))
    }

    fn act(&mut self, number: usize, action: Action) -> Result<(), String> {
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        match action {
            Action::Connect => {
                let link = self.next_link;
                self.next_link += 1;
                device.link = Some(link);
                let delay = self.delay();
                let lives = self.server.opened.is_some() && self.now >= self.partitioned_until;
                let answer = if lives { Step::Connected(number, link) } else { Step::Refused(number, link) };
                let ends = self.now + delay;
                let (device, peer) = (self.devices[number].id, self.devices[number].address.ip());
                let ends = Link { device, peer, is_broken: false, to_server_at: ends, to_agent_at: ends };
                self.links.insert(link, ends);
                self.after(delay, answer);
            }
            Action::Send(bytes) => {
                let delay = self.delay();
                if let Some(link) = self.devices[number].link {
                    self.towards_server(link, delay, Step::ToServer(link, bytes));
                }
            }
            Action::CloseLink(_) => {
                let delay = self.delay();
                if let Some(link) = self.devices[number].link.take() {
                    self.towards_server(link, delay, Step::ServerHearsEnd(link));
                }
            }
            Action::TakeSettings(order) => self.take_settings(number, *order),
            Action::TakeRun(order) => self.take_run(number, &order),
            Action::TakeRunList(runs) => self.take_run_list(number, &runs),
            Action::RunsStored(acks) => self.runs_stored(number, &acks),
            Action::ReadSpool { after_sequence, max_bytes, max_events } => {
                let mut bytes = 0;
                let found = device.disk.events.range(after_sequence + 1..).take(max_events);
                let found: Vec<_> = found
                    .take_while(|(_, body)| {
                        let fits = bytes == 0 || bytes + body.len() <= max_bytes;
                        bytes += body.len();
                        fits
                    })
                    .map(|(sequence, body)| (*sequence, body.clone()))
                    .collect();
                if let Some(machine) = &mut device.machine {
                    machine.spool_read(&now, &found);
                }
            }
            Action::ForgetThrough { sequence } => self.forget(number, sequence)?,
            Action::Recall { after_sequence } => {
                self.counts.recalls += 1;
                device.say_what_is_gone(after_sequence);
                device.forgotten_unsynced = after_sequence;
            }
            Action::NewSpoolEpoch { epoch } => {
                if epoch <= device.disk.epoch {
                    return Err(format!("device {number}: the new spool epoch is not higher"));
                }
                device.disk.epoch = epoch;
                self.counts.new_epochs += 1;
            }
            Action::SaveState(state) => {
                let bytes = state.to_bytes();
                if AgentState::from_bytes(&bytes).as_ref() != Some(&*state) {
                    return Err("the agent's state does not survive its bytes".into());
                }
                device.disk.state = Some(bytes);
            }
            Action::SaveBase(base) => device.disk.base = Some(base),
            Action::LookAnew(reason) => {
                let (delay, life) = (self.random.up_to(2_000_000), device.life);
                self.after(delay, Step::Looked(number, life, reason));
            }
            Action::RaiseNoticeCounter { counter } => device.raise_notice_counter(counter),
            Action::EventsHeld { .. }
            | Action::SyncFinished(_)
            | Action::Fork(_)
            | Action::TakeTrust(_)
            | Action::TakeArtifactPart(_)
            | Action::MakeRequest
            | Action::StoreCertificate(_)
            | Action::Show(_)
            | Action::Forget(_) => {}
        }
        Ok(())
    }

    /// The device was told that everything up to `through` is durable: is it?
    fn forget(&mut self, number: usize, through: u64) -> Result<(), String> {
        let device = &mut self.devices[number];
        let (id, epoch) = (device.id, device.disk.epoch);
        let from = device.forgotten_unsynced + 1;
        for (sequence, body) in device.disk.events.range(from..=through.max(from)) {
            if *sequence > through {
                continue;
            }
            let key = (id, epoch, *sequence);
            let crc = crc32c::crc32c(body);
            let is_dropped = device.dropped.contains(&(epoch, *sequence, crc));
            if is_dropped || self.server.damaged.contains(&key) || device.gone.contains(&(epoch, *sequence)) {
                continue;
            }
            // An event that was acknowledged before the spool began another epoch may come again in that one,
            // after a crash that undid the forgetting. It is where it was.
            let Some(stored) = self.server.stored_as(key, crc) else {
                return Err(format!("{key:?} was acknowledged and is not in the journal"));
            };
            self.promised.insert(stored, crc);
            self.counts.acknowledged += 1;
        }
        device.forgotten_unsynced = through;
        Ok(())
    }

    pub(crate) fn agent_hears(&mut self, link: u32, bytes: &[u8]) -> Result<(), String> {
        let Some((number, _)) = self.device_of(link) else { return Ok(()) };
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        let is_open = device.link == Some(link);
        let Some(machine) = device.awake().filter(|_| is_open) else { return Ok(()) };
        let (body, _) = frame::split(bytes).map_err(|e| e.to_string())?.ok_or("half a frame")?;
        machine.message(&now, ToAgent::from_body(body).map_err(|error| error.to_string())?);
        self.pump(number)
    }

    pub(crate) fn agent_hears_end(&mut self, number: usize, link: u32, reason: &str) -> Result<(), String> {
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        // A device that sleeps finds out when it wakes up.
        if device.link != Some(link) || device.is_asleep {
            return Ok(());
        }
        device.link = None;
        if let Some(machine) = &mut device.machine {
            machine.disconnected(&now, reason);
        }
        self.pump(number)
    }
}
