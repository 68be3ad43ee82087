//! Reach of a device by datagrams: its record of the wakes that it is sent and the notices that it sends.
//!
//! Nobody says whether a datagram arrived. The server learns it from the next sync, in which a device names
//! the highest counter among the wakes that it took. A device of which that is not known yet is sent one wake
//! of the kind *probe* behind a sync; one that wakes do not reach gets one behind every sync, so that a
//! mended firewall shows by itself.

use std::net::{IpAddr, SocketAddr};

use super::clones::{boot_mark, machine_mark};
use super::device_state::DeviceState;
pub use crate::wire::api::UdpReach;
use crate::wire::datagram::{DropReason, NoticeKind};
use crate::wire::message::{Reach, SyncIdentity};
use crate::wire::presence::Presence;
use crate::wire::time::WallTime;

/// Time that a probe may be under way before a sync that does not know of it says that it was lost.
const PROBE_MILLISECONDS: u64 = 5_000;

/// Limit to which the clock takes the counter of the wakes, in seconds since 1970: until the year 2097. One
/// that is set beyond it, for however short a time, leaves room for 2^28 wakes of a device, as a counter
/// never falls.
const WAKE_COUNTER_CLOCK_MAX: u32 = u32::MAX - (1 << 28);

/// Wakes of one device that a server may have sent without a record of them when it ended: records are stored
/// every few seconds, and a wake is not repeated under a counter of its own.
const WAKES_UNRECORDED_MAX: u32 = 1 << 10;

impl DeviceState {
    /// Address of wakes; `None` when the device hears none, or was never here.
    #[must_use]
    pub fn wake_address(&self) -> Option<SocketAddr> {
        let is_known = self.udp_port != 0 && !self.address.is_unspecified();
        is_known.then(|| SocketAddr::new(IpAddr::V6(self.address).to_canonical(), self.udp_port))
    }

    /// The counter of the next wake: higher than all before. It follows the clock, in seconds, so that a
    /// server whose state was restored from a copy is not taken for a replay; a clock that was far ahead once
    /// does not use up what there is.
    pub fn next_wake_counter(&mut self, wall: WallTime) -> u32 {
        let seconds = u32::try_from(wall.0 / 1_000).unwrap_or(u32::MAX).min(WAKE_COUNTER_CLOCK_MAX);
        self.wake_counter = self.wake_counter.saturating_add(1).max(seconds);
        self.has_news = true;
        self.wake_counter
    }

    /// The server has started on what it had stored: wakes were sent since, which nothing here knows of, and
    /// a device takes none under a counter that it has seen. The clock alone does not lead past them, as it
    /// may have been set back.
    pub fn skip_wake_counters(&mut self) {
        if self.wake_counter > 0 {
            self.wake_counter = self.wake_counter.saturating_add(WAKES_UNRECORDED_MAX);
        }
    }

    /// A sync begins: the device is here, whatever it said before it went. `peer` is where its link comes
    /// from; `None` when that is not known.
    pub fn note_reach(&mut self, reach: Option<&Reach>, peer: Option<IpAddr>, wall: WallTime) {
        let Some(reach) = reach else {
            self.depart(None);
            return;
        };
        if reach.notice_counter >= self.notice_counter {
            // It was said before this sync, so it is over; one that is still under way is stale.
            self.depart(None);
            self.notice_counter = reach.notice_counter;
        }
        self.boot = boot_mark(reach.boot);
        let address = peer.map_or(self.address, |peer| match peer {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        });
        let before = (self.address, self.udp_port, self.udp_reach);
        let is_elsewhere = (address, reach.udp_port) != (self.address, self.udp_port);
        let was_taken = self.wake_counter > 0 && reach.wake_counter == self.wake_counter;
        let had_time = wall.0.saturating_sub(self.last_sync.0) >= PROBE_MILLISECONDS;
        if is_elsewhere {
            // Wakes that it took, it took at the address before.
            (self.address, self.udp_port, self.udp_reach) = (address, reach.udp_port, UdpReach::Unknown);
        } else if was_taken && self.udp_reach != UdpReach::Unknown {
            self.udp_reach = UdpReach::Reached;
        } else if self.udp_reach == UdpReach::Probing && had_time {
            self.udp_reach = UdpReach::Unreached;
        }
        self.wake_counter = self.wake_counter.max(reach.wake_counter);
        self.has_news |= before != (self.address, self.udp_port, self.udp_reach);
    }

    /// A sync names the machine that the device is now.
    pub fn note_machine(&mut self, identity: Option<&SyncIdentity>) {
        let machine = identity.map_or(0, |identity| machine_mark(identity.machine));
        if machine != 0 && machine != self.machine {
            self.machine = machine;
            self.has_news = true;
        }
    }

    /// A sync has ended: whether a probe is due now.
    #[must_use]
    pub fn wants_probe(&self) -> bool {
        self.wake_address().is_some() && matches!(self.udp_reach, UdpReach::Unknown | UdpReach::Unreached)
    }

    /// The probe that is sent now, if one is wanted: where to, and its counter.
    pub fn next_probe(&mut self, wall: WallTime) -> Option<(SocketAddr, u32)> {
        let address = self.wake_address().filter(|_| self.wants_probe())?;
        if self.udp_reach == UdpReach::Unknown {
            self.udp_reach = UdpReach::Probing;
        }
        Some((address, self.next_wake_counter(wall)))
    }

    /// Somebody has called the device over UDP at this address, and it came, or did not.
    pub fn note_called(&mut self, address: SocketAddr, has_come: bool) {
        if self.wake_address() != Some(address) {
            // It has moved meanwhile.
            return;
        }
        let reach = if has_come { UdpReach::Reached } else { UdpReach::Unreached };
        self.has_news |= self.udp_reach != reach;
        self.udp_reach = reach;
    }

    /// An authentic notice has come, in a datagram or on a link.
    ///
    /// # Errors
    /// Why it changes nothing.
    pub fn note_notice(
        &mut self,
        kind: NoticeKind,
        counter: u32,
        boot: u32,
        wall: WallTime,
    ) -> Result<(), DropReason> {
        match counter {
            _ if counter == self.notice_counter => return Err(DropReason::Repeated),
            _ if counter < self.notice_counter => return Err(DropReason::Stale),
            _ => self.notice_counter = counter,
        }
        self.has_news = true;
        self.note_seen(wall);
        if kind != NoticeKind::Probe {
            self.boot = boot_mark(boot);
            self.depart(Some(kind));
        }
        Ok(())
    }

    /// Something was heard of the device. One that was told as lost behind a reboot is not about to come back
    /// any more: it is here, though it has not synced yet. Whether it was is no question of the clock, which
    /// may have been set meanwhile.
    pub fn note_seen(&mut self, wall: WallTime) {
        if self.departure == Some(NoticeKind::Reboot) && self.announced == Presence::Lost {
            self.depart(None);
        }
        self.last_seen = wall;
    }

    fn depart(&mut self, kind: Option<NoticeKind>) {
        self.has_news |= self.departure != kind;
        self.departure = kind;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::id::DeviceId;

    const PEER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

    fn record() -> DeviceState {
        DeviceState::new(DeviceId(1), 900)
    }

    fn at(seconds: u64) -> WallTime {
        WallTime(1_795_514_400_000 + seconds * 1_000)
    }

    fn reach(wake_counter: u32, notice_counter: u32) -> Reach {
        Reach { udp_port: 15_000, wake_counter, notice_counter, boot: 3 }
    }

    /// A sync from beginning to end; the probe that follows it.
    fn sync(record: &mut DeviceState, reach: &Reach, seconds: u64) -> Option<u32> {
        record.note_reach(Some(reach), PEER, at(seconds));
        record.last_sync = at(seconds);
        record.next_probe(at(seconds)).map(|(_, counter)| counter)
    }

    #[test]
    fn a_start_skips_the_counters_that_may_have_been_used_and_not_stored() {
        let mut record = record();
        record.skip_wake_counters();
        assert_eq!(record.wake_counter, 0, "it was never sent any");
        let stored = record.next_wake_counter(at(100));
        let used = (0..WAKES_UNRECORDED_MAX - 1).map(|_| record.next_wake_counter(at(0))).max().unwrap();
        record.wake_counter = stored;
        record.skip_wake_counters();
        assert!(record.next_wake_counter(at(0)) > used, "though the clock was set back");
    }

    #[test]
    fn a_device_that_took_the_probe_is_reached_and_gets_no_more_of_them() {
        let mut record = record();
        let probe = sync(&mut record, &reach(0, 0), 0).unwrap();
        assert_eq!(record.wake_address().unwrap().to_string(), "192.0.2.7:15000");
        assert_eq!(sync(&mut record, &reach(probe, 0), 60), None);
        assert_eq!(record.udp_reach, UdpReach::Reached);
    }

    #[test]
    fn what_a_call_taught_of_another_address_is_forgotten() {
        let mut record = record();
        sync(&mut record, &reach(0, 0), 0);
        let before = record.wake_address().unwrap();
        let elsewhere = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        record.note_reach(Some(&reach(0, 0)), elsewhere, at(1));
        record.note_called(before, true);
        assert_eq!(record.udp_reach, UdpReach::Unknown);
        record.note_called(record.wake_address().unwrap(), true);
        assert_eq!(record.udp_reach, UdpReach::Reached);
    }

    #[test]
    fn a_device_that_did_not_is_asked_again_until_it_does() {
        let mut record = record();
        sync(&mut record, &reach(0, 0), 0).unwrap();
        assert_eq!(sync(&mut record, &reach(0, 0), 1), None, "it may still be under way");
        assert_eq!(record.udp_reach, UdpReach::Probing);
        let second = sync(&mut record, &reach(0, 0), 900).unwrap();
        assert_eq!(record.udp_reach, UdpReach::Unreached);
        sync(&mut record, &reach(second, 0), 1_800);
        assert_eq!(record.udp_reach, UdpReach::Reached);
    }

    #[test]
    fn a_new_address_is_not_known_to_be_reached() {
        let mut record = record();
        let probe = sync(&mut record, &reach(0, 0), 0).unwrap();
        sync(&mut record, &reach(probe, 0), 60);
        let elsewhere = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        record.note_reach(Some(&reach(probe, 0)), elsewhere, at(120));
        assert_eq!(record.udp_reach, UdpReach::Unknown, "it took the probe at the address before");
        // That sync did not end, so no other probe was sent.
        record.note_reach(Some(&reach(probe, 0)), elsewhere, at(121));
        assert_eq!(record.udp_reach, UdpReach::Unknown);
        assert!(record.next_probe(at(120)).is_some());
        let none = Reach { udp_port: 0, ..reach(probe, 0) };
        assert_eq!(sync(&mut record, &none, 180), None);
        assert_eq!(record.wake_address(), None);
    }

    #[test]
    fn a_clock_that_was_far_ahead_once_does_not_use_up_the_counters() {
        let mut record = record();
        let counter = record.next_wake_counter(WallTime(u64::MAX));
        assert!(record.next_wake_counter(at(0)) > counter);
        assert!(u32::MAX - counter > 100_000_000);
    }

    #[test]
    fn a_server_that_lost_its_counters_goes_on_above_the_devices() {
        let mut record = record();
        sync(&mut record, &reach(4_000_000_000, 0), 0);
        assert_eq!(record.wake_counter, 4_000_000_001);
        assert_eq!(record.next_wake_counter(at(0)), 4_000_000_002);
    }

    #[test]
    fn a_notice_holds_until_a_sync_that_was_sent_after_it() {
        let mut record = record();
        record.note_notice(NoticeKind::Shutdown, 5, 3, at(1)).unwrap();
        assert_eq!(record.departure, Some(NoticeKind::Shutdown));
        assert_eq!(record.note_notice(NoticeKind::Shutdown, 5, 3, at(2)), Err(DropReason::Repeated));
        assert_eq!(record.note_notice(NoticeKind::Suspend, 4, 3, at(2)), Err(DropReason::Stale));
        // A wake that was sent before the notice and arrives behind it takes nothing back.
        record.note_reach(Some(&reach(0, 4)), PEER, at(3));
        assert_eq!(record.departure, Some(NoticeKind::Shutdown));
        record.note_reach(Some(&reach(0, 5)), PEER, at(4));
        assert_eq!(record.departure, None);
        // One that was said before the sync and comes late.
        record.note_reach(Some(&reach(0, 9)), PEER, at(5));
        assert_eq!(record.note_notice(NoticeKind::Reboot, 8, 3, at(6)), Err(DropReason::Stale));
    }

    /// Otherwise it would count as shut down from its first word to its sync, though it was told as lost
    /// before.
    #[test]
    fn a_reboot_of_a_device_that_was_told_as_lost_is_over_with_the_first_word() {
        let rebooted = |announced| {
            let mut record = record();
            record.note_notice(NoticeKind::Reboot, 5, 3, at(0)).unwrap();
            record.announced = announced;
            // The clock has been set by a year meanwhile.
            record.note_seen(at(31_536_000));
            assert_eq!(record.last_seen, at(31_536_000));
            record
        };
        let within = rebooted(Presence::ShutDown);
        assert_eq!(within.departure, Some(NoticeKind::Reboot), "it may be under way");
        let mut late = rebooted(Presence::Lost);
        assert_eq!(late.departure, None);
        late.note_notice(NoticeKind::Reboot, 6, 4, at(31_536_001)).unwrap();
        assert_eq!(late.departure, Some(NoticeKind::Reboot), "what it says then is new");
        late.note_notice(NoticeKind::Shutdown, 7, 5, at(31_536_002)).unwrap();
        late.note_seen(at(31_536_003));
        assert_eq!(late.departure, Some(NoticeKind::Shutdown), "it holds until a sync");
    }

    #[test]
    fn a_probe_of_the_device_counts_and_changes_nothing_else() {
        let mut record = record();
        record.note_notice(NoticeKind::Probe, 5, 3, at(1)).unwrap();
        assert_eq!((record.departure, record.notice_counter), (None, 5));
    }
}
