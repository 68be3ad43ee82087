//! Frames of any content on several links of two devices and strangers, with outcomes, durable positions,
//! deadlines and a stop in between: nothing panics, no permit is lost, a device's link is one that is there.
#![no_main]

use std::cell::{Cell, RefCell, RefMut};
use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use muster::machine::acks::AckQueue;
use muster::machine::close::CloseReason;
use muster::machine::command::CallStep;
use muster::machine::device_state::{DeviceState, LinkRef};
use muster::machine::endpoint::{AppendRefusal, Connection, Endpoint, Kept, Services};
use muster::machine::permits::{Permit, Permits};
use muster::machine::rate::EventRate;
use muster::machine::session::{LATER_SECONDS, SyncPolicy};
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::message::Sync;
use muster::wire::time::{Moment, Now, WallTime};

const PERMITS: usize = 3;

struct Fake {
    records: [RefCell<DeviceState>; 2],
    appended: Cell<u64>,
}

impl Services for Fake {
    type Record<'a> = RefMut<'a, DeviceState>;

    fn record(&self, device: DeviceId) -> Option<RefMut<'_, DeviceState>> {
        Some(self.records.iter().find(|record| record.borrow().device == device)?.borrow_mut())
    }

    fn syncs(&self, _: &Now, _: &DeviceState, _: &Sync, _: Option<IpAddr>) {}

    fn taken_over(&self, _: &Now, _: DeviceId, _: Option<IpAddr>) {}

    fn policy(&self, record: Option<&DeviceState>, _: &Now) -> SyncPolicy {
        SyncPolicy {
            server_epoch: Epoch(1),
            next_seconds: 60,
            interval_seconds: 60,
            keep_seconds: record.map(|_| 20),
            has_room: true,
            reconnect_seconds: 0,
            later_seconds: LATER_SECONDS,
            peer: None,
            notice_port: None,
            event_rate: EventRate::default(),
        }
    }

    fn append(&self, _: &Now, _: DeviceId, _: Epoch, _: u64, body: &[u8]) -> Result<u64, AppendRefusal> {
        match body.len() % 16 {
            14 => Err(AppendRefusal::Behind),
            15 => Err(AppendRefusal::Full),
            _ => {
                self.appended.set(self.appended.get() + 64);
                Ok(self.appended.get())
            }
        }
    }

    fn events_held(&self, _: &Now, _: DeviceId, _: u32) {}

    fn settle(&self, _: &Now, _: &mut DeviceState) -> bool {
        false
    }

    fn server_restored(&self, _: DeviceId) {}

    fn called(&self, _: DeviceId, _: CallStep) {}

    fn probe(&self, _: DeviceId, _: SocketAddr, _: u32) {}

    fn devices_per_second(&self) -> u64 {
        100
    }

    fn reconnect_seconds(&self) -> u32 {
        10
    }
}

struct Nowhere;

impl Connection for Nowhere {
    fn peer(&self) -> Option<IpAddr> {
        None
    }
}

fuzz_target!(|data: &[u8]| {
    let record = |id| RefCell::new(DeviceState::new(DeviceId(id), 60));
    let services = Fake { records: [record(1), record(2)], appended: Cell::new(0) };
    let permits = Permits::new(PERMITS);
    let mut endpoint: Endpoint<Nowhere> = Endpoint::new(0, permits.clone(), AckQueue::new(), 1, Kept);
    let mut links: Vec<LinkRef> = Vec::new();
    let mut jobs: Vec<(LinkRef, _, Permit)> = Vec::new();
    let mut now = Now { moment: Moment(1_000_000), wall: WallTime(1_000) };
    let mut rest = data;
    while let Some((&[choice, length], behind)) = rest.split_first_chunk::<2>() {
        let (body, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        now.moment.0 += u64::from(length) * 100_000;
        let link = links.get(usize::from(choice >> 4) % links.len().max(1)).copied();
        match (choice & 15, link) {
            (0..8, Some(link)) => {
                let _ = endpoint.handle_frame(&now, link, body, true, &services);
            }
            (8, Some(link)) => endpoint.handle_timeout(&now, link, &services),
            (9, Some(link)) => endpoint.close(&now, link, CloseReason::PeerClosed, &services),
            (10, Some(link)) => endpoint.note_left(link),
            (11, _) => endpoint.handle_durable(&now, services.appended.get(), &services),
            (12, _) => {
                if let Some((link, job, permit)) = jobs.pop() {
                    endpoint.handle_outcome(&now, link, job, &services);
                    drop(permit);
                }
            }
            (13, _) if length == 255 => endpoint.begin_drain(&now),
            _ => {
                if let Some(link) = endpoint.vacancy().filter(|_| links.len() < 8) {
                    endpoint.insert(Nowhere);
                    let device = u64::from(choice >> 4) % 3;
                    endpoint.open(&now, link, Some(DeviceId(device)).filter(|id| id.0 > 0));
                    links.push(link);
                }
            }
        }
        endpoint.drain(&now, &services);
        while endpoint.poll_transmit().is_some() {}
        while let Some((link, job, permit)) = endpoint.poll_job() {
            jobs.push((link, job.failure(), permit));
        }
        while endpoint.poll_notice().is_some() {}
        while let Some(close) = endpoint.poll_close() {
            endpoint.remove(close.link);
            links.retain(|link| *link != close.link);
        }
        assert_eq!(permits.taken(), jobs.len(), "a permit was lost");
        for record in &services.records {
            assert!(record.borrow().link.is_none_or(|link| links.contains(&link)), "a link that is gone");
        }
    }
});
