//! Frames of any content on several links of two devices and strangers, with outcomes, durable positions,
//! deadlines and a stop in between: nothing panics, no permit is lost, a device's link is one that is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::machine::acks::AckQueue;
use muster::machine::close::CloseReason;
use muster::machine::device_state::LinkRef;
use muster::machine::endpoint::testing::FakeServices;
use muster::machine::endpoint::{AppendRefusal, Endpoint, Kept};
use muster::machine::permits::{Permit, Permits};
use muster::wire::id::DeviceId;
use muster::wire::time::{Moment, Now, WallTime};

const PERMITS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let services = FakeServices::new([1, 2].map(DeviceId));
    let permits = Permits::new(PERMITS);
    let mut endpoint: Endpoint<()> = Endpoint::new(0, permits.clone(), AckQueue::default(), 1, Kept);
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
                services.refusal.set(match body.len() % 16 {
                    14 => Some(AppendRefusal::Behind),
                    15 => Some(AppendRefusal::Full),
                    _ => None,
                });
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
                    endpoint.insert(());
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
        for record in services.records.borrow().values() {
            assert!(record.link.is_none_or(|link| links.contains(&link)), "a link that is gone");
        }
    }
});
