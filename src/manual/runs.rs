//! Runs: what a device does with a task that it is to execute.
//!
//! Which tasks there are, when they are due and what becomes of them at the server is told in
//! [`tasks`](super::tasks). The device's side is [`agent::task`](crate::agent::task), which has the files of
//! a run as well.
//!
//! # A device's offer
//!
//! A `[[task]]` table in the application's file ([`applications`](super::applications)) is a kind of task.
//! Program and arguments are the file's; the server gives settings and no more.
//!
//! ```toml
//! [[task]]
//! kind = "backup"
//! command = ["shop", "backup", "--level={level}"]
//! arguments = { type = "object", properties = { level = { type = "integer", maximum = 9 } }, required = ["level"] }
//! timeout_seconds = 1800
//! user = "shop"
//! ```
//!
//! | key | means |
//! |---|---|
//! | `kind` | what a task calls it |
//! | `command` | program and arguments, with placeholders; no shell sees it |
//! | `arguments` | JSON Schema of the settings, written as TOML; left out: there are none |
//! | `timeout_seconds` | how long it may take at most: 600, at most 86,400 |
//! | `user` | the user to run as; left out: the agent's |
//! | `directory` | where it runs; left out: `/` |
//! | `repeatable` | `true`: it does no harm to execute it twice |
//! | `artifact` | `"any"` or `"signed"`: its runs come with a file ([below](#artifacts)); left out: with none |
//!
//! `{level}` in an argument is that setting: a text, a number or a truth value. It stays within its argument,
//! whatever is in it. A text that begins with `-` is refused where the argument begins with it, so that it is
//! never taken for an option; a placeholder whose setting is missing is refused as well. None is allowed in
//! the program's name. A brace itself is written twice. `{artifact}` is the path of the run's artifact, where
//! the kind has one.
//!
//! Only where `muster-agent.toml` says so (`[tasks]`, `exec = true`), the agent offers a kind of its own:
//! `exec` of `muster-agent` executes any command, `{"command": ["ls", "/tmp"], "user": "nobody", "directory":
//! "/tmp"}`. Without it the server can't choose a program.
//!
//! # The program's input
//!
//! | what | is |
//! |---|---|
//! | standard input | the settings: one JSON object |
//! | `MUSTER_RUN`, `MUSTER_APPLICATION`, `MUSTER_TASK_KIND` | which run, of what; the rest of its environment is the agent's |
//! | `MUSTER_ARTIFACT` | the path of its artifact, where its kind has one |
//! | `MUSTER_ARTIFACT_NAME`, `MUSTER_ARTIFACT_SHA256` | the name of the file that the artifact was made from, never a path; its hash |
//! | `MUSTER_ARTIFACT_COMMENT` | of a signed one: the trusted comment of its signature |
//! | `HOME`, `USER`, `LOGNAME` | the user's, where one is named |
//! | its rights | those of the agent's service, which its unit may have to widen; for another user CAP_SETUID, CAP_SETGID and CAP_KILL |
//! | its process group | one of its own. When it ends by itself, whatever is left in that group is killed, and the result says so; a daemon that has a session of its own goes on |
//!
//! Another user has its own group and no further ones. Only an agent that runs as root can change the user;
//! any other rejects the run.
//!
//! # The program's output
//!
//! | it | says |
//! |---|---|
//! | writes `progress: 40 copying files` | 40 % done, and what it is doing; `progress: - waiting` when it can't tell how much. At most 1 KiB, and no part of the output |
//! | writes anything else, on either output | output: the first 32 KiB and the last are kept, and how much lies between them |
//! | ends with 0 | *succeeded* |
//! | ends with 75 (EX_TEMPFAIL, sysexits.h) | *not now*: nothing was done. `again: 600` as one of its last two lines: come again in that many seconds |
//! | ends with another code | *failed*; its last line is the reason |
//! | is ended by a signal | *failed* |
//!
//! Without `again` the server comes again after five minutes, never sooner than after 5 seconds or later than
//! after a day. It is the same run: it may come again until it expires, and 'not now' is neither an end nor
//! an attempt.
//!
//! # From an order to a program
//!
//! 1. A run that the device does not execute is *rejected* at once, with the reason: no such kind, settings
//!    that its schema refuses, a user that is not there.
//! 2. Anything else is written down under `runs/` in the data directory and is then *accepted*. The same
//!    order may come again; it is answered and not executed twice. Runs that are over are remembered, the
//!    last 1,000, and are not executed again either.
//! 3. It waits for its turn: oldest first, one at a time for each application, and four in all (`[tasks]`,
//!    `concurrent`, 1 to 16). A run that has no turn in the time that the server gave it, until its window
//!    closes or it expires, is *not now*. That time is a length and not a moment: it is measured by the
//!    system's uptime, sleep included, whatever the device's clock says; only over a reboot that clock is
//!    asked as well.
//! 4. Command and settings are worked out anew by what the files say then, and written down. A supervisor,
//!    `muster-agent supervise-run`, starts the program: a process of its own, which needs neither the agent
//!    nor the server.
//! 5. The supervisor writes how it ended, with the output. The agent reports it until the server has stored
//!    it, and then forgets all but its id.
//!
//! Its longest execution is the task's or the kind's, the shorter of the two. Beyond that it is ended,
//! *timed_out*.
//!
//! # Artifacts
//!
//! A kind with `artifact = "any"` needs a file for each run: firmware, a package. The server keeps it, known
//! by the SHA-256 of its content ([`tasks`](super::tasks)). The device fetches it over its link before the
//! run begins, in parts of 48 KiB, one at a time, beside everything else that is said on the link. With
//! `"signed"` the file must have a signature as well, by the key that the device trusts for releases.
//!
//! A run that waits for its artifact is *accepted* and no more. It holds up no other run. It says once a
//! minute how far the download is, in its message, here and at the server. Its time goes on meanwhile: when
//! its window closes or it expires, it is *not now* and the download stops. Its parts stay for a day, and the
//! next run that needs them goes on from there.
//!
//! | what happens | the download |
//! |---|---|
//! | the link breaks, the server is away or busy | goes on where it was, once they are back |
//! | the agent is killed, the device loses its power | goes on where the file ends; 4 MiB at most come again |
//! | several runs need the same artifact | comes once |
//! | the run is cancelled | stops; what has come is deleted |
//! | all has come | is read back. When the content is not what its hash says it comes anew, three times in all; then the run has *failed* |
//! | the signature is not right | the run is *rejected*, the file deleted |
//! | the server does not have it (any more) | the run has *failed* |
//! | it is larger than `muster-agent.toml` allows (`[artifacts]`, `mebibytes_max`, 256) | the run is *rejected* |
//! | it fits, but not beside those of other runs | waits for them |
//! | the disk is full, or would have less than 2 MiB left | the run is *not now* |
//!
//! The file is in `artifacts/` in the data directory, and is deleted as soon as the last run that needs it is
//! over: a program that wants to keep it copies it. A program of another user, which can't get into that
//! directory, is handed the open file: `MUSTER_ARTIFACT` is then a path below `/dev/fd`, good for the program
//! and for what it starts unless that closes its descriptors.
//!
//! # Executions of a run
//!
//! Progress is read once a second and reported every two at most. While nothing changes a run is reported
//! once a minute, so that the server knows that its device lives. An agent that was started later than the
//! run looks after it once a second. `muster-agent status` shows the runs that are here.
//!
//! # Ending one
//!
//! A run that the server does not want any more is not begun. A running program gets SIGTERM, it and
//! everything that it started, in whatever process group and session, and after 5 seconds SIGKILL; so does
//! one that takes too long. A program that wants to leave nothing half done has these 5 seconds.
//!
//! Processes that had not ended when their program had, and were killed, are part of the result, also of one
//! that succeeded: `succeeded: 2 processes were left over and ended: sleep (4711), sh (4712)`. At most three
//! are named. When the program was told to end, what it started gets half a second more than the program
//! itself.
//!
//! # Survival
//!
//! | what happens | the run |
//! |---|---|
//! | the server is away | goes on; what was said last is said again when it is back |
//! | the agent is stopped, killed or replaced | goes on under its supervisor, and may end under it; the next agent finds it and reports. Waiting runs begin only then |
//! | its supervisor is killed | what is left of the program is killed; it was *interrupted* |
//! | the device is shut down, reboots or loses its power | what ran was *interrupted*; what waited, waits on, and the time without the device counts |
//! | the file that says what was ordered is damaged | *failed* |
//! | the one that says how it ended is damaged | it was *interrupted* |
//! | the data directory is lost, or an older one comes back | the device says that it does not know the run; the server ends it or, with `--may-repeat`, orders it again |
//!
//! That a run survives its agent takes a service that ends only the agent: `KillMode=process`, as in
//! `tools/systemd/muster-agent.service`.
//!
//! Nobody can tell how far an interrupted run came. It has *failed*, with that reason; but when both the task
//! (`--may-repeat`) and the kind (`repeatable`) say that it does no harm, the device executes it again, three
//! times in all. `exec` counts as repeatable: there the task alone decides.
#![forbid(unsafe_code)]
