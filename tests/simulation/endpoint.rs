//! The server's endpoints in this world: what they need of the rest of the server, and the rules that a
//! planted bug breaks.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use muster::machine::clones::Verdict;
use muster::machine::command::CallStep;
use muster::machine::device_state::{DeviceState, LinkRef};
use muster::machine::endpoint::{AppendRefusal, Connection, Endpoint, Rule, Rules, Services, Tally};
use muster::machine::session::SyncPolicy;
use muster::machine::session::testing::policy;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::message::{Reach, Sync, ToAgent};
use muster::wire::time::{Moment, Now};

use crate::bug::Bug;
use crate::world::World;

/// Endpoints of the server, as a machine with this many cores has them: a device's links may be in both.
pub(crate) const ENDPOINTS: u8 = 2;

/// The server's end of a link.
pub(crate) struct End {
    pub(crate) link: u32,
    pub(crate) peer: IpAddr,
    /// Messages that have come and were not taken yet, as there was no room.
    pub(crate) inbox: VecDeque<Vec<u8>>,
    /// The peer is gone: so far as it goes, what is in the inbox is still taken.
    pub(crate) is_left: bool,
    pub(crate) is_blocked: bool,
    /// Its first word has been heard.
    pub(crate) has_spoken: bool,
}

impl Connection for End {
    fn peer(&self) -> Option<IpAddr> {
        Some(self.peer)
    }
}

pub(crate) type ServerEndpoint = Endpoint<End, Planted>;

/// Breaks the rule that a bug is about.
#[derive(Clone, Copy)]
pub(crate) struct Planted {
    pub(crate) bug: Bug,
    /// Devices up to this one are honest.
    pub(crate) honest: u64,
}

impl Rules for Planted {
    fn breaks(&self, rule: Rule) -> bool {
        self.bug.broken_rule() == Some(rule)
    }

    fn instead_of(&self, device: DeviceId) -> DeviceId {
        if device.0 > self.honest { DeviceId(1) } else { device }
    }
}

/// Effects of an endpoint's call elsewhere; done when it has returned.
enum Effect {
    Restored(DeviceId),
    Called(DeviceId, CallStep),
    Probe(DeviceId, SocketAddr, u32),
    Syncs(DeviceId, Reach),
    Held,
    Broken(String),
}

pub(crate) struct SimServices<'a> {
    world: RefCell<&'a mut World>,
    records: RefCell<BTreeMap<DeviceId, DeviceState>>,
    effects: RefCell<Vec<Effect>>,
}

impl Services for SimServices<'_> {
    type Record<'a>
        = RefMut<'a, DeviceState>
    where
        Self: 'a;

    fn record(&self, device: DeviceId) -> Option<RefMut<'_, DeviceState>> {
        RefMut::filter_map(self.records.borrow_mut(), |records| records.get_mut(&device)).ok()
    }

    fn syncs(&self, _: &Now, record: &DeviceState, sync: &Sync, _: Option<IpAddr>) -> Verdict {
        let effect = sync.reach.map(|reach| Effect::Syncs(record.device, reach));
        self.effects.borrow_mut().extend(effect);
        Verdict::Serve
    }

    fn taken_over(&self, _: &Now, _: DeviceId, _: Option<IpAddr>) {}

    fn policy(&self, record: Option<&DeviceState>, _: &Now) -> SyncPolicy {
        self.world.borrow_mut().policy(record)
    }

    fn append(
        &self,
        _: &Now,
        device: DeviceId,
        spool_epoch: Epoch,
        sequence: u64,
        body: &[u8],
    ) -> Result<u64, AppendRefusal> {
        let world = &mut *self.world.borrow_mut();
        // As the watch shows it: what nobody has looked at yet is in no stamp.
        let wall = world.server.clock.watch.wall(Moment(world.now));
        let is_swapped = world.bug == Bug::EventForAnother && device.0 > world.devices.len() as u64;
        let device = if is_swapped { world.devices[0].id } else { device };
        let crc = crc32c::crc32c(body);
        match world.server.append((device, spool_epoch, sequence), body, crc, wall) {
            Ok(taken) => taken,
            Err(problem) => {
                self.effects.borrow_mut().push(Effect::Broken(problem));
                Err(AppendRefusal::Full)
            }
        }
    }

    fn events_held(&self, _: &Now, _: DeviceId, _: u32) {
        self.effects.borrow_mut().push(Effect::Held);
    }

    fn settle(&self, _: &Now, _: &mut DeviceState) -> bool {
        false
    }

    fn server_restored(&self, device: DeviceId) {
        self.effects.borrow_mut().push(Effect::Restored(device));
    }

    fn called(&self, device: DeviceId, step: CallStep) {
        self.effects.borrow_mut().push(Effect::Called(device, step));
    }

    fn probe(&self, device: DeviceId, address: SocketAddr, counter: u32) {
        self.effects.borrow_mut().push(Effect::Probe(device, address, counter));
    }

    fn devices_per_second(&self) -> u64 {
        1_000
    }

    fn reconnect_seconds(&self) -> u32 {
        30
    }
}

/// Effects of one call: the messages to send, and the device to which it was refused.
pub(crate) struct Said {
    transmits: Vec<(u32, ToAgent)>,
    tally: Tally,
    effects: Vec<Effect>,
}

impl World {
    pub(crate) fn name_of(&self, link: u32) -> Option<LinkRef> {
        self.server.names.get(&link).copied()
    }

    /// The link that has this name, while it is there.
    pub(crate) fn link_of(&mut self, name: LinkRef) -> Option<u32> {
        let endpoint = self.server.endpoints.get_mut(usize::from(name.reactor()))?;
        endpoint.connection(name).map(|end| end.link)
    }

    pub(crate) fn end_of(&mut self, link: u32) -> Option<&mut End> {
        let name = self.name_of(link)?;
        self.server.endpoints.get_mut(usize::from(name.reactor()))?.connection(name)
    }

    /// A link's handshake has ended: one of the endpoints has it.
    pub(crate) fn open(&mut self, link: u32, device: DeviceId, peer: IpAddr) {
        let number = usize::try_from(self.random.up_to(u64::from(ENDPOINTS) - 1)).unwrap_or(0);
        let now = self.server_now();
        let Some(endpoint) = self.server.endpoints.get_mut(number) else { return };
        let Some(name) = endpoint.vacancy() else { return };
        let inbox = VecDeque::new();
        endpoint.insert(End { link, peer, inbox, is_left: false, is_blocked: false, has_spoken: false });
        endpoint.open(&now, name, Some(device));
        self.server.names.insert(link, name);
        self.watch_session(link);
    }

    /// Has an endpoint work, and does what comes of it but for the messages.
    pub(crate) fn with_endpoint<T>(
        &mut self,
        number: usize,
        work: impl FnOnce(&mut ServerEndpoint, &Now, &SimServices<'_>) -> T,
    ) -> Result<(Option<T>, Said), String> {
        let now = self.server_now();
        let nothing = Said { transmits: Vec::new(), tally: Tally::default(), effects: Vec::new() };
        if number >= self.server.endpoints.len() {
            return Ok((None, nothing));
        }
        // The parts of the world that the endpoint is lent come back behind the call.
        let mut endpoint = self.server.endpoints.remove(number);
        let records = RefCell::new(std::mem::take(&mut self.server.records));
        let services = SimServices { world: RefCell::new(self), records, effects: RefCell::default() };
        let result = work(&mut endpoint, &now, &services);
        let SimServices { records, effects, .. } = services;
        let mut transmits = Vec::new();
        while let Some((name, message)) = endpoint.poll_transmit() {
            transmits.extend(endpoint.connection(name).map(|end| (end.link, message)));
        }
        let tally = endpoint.take_tally();
        self.server.records = records.into_inner();
        self.server.endpoints.insert(number, endpoint);
        Ok((Some(result), Said { transmits, tally, effects: effects.into_inner() }))
    }

    /// The same for what needs no look at its answer.
    pub(crate) fn tell_endpoint(
        &mut self,
        number: usize,
        work: impl FnOnce(&mut ServerEndpoint, &Now, &SimServices<'_>),
    ) -> Result<(), String> {
        let (_, said) = self.with_endpoint(number, work)?;
        self.carry_out(number, said, None)
    }

    /// Does what an endpoint wants done, as a reactor does. `link`: what was said came on it.
    pub(crate) fn carry_out(&mut self, number: usize, said: Said, link: Option<u32>) -> Result<(), String> {
        let Said { transmits, tally, effects } = said;
        let first = transmits.iter().find(|(of, _)| Some(*of) == link);
        let is_refused = matches!(first, Some((_, ToAgent::Error(_))));
        if tally.has_appended || tally.acks_queued > 0 || tally.events_refused > 0 {
            self.flush_soon();
        }
        self.counts.no_room += tally.events_refused;
        self.counts.syncs += tally.syncs;
        for (link, message) in transmits {
            self.send(link, &message)?;
        }
        for effect in effects {
            match effect {
                Effect::Broken(problem) => return Err(problem),
                Effect::Held => self.counts.events_held += 1,
                Effect::Restored(device) => self.server_restored(device)?,
                Effect::Called(device, step) => {
                    self.server.wake_scheduler.step(Moment(self.now), device, step);
                    self.drain_wake_scheduler()?;
                }
                Effect::Probe(device, address, counter) => self.probe(device, address, counter),
                Effect::Syncs(device, reach) if !is_refused => {
                    let over = self.server.over_through.entry(device).or_default();
                    *over = (*over).max(reach.notice_counter);
                }
                Effect::Syncs(..) => {}
            }
        }
        self.carry_out_rest(number)
    }

    /// Answer to a sync.
    fn policy(&mut self, record: Option<&DeviceState>) -> SyncPolicy {
        let has_room = !(self.has_faults && self.chance(50)) && self.server.permits.free() > 2;
        let device = record.map_or(DeviceId(0), |record| record.device);
        let number = usize::try_from(device.0).ok().and_then(|id| id.checked_sub(1));
        // Of the hostile ones some are kept as well.
        let persistent = match number.and_then(|number| self.devices.get(number)) {
            Some(device) => device.persistent,
            None => device.0.is_multiple_of(2),
        };
        SyncPolicy {
            trust_label: 0,
            server_epoch: self.server.server_epoch,
            next_seconds: 60 + u32::try_from(self.random.up_to(60)).unwrap_or(0),
            interval_seconds: 120,
            keep_seconds: persistent.then_some(20),
            has_room,
            has_fetch_room: has_room,
            reconnect_seconds: u32::try_from(self.random.up_to(30)).unwrap_or(0),
            event_rate: self.event_rate,
            ..policy()
        }
    }
}
