//! Events of a device, on one link.

use crate::machine::command::Command;
use crate::machine::device_state::{DeviceState, EventVerdict};
use crate::machine::rate::{EventRate, Owed};
use crate::machine::record::OWN_EPOCH;
use crate::wire::message::{Events, Later, Resend, ToAgent};
use crate::wire::time::Now;

/// A link's knowledge of the events that come on it.
#[derive(Debug, Default)]
pub(super) struct EventFlow {
    /// Events came that lie before the last one stored, and nothing has shown yet that they are the stored
    /// ones.
    in_doubt: bool,
    /// Events were not taken, and the device was told when to send them again. Until it says that it does,
    /// those behind them come, which were under way: were one appended, those before it would count as sent,
    /// and be lost.
    is_held: bool,
    /// Cost of what was appended, as far as the device's allowance has not been told yet.
    owed: Owed,
}

impl EventFlow {
    /// Judges each event. New events are appended, as far as the device's rate allows; the acknowledgement is
    /// asked for once, behind the last of them. An acknowledgement covers all numbers up to the last one
    /// stored, so nothing is taken from a device that was acknowledged more than is known here: it is asked
    /// for all that it still has behind that. Contents of events are not looked at: one that this version
    /// can't read, as of a newer agent, is stored as it came. Refused, it would come again for ever.
    ///
    /// # Errors
    /// With the answer to a device that contradicts what is stored. Nothing of the message is then appended.
    pub(super) fn take<'b>(
        &mut self,
        record: &DeviceState,
        events: &Events<'b>,
        rate: EventRate,
        now: &Now,
        out: &mut Vec<Command<'b>>,
    ) -> Result<(), String> {
        self.is_held &= !events.begins_again;
        if self.is_held {
            return Ok(());
        }
        let epoch = events.spool_epoch;
        let conflict = || {
            format!(
                "the server has event {} of this device already, and it is another or is left out: the device was rolled back to an older image",
                record.last_sequence
            )
        };
        if epoch == OWN_EPOCH {
            return Err("spool epoch 0 is the server's own: begin another".to_owned());
        }
        if epoch < record.spool_epoch {
            // The device draws the next one at random: it is told above which.
            let (spool_epoch, after) = (record.spool_epoch, record.last_sequence);
            out.push(Command::Send(ToAgent::Resend(Resend { spool_epoch, after })));
            return Err("the server knows a later spool of this device: it begins a new epoch".to_owned());
        }
        if record.is_rolled_back(epoch, events.highest) {
            return Err(conflict());
        }
        let after = record.known_through(epoch);
        if events.acknowledged.is_some_and(|acknowledged| acknowledged > after) {
            out.push(Command::Send(ToAgent::Resend(Resend { spool_epoch: epoch, after })));
            return Ok(());
        }
        let before = out.len();
        let admitted = rate.admits(record.event_allowance, now.moment, &events.items);
        // The record learns of an append when the caller has done it; until then this copy stands for it.
        let mut ahead = *record;
        let mut reached_last = false;
        for (at, item) in events.items.iter().enumerate() {
            let crc = crc32c::crc32c(item.body);
            match ahead.judge(epoch, item.sequence, crc) {
                // The events before it were never shown to be the stored ones, and now can't be.
                EventVerdict::Append if self.in_doubt && epoch == ahead.spool_epoch => {
                    out.truncate(before);
                    return Err(conflict());
                }
                EventVerdict::Append if at >= admitted => {
                    self.is_held = true;
                    break;
                }
                EventVerdict::Append => {
                    self.in_doubt = false;
                    out.push(Command::Append {
                        spool_epoch: epoch,
                        sequence: item.sequence,
                        body: item.body,
                        crc,
                    });
                    ahead.note_appended(epoch, item.sequence, crc, 0);
                    reached_last = true;
                }
                EventVerdict::Repeated => (reached_last, self.in_doubt) = (true, false),
                EventVerdict::Before => self.in_doubt = true,
                EventVerdict::Conflict => {
                    out.truncate(before);
                    return Err(conflict());
                }
            }
        }
        if self.in_doubt && events.sent_through.is_some_and(|through| through >= ahead.last_sequence) {
            out.truncate(before);
            return Err(conflict());
        }
        if reached_last {
            out.push(Command::AckWhenDurable);
        }
        if self.is_held {
            let seconds = rate.held_seconds(record.event_allowance, now.moment);
            out.push(Command::EventsHeld { seconds });
            out.push(Command::Send(ToAgent::Later(Later::with_events(seconds))));
        }
        Ok(())
    }

    /// `events` events, with `bytes` bytes together, are in the journal.
    pub(super) fn note_appended(
        &mut self,
        now: &Now,
        record: &mut DeviceState,
        rate: EventRate,
        appended: (u64, u64),
    ) {
        rate.take(&mut self.owed, &mut record.event_allowance, now.moment, appended);
    }

    /// The last message is looked at once more: that some of it was not taken was not said.
    pub(super) fn look_again(&mut self) {
        self.is_held = false;
    }
}
