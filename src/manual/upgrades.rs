//! Upgrades: what an older and a newer version make of each other, on the wire and on the disk.
//!
//! # Promises
//!
//! From 0.1.0 on a minor version reads what the last minor version wrote, on the wire in both directions and
//! on the disk forwards. Going back is promised only where this page says so. Before 0.1.0 nothing is.
//!
//! # In which order
//!
//! 1. `musterd backup`, as before everything that can't be undone.
//! 2. The server: replace the program, `systemctl restart musterd`. Devices come back with their tickets
//!    within the reconnect window ([`storms`](super::storms)); what they have to say waits in their spools.
//! 3. `musterctl` with it, as it comes with it.
//! 4. The agents, as many at a time as you like: by the package manager, by `muster-agent install`, or from
//!    the server (below). Runs of tasks go on while an agent is replaced ([`runs`](super::runs)).
//!
//! Agents may also be newer than their server; they do without what it does not know.
//!
//! # The agent replaces itself
//!
//! To an agent that no package has installed the server can send another version: the kind of task `upgrade`
//! of the application `muster-agent`, with a release as its artifact ([`tasks`](super::tasks)). As all
//! devices execute it, it is signed by a key that the server does not have, with minisign(1) (Debian: package
//! `minisign`):
//!
//! ```text
//! minisign -G -p minisign.pub -s minisign.key
//! minisign -S -s minisign.key -m muster-agent -t 'muster-agent 0.2.0 aarch64-linux'
//! musterctl task create --application muster-agent --kind upgrade --where 'version:<0.2' \
//!     --artifact muster-agent --rate 20 --abort-percent 5
//! ```
//!
//! The trusted comment has the version and the kind of machine: `x86_64-linux`, `aarch64-linux`, `arm-linux`.
//! A device refuses a release of another kind, and one that is older than what it runs, unless the word
//! `downgrade` was signed behind it: what was signed once can't be used to bring an old fault back.
//!
//! A device trusts one release key. It stands in its file (`[releases] key`), or is pinned: by `muster-agent
//! enroll --release-key`, by the line that `musterctl token create` prints when `minisign.pub` is beside the
//! server's agents (`[admin] agents`), or by the first policy for `muster-agent` with `release_key`. A pinned
//! key is replaced on the device alone.
//!
//! The installed program is never touched. Releases are in the data directory, `releases/a` and
//! `releases/b`; the installed program, started as ever, executes the one that is due in its place, and the
//! one that is being replaced does so by itself: the process stays the same, for the service manager too.
//!
//! | a release | and then |
//! |---|---|
//! | can't be executed, or does not say its version | nothing was changed |
//! | comes in sync | it stays, and the run has succeeded |
//! | ends, or is started anew, three times without a sync | the one before is back |
//! | does not sync in time (`within_seconds` in the task's settings, 300 when left out), while the server can be reached | the same: a process of the installed program watches it, and kills it when it does not go by itself |
//! | has no server to reach | it has more time |
//! | has its run cancelled or timed out, or the device is rebooted in its trial | the one before is back |
//! | has proved itself, and its file is damaged later | the installed program runs |
//!
//! Then the run has failed and says why, `muster-agent status` does too, and `--abort-percent` ends the rest
//! of the task. Another program that is installed by hand wins over all releases. A package manager is left
//! to do its own work: there the kind is not offered. The service manager has to start the agent again when
//! it ends, as all services of [`packages`](super::packages) do. The agent replaces itself on Linux alone.
//!
//! # On the wire
//!
//! | unknown | to the server | to an agent |
//! |---|---|---|
//! | a key in a message | ignored | ignored |
//! | a kind of message | answered with `unknown_kind` (code 1); the link lives on. Of a device this costs its allowance only; a peer without a certificate has eight messages that are no enrolment | passed over |
//! | `unknown_kind` as the answer | | passed over: that server is older |
//! | a section in a sync | ignored: the device is in sync without it | |
//! | a kind or severity in an event | stored as it came, acknowledged, and listed as a warning of kind `unreadable` until a version that can read it is there ([`delivery`](super::delivery)) | |
//! | keys of host facts and conditions | stored as far as they are known; the digest is the device's own, so that it is in sync | |
//! | another value where a message has one of a few, such as a reason or an error's code | malformed: an error, and the end of the link after eight | malformed: the link ends, and the agent tries again |
//! | another version of a datagram (its byte 4 is 1), or another kind | dropped and counted | dropped and counted |
//! | another protocol than `muster/1` (ALPN) | no handshake | no handshake |
//! | a join token that does not begin with `muster1-` | | refused, in words |
//!
//! So for a change of the wire:
//!
//! - A new key is optional, and left out it means what was so before. Numbers are never used twice.
//! - A new kind is said by the server only to devices for which a missing answer does no harm.
//! - A new value where one of a few stands is understood by nobody older: it needs a key or a kind of its
//!   own.
//! - `src/wire/muster.cddl` says it too, and a test holds messages against it.
//!
//! # Administration
//!
//! The API's paths begin with `/v1`. In requests an unknown key is refused, by its name: what was meant would
//! not happen. In answers unknown keys are to be ignored, as `musterctl` does; it shows a code of an error
//! that it does not know with the server's own text. In other places where one of a few names stands a new
//! one is not understood: use the `musterctl` of the server.
//!
//! # On the server's disk
//!
//! | on the disk | has a version | read by a newer musterd | read by an older one |
//! |---|---|---|---|
//! | the database | `user_version` of SQLite's header: 3 | brought to the newest version at the first start: all steps in one transaction, or none. A copy of the old one is kept beside it first (`store/muster.db.version-N`); without room for that copy nothing is tried | refused before anything is changed: `has schema version 4, this muster knows up to 3: use a newer muster` |
//! | the journals, `journal/` and `warnings/` | in the header of each segment: 1 ([`VERSION`](crate::journal::layout::VERSION)) | as they are | the database is looked at first, and refuses. A segment of another version counts as one with a damaged header: it is set aside, never deleted, and read as far as its records are whole |
//! | `identity/` | PEM files of standard form, `stages.json` | as they are | as they are |
//! | a backup | in `backup.json`: 3 ([`FORMAT`](crate::server::backup::FORMAT)) | every format up to its own | refused: `use a newer musterd` |
//! | the configuration | none | a key that is gone is refused with its line at the start; `musterd check-config` says so before | a key that it does not know is refused |
//!
//! Steps of the schema are never changed once released; a new one is added behind them. A step that fails
//! leaves the database as it was, for the version that wrote it.
//!
//! # Going back
//!
//! As long as the schema's version is the same, an older `musterd` takes the directory of a newer one as it
//! is. When it is not, there are two ways:
//!
//! - `musterd restore` of the backup from before, into a new directory. All that happened since is lost but
//!   for what devices still have ([`operations`](super::operations)).
//! - Stop the server, move `store/muster.db.version-N` back to `store/muster.db` and delete `muster.db-wal`
//!   and `muster.db-shm`. The journal stays as it is: what it has of events behind the copy is read again at
//!   the start. Changes of administrators since then, and devices that enrolled since then, are gone. Devices
//!   that know more than the database are brought over whole, and when three say so the server draws a new
//!   epoch.
//!
//! # On a device
//!
//! The agent's files are CBOR maps with integer keys, in two slots or with a checksum; a newer agent reads an
//! older one's, with what was not there left at its default, and an older one ignores keys that it does not
//! know. If it can't read its state it sends everything whole once; an identity that it can't read is an
//! error, and the device has to enrol again. The spool is a journal as the server's. `muster-agent.toml` and
//! `applications.d` are as the server's configuration: an unknown key is refused, and a running agent goes on
//! with what it had.
#![forbid(unsafe_code)]
