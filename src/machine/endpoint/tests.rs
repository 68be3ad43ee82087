use super::testing::FakeServices;
use super::*;
use crate::machine::clones::Verdict;
use crate::machine::command::{ForkOutcome, JobOutcome};
use crate::machine::device_state::DeviceState;
use crate::machine::session::testing::DEVICE;
use crate::wire::frame;
use crate::wire::id::{Epoch, TokenId};
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::message::{
    Enrol, ErrorCode, EventItem, Events, Fork, Ping, Probe, Sync, SyncReason, ToServer,
};
use crate::wire::time::WallTime;

struct EndpointOwner {
    services: FakeServices,
    endpoint: Endpoint<()>,
    permits: Permits,
    now: Now,
}

impl EndpointOwner {
    fn new() -> Self {
        let services = FakeServices::new([DEVICE]);
        let permits = Permits::new(2);
        let endpoint = Endpoint::new(0, permits.clone(), AckQueue::default(), 1, Kept);
        Self { services, endpoint, permits, now: Now::default() }
    }

    fn link(&mut self, device: Option<DeviceId>) -> LinkRef {
        let link = self.endpoint.vacancy().unwrap();
        self.endpoint.insert(());
        self.endpoint.open(&self.now, link, device);
        link
    }

    fn hear(&mut self, link: LinkRef, message: &ToServer<'_>) -> Taken {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        let (body, _) = frame::split(&bytes).unwrap().unwrap();
        self.endpoint.handle_frame(&self.now, link, body, true, &self.services)
    }

    fn ping(&mut self, link: LinkRef) -> Taken {
        self.hear(link, &ToServer::Ping(Ping { next_seconds: None }))
    }

    fn emit(&mut self, link: LinkRef, sequence: u64) -> Taken {
        let items = vec![EventItem { sequence, body: b"event" }];
        let events = Events { spool_epoch: Epoch(9), highest: sequence, items, ..Events::default() };
        self.hear(link, &ToServer::Events(events))
    }

    fn said(&mut self) -> Vec<(LinkRef, ToAgent)> {
        std::iter::from_fn(|| self.endpoint.poll_transmit()).collect()
    }

    fn closed(&mut self) -> Vec<(LinkRef, CloseReason)> {
        std::iter::from_fn(|| self.endpoint.poll_close()).map(|close| (close.link, close.reason)).collect()
    }

    fn record(&self) -> DeviceState {
        self.services.records.borrow()[&DEVICE]
    }
}

fn sync() -> ToServer<'static> {
    ToServer::Sync(Sync {
        agent_epoch: Epoch(1),
        server_epoch: Epoch(0),
        reason: SyncReason::Started,
        clock: WallTime(0),
        sections: Vec::new(),
        reach: None,
        identity: None,
    })
}

fn enrol() -> ToServer<'static> {
    ToServer::Enrol(Enrol {
        token: TokenId(1),
        secret: [0; TOKEN_SECRET_BYTES],
        request: vec![0; 8],
        name: "kiosk-17".into(),
    })
}

#[test]
fn the_first_word_makes_a_link_the_devices_and_ends_the_one_before() {
    let mut owner = EndpointOwner::new();
    let (first, second) = (owner.link(Some(DEVICE)), owner.link(Some(DEVICE)));
    assert_eq!(owner.ping(first), Taken::Done);
    assert_eq!(owner.hear(second, &ToServer::Probe(Probe { udp_port: 0 })), Taken::Done);
    assert_eq!(owner.record().link, Some(first), "a probe only looks");
    assert_eq!(owner.ping(second), Taken::Done);
    assert_eq!(owner.record().link, Some(second));
    assert_eq!(owner.closed(), [(first, CloseReason::Superseded)]);
    assert_eq!(owner.services.taken_over.get(), 1);
    // The late end of the old one changes nothing.
    owner.endpoint.close(&owner.now, first, CloseReason::PeerClosed, &owner.services);
    assert_eq!(owner.record().link, Some(second));
    owner.endpoint.close(&owner.now, second, CloseReason::PeerClosed, &owner.services);
    assert_eq!(owner.record().link, None);
}

#[test]
fn a_link_that_its_device_has_left_takes_nothing_over_and_one_elsewhere_is_told() {
    let mut owner = EndpointOwner::new();
    let elsewhere = LinkRef::new(3, 5, 1).unwrap();
    owner.services.records.borrow_mut().get_mut(&DEVICE).unwrap().link = Some(elsewhere);
    let late = owner.link(Some(DEVICE));
    owner.endpoint.note_left(late);
    owner.ping(late);
    assert_eq!(owner.record().link, Some(elsewhere));
    let next = owner.link(Some(DEVICE));
    owner.ping(next);
    assert_eq!(owner.record().link, Some(next));
    let notices: Vec<_> = std::iter::from_fn(|| owner.endpoint.poll_notice()).collect();
    assert_eq!(notices, [Notice::Adopted(next, DEVICE), Notice::Superseded(elsewhere)]);
}

/// Before it would be its device's link: the first one is served as if the copy were not there.
#[test]
fn a_copy_takes_nothing_over_and_is_told_what_it_is() {
    for verdict in [Verdict::Refuse, Verdict::Fork] {
        let mut owner = EndpointOwner::new();
        let (first, copy) = (owner.link(Some(DEVICE)), owner.link(Some(DEVICE)));
        assert_eq!(owner.ping(first), Taken::Done);
        owner.said();
        owner.services.verdict.set(verdict);
        let sync = sync();
        let taken = owner.hear(copy, &sync);
        if verdict == Verdict::Fork {
            assert_eq!((taken, owner.emit(copy, 1)), (Taken::Done, Taken::Done), "it is not heard any more");
            let (link, job, permit) = owner.endpoint.poll_job().unwrap();
            assert_eq!((link, *job), (copy, Job::Fork(DEVICE)));
            drop(permit);
            let fork = Fork { token: TokenId(5), secret: [7; TOKEN_SECRET_BYTES] };
            let outcome = JobOutcome::Fork(ForkOutcome::Token(fork.clone()));
            owner.endpoint.handle_outcome(&owner.now, copy, outcome, &owner.services);
            assert_eq!(owner.said(), [(copy, ToAgent::Fork(fork))]);
        } else {
            assert_eq!(taken, Taken::Closed);
            let said = owner.said();
            let is_told = matches!(&said[..], [(link, ToAgent::Error(report))] if *link == copy && report.code == ErrorCode::Cloned);
            assert!(is_told, "{said:?}");
        }
        assert_eq!(owner.closed(), [(copy, CloseReason::Cloned)]);
        assert_eq!((owner.record().link, owner.services.taken_over.get()), (Some(first), 0));
        owner.services.verdict.set(Verdict::Serve);
        assert_eq!(owner.hear(first, &sync), Taken::Done);
        assert_eq!(owner.record().link, Some(first));
    }
}

#[test]
fn an_event_is_acknowledged_when_it_is_durable_and_only_then() {
    let mut owner = EndpointOwner::new();
    let link = owner.link(Some(DEVICE));
    assert_eq!(owner.emit(link, 1), Taken::Done);
    owner.endpoint.handle_durable(&owner.now, 4, &owner.services);
    assert_eq!(owner.said(), []);
    owner.endpoint.handle_durable(&owner.now, 5, &owner.services);
    assert!(matches!(&owner.said()[..], [(of, ToAgent::Ack(ack))] if *of == link && ack.through == 1));
    let tally = owner.endpoint.take_tally();
    assert_eq!((tally.events_appended, tally.acks_sent, tally.has_appended), (1, 1, true));
}

#[test]
fn a_journal_that_is_behind_leaves_the_frame_and_one_that_is_full_sends_the_device_away() {
    let mut owner = EndpointOwner::new();
    let link = owner.link(Some(DEVICE));
    owner.services.refusal.set(Some(AppendRefusal::Behind));
    assert_eq!(owner.emit(link, 1), Taken::NoRoom);
    assert_eq!((owner.said(), owner.closed()), (vec![], vec![]));
    owner.services.refusal.set(Some(AppendRefusal::Full));
    assert_eq!(owner.emit(link, 1), Taken::Closed);
    assert!(matches!(&owner.said()[..], [(_, ToAgent::Later(_))]));
    assert_eq!(owner.closed(), [(link, CloseReason::JournalFull)]);
}

#[test]
fn a_permit_comes_before_the_work_and_back_with_its_outcome() {
    let mut owner = EndpointOwner::new();
    let links = [owner.link(None), owner.link(None), owner.link(None)];
    assert_eq!(owner.hear(links[0], &enrol()), Taken::Done);
    assert_eq!(owner.hear(links[1], &enrol()), Taken::Done);
    assert_eq!(owner.hear(links[2], &enrol()), Taken::NoRoom);
    let (link, job, permit) = owner.endpoint.poll_job().unwrap();
    assert_eq!((link, owner.permits.free()), (links[0], 0));
    owner.endpoint.handle_outcome(&owner.now, link, job.failure(), &owner.services);
    drop(permit);
    assert_eq!(owner.closed(), [(links[0], CloseReason::EnrolmentDone)]);
    assert_eq!(owner.hear(links[2], &enrol()), Taken::Done);
    // Without work to do it is free again at once.
    let device = owner.link(Some(DEVICE));
    drop(owner.endpoint.poll_job());
    assert_eq!(owner.hear(device, &enrol()), Taken::Done);
    assert_eq!(owner.permits.free(), 1);
}

#[test]
fn a_server_that_stops_tells_each_link_and_one_with_a_job_when_that_is_done() {
    let mut owner = EndpointOwner::new();
    let (idle, busy) = (owner.link(Some(DEVICE)), owner.link(None));
    owner.hear(busy, &enrol());
    owner.emit(idle, 1);
    owner.endpoint.begin_drain(&owner.now);
    owner.endpoint.drain(&owner.now, &owner.services);
    assert_eq!(owner.said(), [], "an event waits for the journal");
    owner.endpoint.handle_durable(&owner.now, 5, &owner.services);
    owner.endpoint.drain(&owner.now, &owner.services);
    assert_eq!(owner.closed(), [(idle, CloseReason::Stopping)]);
    assert!(matches!(
        &owner.said()[..],
        [(_, ToAgent::Ack(_)), (_, ToAgent::Later(_)), (_, ToAgent::Error(_))]
    ));
    let (_, job, _) = owner.endpoint.poll_job().unwrap();
    owner.endpoint.handle_outcome(&owner.now, busy, job.failure(), &owner.services);
    assert_eq!(owner.closed(), [(busy, CloseReason::EnrolmentDone)]);
    owner.endpoint.remove(idle);
    assert!(!owner.endpoint.is_drained(&owner.now));
    owner.endpoint.remove(busy);
    assert!(owner.endpoint.is_drained(&owner.now));
}
