//! The watch over the wall clock: notices when it steps, and says so in the log, in the log of events and to
//! the store.

use std::collections::VecDeque;

use super::presence::{Announcer, own_event};
use crate::fleet::status::span;
use crate::machine::wall_clock::{ClockChange, ClockEvent, GRACE_SECONDS, STOP_SECONDS, Stretch};
use crate::reactor::Clock;
use crate::store::Store;
use crate::store::table::SHARDS;
use crate::wire::event::{Event, Severity};
use crate::wire::time::{Moment, WallTime};

/// Kind of the events about the server's clock.
const CLOCK_KIND: &str = "clock";

/// Interval at which the wall time is written down for the next start; besides after every change, and at the
/// end.
const REMEMBER_SECONDS: u64 = 600;

// After a kill and a quick start nothing is doubted.
const _: () = assert!(REMEMBER_SECONDS < STOP_SECONDS);

/// Steps as short as this are not followed.
const MOVED_LITTLE_MILLISECONDS: u64 = 20_000;

/// Most events that wait for room in the journal, in events: more steps than that are only in the log.
const WAITING_MAX: usize = 16;

/// Watches the clock. There is one for each server.
pub(super) struct ClockWatch {
    clock: Clock,
    store: Store,
    announcer: Announcer,
    remembered_at: Option<Moment>,
    waiting: VecDeque<Event>,
    /// A step that the devices' times are to follow with the next look, when nobody works with the time
    /// before it any more; and since when devices could come, by the time before it.
    followed_next: Option<(ClockChange, WallTime)>,
    /// Distance by which the devices' times were moved ahead, in milliseconds, and may be moved back.
    moved_ahead: i64,
}

impl ClockWatch {
    /// Begins to watch; `change` is what there was to be said of the start.
    pub(super) fn new(clock: Clock, store: Store, announcer: Announcer, change: Option<ClockChange>) -> Self {
        let mut watch = Self {
            clock,
            store,
            announcer,
            remembered_at: None,
            waiting: VecDeque::new(),
            followed_next: None,
            moved_ahead: 0,
        };
        // The time that the last start's clock left behind, whether it is known to have been wrong or not.
        let known = change.map_or_else(|| watch.clock.known(), |change| change.known);
        watch.correct_tokens(known, watch.clock.ran());
        if let Some(change) = change {
            watch.note(&change);
            // Records get stamps of this clock from now on: the next start must know it, however soon it
            // comes.
            watch.remember();
        }
        watch
    }

    /// Looks at the clock; to be called about once a second. Does not wait for the disk. Whether times of
    /// devices were moved.
    pub(super) fn look(&mut self) -> bool {
        let to_follow = self.followed_next.take();
        if let Some((change, present_since)) = to_follow {
            self.follow(&change, present_since);
        }
        let present_since = self.clock.present_since();
        if let Some(change) = self.clock.observe() {
            self.note(&change);
            self.correct_tokens(change.known, change.ran);
            self.remembered_at = None;
            if change.moved_milliseconds.unsigned_abs() > MOVED_LITTLE_MILLISECONDS {
                self.followed_next = Some((change, present_since));
            }
        }
        let now = self.clock.now();
        let is_due = |at: Moment| now.moment.microseconds_since(at) >= REMEMBER_SECONDS * 1_000_000;
        if self.remembered_at.is_none_or(is_due) {
            self.remember();
            self.remembered_at = Some(now.moment);
        }
        while let Some(event) = self.waiting.front()
            && self.announcer.say_of_server(event, now.wall)
        {
            self.waiting.pop_front();
        }
        to_follow.is_some()
    }

    /// The devices' times keep their age: what the clock says of itself says nothing of them.
    fn follow(&mut self, change: &ClockChange, present_since: WallTime) {
        let carried = change.moved_milliseconds.max(-self.moved_ahead);
        self.moved_ahead = self.moved_ahead.saturating_add(carried);
        let table = self.store.table();
        for shard in 0..SHARDS {
            table.for_each_in(shard, |record| {
                record.follow_clock(change.moved_milliseconds, carried, change.now);
                record.forget_future(change.now);
            });
        }
        let since = present_since.0.saturating_add_signed(change.moved_milliseconds);
        self.clock.set_present_since(WallTime(since));
    }

    fn correct_tokens(&self, known: WallTime, ran: Stretch) {
        self.store.devices().correct_tokens(known, ran, self.clock.ages().wall, |result| {
            if let Err(error) = result {
                log::warn!("join tokens were not put right after a change of the clock: {error}");
            }
        });
    }

    /// Writes down the wall time, for the next start, and which tokens are over by it.
    pub(super) fn remember(&self) {
        self.store.remember_wall_time(self.clock.known());
        self.correct_tokens(self.clock.known(), self.clock.ran());
    }

    fn note(&mut self, change: &ClockChange) {
        self.announcer.clones.lock().store_all();
        let message = words(change);
        let severity = match change.event {
            ClockEvent::Forward | ClockEvent::Back | ClockEvent::StartedBehind => Severity::Warning,
            ClockEvent::StartedAhead | ClockEvent::Right | ClockEvent::Believed | ClockEvent::Slept => {
                Severity::Info
            }
        };
        match severity {
            Severity::Warning => log::warn!("{message}"),
            _ => log::info!("{message}"),
        }
        let seconds = (change.by_milliseconds / 1_000).to_string();
        let fields = [("change", name(change.event).to_owned()), ("seconds", seconds)];
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(own_event(severity, CLOCK_KIND, message, change.now, fields));
        }
    }
}

/// Name of a change in an event's field `change`.
fn name(event: ClockEvent) -> &'static str {
    match event {
        ClockEvent::StartedAhead => "started_ahead",
        ClockEvent::StartedBehind => "started_behind",
        ClockEvent::Forward => "forward",
        ClockEvent::Back => "back",
        ClockEvent::Right => "right",
        ClockEvent::Believed => "believed",
        ClockEvent::Slept => "slept",
    }
}

fn words(change: &ClockChange) -> String {
    let far = span(change.by_milliseconds.unsigned_abs());
    let pause = format!("nothing is deleted or expires by age for {}", span(GRACE_SECONDS * 1_000));
    match change.event {
        ClockEvent::StartedAhead => format!(
            "the clock is {far} ahead of when the server last ran: a long stop or a wrong clock; {pause}"
        ),
        ClockEvent::StartedBehind => format!(
            "the clock is {far} behind when the server last ran: times are computed anew, check the clock"
        ),
        ClockEvent::Forward => {
            format!("the clock was set forward by {far}, to {}: {pause} unless it is set right", change.now)
        }
        ClockEvent::Back => {
            format!("the clock was set back by {far}, to {}: times are computed anew", change.now)
        }
        ClockEvent::Right => {
            format!("the clock was set back by {far} and is right again, at {}", change.now)
        }
        ClockEvent::Believed => {
            let ahead =
                if change.by_milliseconds < 1_000 { String::new() } else { format!(", {far} ahead,") };
            format!("the clock{ahead} has run without a step for so long that it is believed")
        }
        ClockEvent::Slept => format!("the machine slept for {far}"),
    }
}
