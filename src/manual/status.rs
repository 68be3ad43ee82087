//! Whether devices are well: conditions, statistics, and the rules that make a status of them.
//!
//! # Observations
//!
//! `musterctl device list` has a status and the worst reason for it; `--status critical` lists only those (it
//! works at the server, page by page). `musterctl device show NAME` has all reasons with the time since when
//! it is so, each managed application with its condition, version and settings, and each statistic with its
//! present value and a day of it in one line. `--json` has the same, and the points of the plots. `musterctl
//! status` counts devices by status. A change of status is an event about the device, of application `muster`
//! and kind `status`, with the severity info, warning or critical, and the reasons in its message.
//!
//! # The rules
//!
//! They are settings of the server's own application `muster`, under the key `status`, and so are set as all
//! settings are: by policies of groups, with inheritance and locks, or for one device. A rule that is not set
//! has its default. A level is `"warning"`, `"critical"` or `"off"`; a limit that is `"off"` never speaks.
//! Unknown keys and wrong values are refused with their path.
//!
//! | key below `status` | default | a reason, when |
//! |---|---|---|
//! | `lost.warning_after` | `"0s"` | the device counts as [lost](super::reach) for so long |
//! | `lost.critical_after` | `"24h"` | the same |
//! | `application.failed` | `"critical"` | a managed application failed |
//! | `application.stopped` | `"warning"` | it was stopped |
//! | `application.not_installed` | `"warning"` | it is not there |
//! | `application.unknown` | `"off"` | its condition can't be told |
//! | `applications.NAME.…` | as `application.…` | the same four for one application; what is left out is as for all |
//! | `task.failed` | `"warning"` | the latest run of a task failed or took too long |
//! | `task.within` | `"24h"` | for how long that counts, `"30d"` at most |
//! | `settings.failed` | `"warning"` | settings could not be applied |
//! | `settings.pending` | `"warning"` | settings are not in place yet |
//! | `settings.pending_for` | `"1h"` | after how long that counts |
//! | `settings.drifted` | `"warning"` | somebody changed them on the device |
//! | `disk.warning_below` | `10` | the statistic `disk_free_percent` of `muster-agent` is lower, in percent |
//! | `disk.critical_below` | `5` | the same |
//! | `certificate.warning_before` | `"30d"` | the device's certificate ends so soon, or in less than a sixth of its life: it was due to be renewed long before |
//! | `certificate.critical_before` | `"7d"` | the same, or in less than a twelfth, or it has ended; a warning at most of a device that has not come since it was due, which is renewed when it comes |
//! | `certificate.pin_missing` | `"warning"` | a rotation is prepared, and the device has not stored the next pin |
//! | `certificate.pin_missing_for` | `"1d"` | after how long that counts |
//! | `clock.warning_beyond` | `"5m"` | the device's clock was this far from the server's at its last sync, ahead or behind |
//! | `clock.critical_beyond` | `"off"` | the same |
//!
//! Four reasons have no rule. 'Waiting for approval' is a warning until an administrator has approved or
//! removed the device. 'It sends more events than it may, some wait on it' is a warning as long as the device
//! is told to keep events, and somewhat longer: see [`delivery`](super::delivery). 'Two devices seem to use
//! this identity' is a warning: see [copied disks](super::operations#copied-disks). It goes a day after the
//! last sign; the event `identity_shared` and `musterctl device why` say it too. 'muster-agent failed' says
//! that the disk of the device has no room for events; what else is wrong with the agent itself, such as a
//! file in `applications.d`, stands in the detail of `muster-agent` among the conditions of `device show`.
//!
//! For kiosks that are switched off over the weekend, and whose program matters more than anything else:
//!
//! ```json
//! {"status": {
//!   "lost": {"warning_after": "3d", "critical_after": "off"},
//!   "applications": {"kiosk": {"stopped": "critical"}, "cups": {"stopped": "off"}}
//! }}
//! ```
//!
//! `musterctl policy set --group /shops/kiosks --application muster --file kiosks.json`
//!
//! With `--dry-run` it says which devices would be judged by other rules, and by which.
//!
//! The worst reason is the status; a device against which nothing is known is ok. At most sixteen reasons are
//! kept for one, the worst first.
//!
//! # When a device is judged
//!
//! Within a second or two after something changed that its status hangs on: a condition, a report of settings
//! or of a run, statistics, what it should have, where it is. And with all others once a minute, because some
//! things change by time alone; where thousands change at once, most of them are judged then. Judging costs a
//! few questions to the store for some hundred devices at a time, whose answers name only what speaks against
//! one ([`measurements`](super::measurements)).
//!
//! The event comes first; the status that `musterctl` shows is stored behind it. A server that ends in
//! between says nothing twice and stores the status when it is back. A device that was lost before a restart
//! of the server stays so until it comes.
//!
//! # Statistics
//!
//! An application's file on the device says where its numbers come from; the agent brings all of them with
//! each sync. They are not acknowledged and may be lost: the next ones come with the next sync. A device has
//! at most 256 numbers; those that are not finite, or have no name, are passed over.
//!
//! The server keeps, in one row for each application of a device, the latest report as it came, and a day of
//! values in a ring: at most one point for five minutes, 288 in all, to four digits. A value that does not
//! change takes a byte, none takes more than three; with a sync every quarter of an hour, a day of twelve
//! numbers of which half change all the time takes about 2.5 KB. All rings of a device together stay below 24
//! KiB: where that is not enough, the oldest points go first. A number that is not reported any more stays
//! until the day has no value of it. The layout is documented in [`fleet::ring`](crate::fleet::ring).
#![forbid(unsafe_code)]
