//! Clocks: what a wrong one does, and what it does not.
//!
//! A wall clock can lie at any moment: a battery that is empty starts it in 1970, a time server or a person
//! sets it wrong, a machine that was paused wakes with the time of before. Deadlines and lengths of time go
//! by the monotonic clock, which can't be set; order comes from positions and sequence numbers. Ages and
//! dates remain, and for those the server watches its wall clock.
//!
//! # Steps of the clock
//!
//! Once a second the wall clock's progress is compared with the monotonic clock's. A time server's
//! corrections, up to 60 seconds within an hour, are followed and are no step. More is one. The time that a
//! machine sleeps is known to it (`CLOCK_BOOTTIME`, clock_gettime(2)) and is no step; a pause that only the
//! host of a virtual machine knows of looks like a step forward, and is treated as one.
//!
//! At a start the wall clock is compared with the last time on disk, which is written every ten minutes and
//! at the end. More than a quarter of an hour ahead of it is a long stop or a wrong clock, which can't be
//! told apart; more than a minute behind it is a clock that was set back.
//!
//! # A step forward
//!
//! The time that is shown follows at once. For an hour of running (`GRACE_SECONDS`) nothing is done by age
//! that can't be undone:
//!
//! | what | meanwhile | then |
//! |---|---|---|
//! | segments of the event log (`retention_age`) and of its warnings (`warnings_age`) | none is deleted for its age; `retention_size` goes on | by the new time |
//! | numbers of the day before ([statistics](super::status)) | none is forgotten | by the new time; those of a time that turns out to be ahead go, but for the last of each |
//! | join tokens | live on as if there had been no step | are over by the new time |
//! | runs of [tasks](super::tasks) | none expires or is given up | see there |
//! | keys of session tickets | none is replaced | by the new time |
//! | statuses | ages are judged as if there had been no step | by the new time |
//!
//! When a device was last heard, and when it comes again, moves along with the clock: a step makes none of
//! them lost. After a start or a sleep all have as long to come as agents take to come back.
//!
//! The doubt ends at once when the clock is set back to where it should be, and after the hour otherwise;
//! another step begins the hour anew, one to a time before all that is known as well. `status` shows it
//! (`clock.condition` is `doubted`), the log says it, and so does an event of the server itself:
//!
//! | field `change` | means |
//! |---|---|
//! | `forward`, `back` | the clock was set |
//! | `right` | it was set back to where it should be |
//! | `believed` | the hour is over |
//! | `started_ahead`, `started_behind` | at the start it was far from the last time on disk |
//! | `slept` | the machine did |
//!
//! Its kind is `clock`, its application `muster`, its device `0` (`(server)` in tables), and the field
//! `seconds` says how far.
//!
//! # A step back
//!
//! Nothing is older than it was, so nothing is suspended unless the clock was doubted before. Times that lie
//! in the future by the new time are brought near: a device that was last heard in the future was heard now,
//! a token that was made in the future lives from now on as long as it was given, and the next times of tasks
//! are computed anew. A token that was over by a clock that was right stays over, whatever the clock says
//! later, and so does one that lived all its time without a step: that is stored with it, every ten minutes
//! and at each step.
//!
//! A database that is put back by hand, and not with `musterd restore`, remembers the time of its copy: a
//! step while the server was down may be hidden by that.
//!
//! # Stamps that a wrong clock left
//!
//! They stay as they are: an event shows when the server's clock said that it came. They do no harm:
//!
//! - `event list --since` looks at every segment whose own summary says that it may hold such a record, and
//!   passes over single records.
//! - A segment's age comes from its stamps and from those around it. A stamp of the future says nothing;
//!   records are no older than those before them; and before a gap that is longer than `retention_age` (a
//!   long stop, or a clock that began in 1970) they count as written at its end. So events are rather kept
//!   too long than too short.
//!
//! # Devices
//!
//! With each sync a device says what time it has. More than five minutes from the server's is a reason of its
//! [status](super::status) (`clock.warning_beyond`), until a sync finds it right. While the server's own
//! clock is doubted no device is judged by it.
//!
//! No certificate, pin or ticket depends on a date: a device in 1970 or 2100 enrols, syncs and delivers, and
//! a server that was first started there is the same when its clock is right. Certificates are compared with
//! stored copies or looked up by their hash; the server's own has no end (the year 9999), and those of
//! devices are a status when they end, never an outage. The key of a ticket is replaced by age alone, and
//! not while the clock is doubted.
//!
//! The tests move the clock of real processes with libfaketime (`tests/system/clock_steps.rs`,
//! `clock_identity.rs`).
