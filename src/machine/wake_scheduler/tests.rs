use super::*;

const DEVICE: DeviceId = DeviceId(7);

/// Of the wakes that a call sends.
const COUNTER: u32 = 40;

fn at(milliseconds: u64) -> Moment {
    Moment(1_000_000).plus_milliseconds(milliseconds)
}

fn address() -> SocketAddr {
    "192.0.2.7:15000".parse().unwrap()
}

fn away() -> DeviceLocation {
    DeviceLocation {
        link: None,
        address: Some(address()),
        is_unreached: false,
        presence: Presence::Idle,
        next_slot_at: Some(WallTime(5)),
    }
}

fn link(slot: u32) -> LinkRef {
    LinkRef::new(0, slot, 1).unwrap()
}

fn asked(operation: u64, reason: WakeReason) -> WakeScheduler {
    let mut wake_scheduler = WakeScheduler::new(1);
    assert!(wake_scheduler.ask(at(0), Ask { operation, device: DEVICE, reason }));
    assert_eq!(wake_scheduler.poll(at(0)), Some(WakeAction::Look(DEVICE)));
    wake_scheduler
}

/// Asked by operation 9 and on its way to a device that is away.
fn waking() -> WakeScheduler {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(0), DEVICE, Some(away()));
    assert_eq!(actions(&mut wake_scheduler, at(0)), [wake(WakeReason::Sync)]);
    wake_scheduler
}

fn synced(by: CallVia, begun_microseconds: u64, synced_microseconds: u64) -> CallOutcome {
    CallOutcome::Synced { by, begun_microseconds, synced_microseconds }
}

fn actions(wake_scheduler: &mut WakeScheduler, now: Moment) -> Vec<WakeAction> {
    std::iter::from_fn(|| wake_scheduler.poll(now)).collect()
}

fn wake(reason: WakeReason) -> WakeAction {
    WakeAction::Wake { device: DEVICE, address: address(), reason, counter: None }
}

fn begun(reason: SyncReason) -> CallStep {
    CallStep::Begun { reason, wake_counter: 0 }
}

fn woken_by(wake_counter: u32) -> CallStep {
    CallStep::Begun { reason: SyncReason::Woken, wake_counter }
}

fn report(operation: u64, outcome: CallOutcome) -> WakeAction {
    WakeAction::Report { operation, device: DEVICE, outcome }
}

#[test]
fn a_device_that_is_away_is_woken_and_its_sync_is_timed_from_the_question() {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(1), DEVICE, Some(away()));
    assert_eq!(actions(&mut wake_scheduler, at(1)), [wake(WakeReason::Sync)]);
    wake_scheduler.drawn(DEVICE, COUNTER);
    wake_scheduler.step(at(4), DEVICE, woken_by(COUNTER));
    wake_scheduler.step(at(6), DEVICE, CallStep::Synced);
    let synced = synced(CallVia::Wake, 4_000, 6_000);
    let learned = WakeAction::Learned { device: DEVICE, address: address(), has_come: true };
    assert_eq!(actions(&mut wake_scheduler, at(6)), [learned, report(9, synced), WakeAction::Ended(DEVICE)]);
    assert_eq!(wake_scheduler.load(), (0, 0));
    assert_eq!(actions(&mut wake_scheduler, at(600_000)), [], "nothing comes after it");
}

#[test]
fn a_device_that_no_wake_of_this_call_was_sent_to_teaches_nothing_of_them() {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(1), DEVICE, Some(DeviceLocation { link: Some(link(1)), ..away() }));
    actions(&mut wake_scheduler, at(1));
    // Of an earlier call, perhaps at another address.
    wake_scheduler.step(at(4), DEVICE, woken_by(COUNTER));
    assert_eq!(actions(&mut wake_scheduler, at(4)), []);
}

#[test]
fn a_device_that_took_another_wake_than_this_calls_teaches_nothing_of_the_address() {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(1), DEVICE, Some(away()));
    actions(&mut wake_scheduler, at(1));
    wake_scheduler.drawn(DEVICE, COUNTER);
    // Woken where it was before, it found no server there; from here it would not have heard.
    wake_scheduler.step(at(4), DEVICE, woken_by(COUNTER - 1));
    wake_scheduler.step(at(6), DEVICE, CallStep::Synced);
    let synced = synced(CallVia::Itself, 4_000, 6_000);
    assert_eq!(actions(&mut wake_scheduler, at(6)), [report(9, synced), WakeAction::Ended(DEVICE)]);
}

#[test]
fn wakes_are_repeated_with_growing_pauses_and_then_the_device_is_given_up() {
    for is_unreached in [false, true] {
        let mut wake_scheduler = asked(9, WakeReason::Sync);
        wake_scheduler.found(at(0), DEVICE, Some(DeviceLocation { is_unreached, ..away() }));
        let (mut sent, mut last) = (Vec::new(), Vec::new());
        for now in 0..30_000 {
            match &actions(&mut wake_scheduler, at(now))[..] {
                [] => {}
                [WakeAction::Wake { counter, .. }] => {
                    assert_eq!(*counter, (!sent.is_empty()).then_some(3), "copies of the first");
                    wake_scheduler.drawn(DEVICE, 3);
                    sent.push(now);
                }
                other => last.extend_from_slice(other),
            }
        }
        let most = if is_unreached { WAKES_MAX_UNREACHED } else { WAKES_MAX };
        assert_eq!(sent.len(), most as usize, "{sent:?}");
        assert!(sent.windows(3).all(|three| three[2] - three[1] > (three[1] - three[0])), "{sent:?}");
        let outcome = CallOutcome::Unreachable { attempts: most, next_slot_at: Some(WallTime(5).into()) };
        let learned = WakeAction::Learned { device: DEVICE, address: address(), has_come: false };
        assert_eq!(last, [learned, report(9, outcome), WakeAction::Ended(DEVICE)]);
    }
}

#[test]
fn a_connected_device_is_asked_on_its_link_and_woken_when_that_is_dead() {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    let here = DeviceLocation { link: Some(link(1)), presence: Presence::Connected, ..away() };
    wake_scheduler.found(at(0), DEVICE, Some(here));
    let on_link = WakeAction::OnLink { link: link(1), is_fresh: false };
    assert_eq!(actions(&mut wake_scheduler, at(0)), [on_link]);
    assert_eq!(actions(&mut wake_scheduler, at(LINK_MILLISECONDS - 1)), []);
    assert_eq!(actions(&mut wake_scheduler, at(LINK_MILLISECONDS)), [WakeAction::Look(DEVICE)]);
    wake_scheduler.found(at(LINK_MILLISECONDS), DEVICE, Some(here));
    assert_eq!(actions(&mut wake_scheduler, at(LINK_MILLISECONDS)), [wake(WakeReason::Sync)]);
}

#[test]
fn who_said_that_it_goes_is_not_called() {
    for (presence, outcome) in [
        (Presence::Asleep, CallOutcome::Asleep),
        (Presence::ShutDown, CallOutcome::ShutDown),
        (Presence::AgentStopped, CallOutcome::AgentStopped),
    ] {
        let mut wake_scheduler = asked(9, WakeReason::Sync);
        wake_scheduler.found(at(0), DEVICE, Some(DeviceLocation { presence, ..away() }));
        assert_eq!(actions(&mut wake_scheduler, at(0)), [report(9, outcome), WakeAction::Ended(DEVICE)]);
    }
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(0), DEVICE, Some(DeviceLocation { address: None, next_slot_at: None, ..away() }));
    let nowhere = CallOutcome::Unreachable { attempts: 0, next_slot_at: None };
    assert_eq!(actions(&mut wake_scheduler, at(0))[0], report(9, nowhere));
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(0), DEVICE, None);
    assert_eq!(actions(&mut wake_scheduler, at(0))[0], report(9, CallOutcome::Removed));
}

#[test]
fn many_who_ask_share_a_call_and_who_asks_during_the_sync_gets_the_next() {
    let mut wake_scheduler = asked(1, WakeReason::Sync);
    wake_scheduler.found(at(0), DEVICE, Some(away()));
    assert!(wake_scheduler.ask(at(1), Ask { operation: 2, device: DEVICE, reason: WakeReason::Sync }));
    assert_eq!(actions(&mut wake_scheduler, at(1)), [wake(WakeReason::Sync)]);
    wake_scheduler.step(at(2), DEVICE, begun(SyncReason::Scheduled));
    assert!(wake_scheduler.ask(at(3), Ask { operation: 3, device: DEVICE, reason: WakeReason::Sync }));
    assert_eq!(actions(&mut wake_scheduler, at(3)), []);
    wake_scheduler.step(at(4), DEVICE, CallStep::Synced);
    let synced = |begun, end| synced(CallVia::Itself, begun, end);
    let all = actions(&mut wake_scheduler, at(4));
    assert_eq!(all[..2], [report(1, synced(2_000, 4_000)), report(2, synced(1_000, 3_000))]);
    assert_eq!(all[2..], [WakeAction::Ended(DEVICE), WakeAction::Look(DEVICE)], "the third's turn");
}

#[test]
fn who_wants_news_is_not_served_by_a_sync_that_had_begun_without_them() {
    let mut wake_scheduler = asked(9, WakeReason::Retrieve);
    wake_scheduler.found(at(0), DEVICE, Some(DeviceLocation { link: Some(link(1)), ..away() }));
    assert_eq!(actions(&mut wake_scheduler, at(0)), [WakeAction::OnLink { link: link(1), is_fresh: true }]);
    wake_scheduler.step(at(1), DEVICE, begun(SyncReason::Scheduled));
    wake_scheduler.step(at(2), DEVICE, CallStep::Synced);
    assert_eq!(actions(&mut wake_scheduler, at(10_000)), [], "it still looks at itself");
    wake_scheduler.step(at(10_001), DEVICE, begun(SyncReason::Forced));
    wake_scheduler.step(at(10_002), DEVICE, CallStep::Synced);
    assert!(matches!(actions(&mut wake_scheduler, at(10_002))[0], WakeAction::Report { operation: 9, .. }));
}

#[test]
fn a_refused_certificate_is_told_when_it_is_clear_whose_it_was() {
    let mut wake_scheduler = waking();
    wake_scheduler.refused_at(at(1), "192.0.2.8".parse().unwrap());
    assert_eq!(actions(&mut wake_scheduler, at(1)), []);
    wake_scheduler.refused_at(at(1), "::ffff:192.0.2.7".parse().unwrap());
    assert_eq!(actions(&mut wake_scheduler, at(1))[0], report(9, CallOutcome::RefusedCertificate));

    let mut wake_scheduler = asked(9, WakeReason::Sync);
    let other = Ask { operation: 9, device: DeviceId(8), reason: WakeReason::Sync };
    assert!(wake_scheduler.ask(at(0), other));
    wake_scheduler.found(at(0), DEVICE, Some(away()));
    actions(&mut wake_scheduler, at(0));
    wake_scheduler.found(at(0), DeviceId(8), Some(away()));
    actions(&mut wake_scheduler, at(0));
    wake_scheduler.refused_at(at(1), address().ip());
    assert_eq!(actions(&mut wake_scheduler, at(1)), [], "two behind one address");
}

#[test]
fn a_sync_that_does_not_end_or_that_is_put_off_is_told() {
    let mut wake_scheduler = waking();
    wake_scheduler.step(at(1), DEVICE, begun(SyncReason::Started));
    let unfinished = CallOutcome::Unfinished { begun_microseconds: 1_000 };
    assert_eq!(actions(&mut wake_scheduler, at(SYNC_MILLISECONDS + 1))[0], report(9, unfinished));

    let mut wake_scheduler = waking();
    wake_scheduler.step(at(1), DEVICE, begun(SyncReason::Started));
    wake_scheduler.step(at(2), DEVICE, CallStep::PutOff);
    assert_eq!(actions(&mut wake_scheduler, at(2))[0], report(9, CallOutcome::PutOff));
}

#[test]
fn a_fleet_is_called_at_a_bounded_rate_and_not_all_at_once() {
    let mut wake_scheduler = WakeScheduler::new(1);
    let fleet = 10_000;
    for device in 0..fleet {
        assert!(
            wake_scheduler
                .ask(at(0), Ask { operation: 1, device: DeviceId(device), reason: WakeReason::Sync })
        );
    }
    let (mut begun_in_first_second, mut reported, mut now) = (0, 0, 0);
    while reported < fleet {
        for action in actions(&mut wake_scheduler, at(now)) {
            match action {
                WakeAction::Look(device) => {
                    begun_in_first_second += u64::from(now < 1_000);
                    wake_scheduler.found(at(now), device, Some(away()));
                }
                WakeAction::Report { .. } => reported += 1,
                _ => {}
            }
        }
        assert!(wake_scheduler.load().0 <= CALLS_MAX);
        now += 10;
        assert!(now < 120_000, "{reported} of {fleet} after two minutes");
    }
    assert!((900..=CALLS_PER_SECOND + 110).contains(&begun_in_first_second), "{begun_in_first_second}");
    assert_eq!(wake_scheduler.load(), (0, 0));
}

#[test]
fn what_nobody_waits_for_any_more_does_not_begin() {
    let mut wake_scheduler = asked(1, WakeReason::Sync);
    for operation in [1, 2] {
        assert!(wake_scheduler.ask(at(0), Ask { operation, device: DeviceId(8), reason: WakeReason::Sync }));
    }
    wake_scheduler.cancel(1);
    wake_scheduler.found(at(0), DEVICE, None);
    assert_eq!(
        actions(&mut wake_scheduler, at(1)),
        [WakeAction::Ended(DEVICE), WakeAction::Look(DeviceId(8))]
    );
    assert_eq!(wake_scheduler.load(), (1, 0));
}

#[test]
fn after_a_pause_of_the_server_who_came_meanwhile_is_heard_first() {
    let mut wake_scheduler = asked(9, WakeReason::Sync);
    wake_scheduler.found(at(0), DEVICE, Some(DeviceLocation { link: Some(link(1)), ..away() }));
    assert_eq!(actions(&mut wake_scheduler, at(0)), [WakeAction::OnLink { link: link(1), is_fresh: false }]);
    // The process stood still for ten seconds; the device had two for its answer.
    wake_scheduler.judge_from(at(12_000));
    assert_eq!(
        (actions(&mut wake_scheduler, at(10_000)), wake_scheduler.next_timeout()),
        (vec![], Some(at(12_000)))
    );
    wake_scheduler.step(at(10_001), DEVICE, begun(SyncReason::Forced));
    wake_scheduler.step(at(10_002), DEVICE, CallStep::Synced);
    let synced = synced(CallVia::Link, 10_001_000, 10_002_000);
    assert_eq!(actions(&mut wake_scheduler, at(10_002)), [report(9, synced), WakeAction::Ended(DEVICE)]);
}
