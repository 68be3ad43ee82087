//! The agent among less privileged users: what they can do to it, and what not.
//!
//! The agent usually runs as root, and reads and writes files in places that belong to others: an
//! application's pid file, its statistics, its settings. The owner of such a place can put anything there at
//! any moment.
//!
//! | another user | what comes of it |
//! |---|---|
//! | puts a FIFO, a device, a socket or an endless file in place of a file that is read | it is named (`it is a FIFO, not a regular file`) among the problems, as the condition's detail or as the reason why settings failed. Nothing waits: files are opened with `O_NONBLOCK`, regular ones only, and read up to a limit |
//! | has a file system that does not answer under such a file | looking at that application is given up after its time, told, and not begun again before it has come back; the other applications go on. The link and events wait for no look: ten seconds after its start the agent connects with what it knows, and a sync that was asked for waits a minute for a look at most |
//! | puts a symbolic link in the way of a settings file | links are followed only when root or the agent's own user made them; the others are refused with their path and owner. Everything is done relative to a directory that is held open, so that a swap at the right moment leads nowhere |
//! | gives a settings file set-user-ID bits | the new file has none: of a mode 0777 is all that is kept |
//! | has a second name (hard link) for the settings file | the file is replaced, the other name keeps the old content; event and `settings show` say so |
//! | connects to the agent's socket, where `[socket] mode` lets it | may emit events and nothing else: `status`, `sync`, `notice` and `move` are for root and the agent's own user. Its events carry the field `uid`, which the kernel vouches for (`SO_PEERCRED`), and can't be of `muster` or `muster-agent` |
//! | emits while the agent is started anew | waits ten seconds for it: the spool, which the agent's own user turns to, is not for others |
//! | emits without end | 256 KiB in a row, then 4 KiB a second for each user; a line counts as 256 bytes at least. Lines above that are refused with the time when it goes again. 16 connections a user, 48 of all of them, 64 with those of root and the agent's own user |
//! | reads the process list | finds no join token that came by `--token-file`, standard input or `MUSTER_TOKEN` |
//! | has a task run as itself that calls setsid(2) or forks twice | after its time, or when it is cancelled, everything that the run started is ended all the same, see below |
//!
//! # Attacks that stay possible
//!
//! - A user who owns the directory of a settings file can change the file at any time: that is drift, told or
//!   put right. It can remove the file that waits to be judged, or put another one in its place, so that the
//!   check judges that one. A file that is put in place afterwards is the agent's own in any case.
//! - A user may emit events of any application but the two reserved ones: `uid` tells whose they are.
//! - Elsewhere than on Linux the socket's mode is all there is, and links in the place of the settings file
//!   itself are refused.
//!
//! # Settings files
//!
//! The new file gets owner, group, access list (acl(5)) and extended attributes of the one before, an SELinux
//! label included; what can't be carried over is a reason to refuse, and nothing was touched then. The
//! kernel's attributes of the content (`security.ima`, `security.evm`) are not copied.
//!
//! A file that is a mount point (`docker run -v file:file`) can't be replaced. It is written over instead,
//! and the event says so; a reader may then see half of it, and a crash may leave half of it, which the next
//! start of the agent finds and undoes. With more than one name it is refused.
//!
//! An undo, after a command refused it or the agent was killed, happens only while the file is the one that
//! the agent put there. A file that somebody edited meanwhile is left alone and told as `settings_drift`.
//!
//! # Tasks
//!
//! A run's supervisor is a subreaper (prctl(2)): what its program starts stays below it whatever it does.
//! When the run takes too long or is cancelled, all of that gets SIGTERM and, with the program's end or 5
//! seconds later, SIGKILL; the result says which processes were left over and how many could not be ended. If
//! the supervisor may make control groups (cgroups(7), version 2, Linux 5.14; under systemd with
//! `Delegate=yes` and without `ProtectControlGroups=`), each execution of a run has one of its own: it ends
//! at once, and also when the supervisor itself was killed. The shipped unit has none. A process that a
//! program leaves behind when it ends by itself goes on if it has left the process group, as a daemon does.
//!
//! # Keys
//!
//! The private key is wiped from memory once TLS has it; the datagrams' keys, which the agent uses as long as
//! it runs, and the join token when they are dropped. On the disk they are in the data directory (0700, files
//! 0600): root and the agent's own user can read them, and a program that has them is the device.
//!
//! # The unit's sandbox
//!
//! `tools/systemd/muster-agent.service` bounds what the agent and everything that it starts can write to and
//! ask of the kernel. `muster-agent-settings.conf` widens it by the directories of the settings and by the
//! capabilities that giving a file its owner back takes. It does not stop:
//!
//! - **systemd itself.** The agent is root and may speak to PID 1 (systemctl(1) in `apply` is the reason).
//!   `systemctl start`, `systemd-run` and a unit file in a directory that was made writable run what they say
//!   outside of every bound.
//! - **what an application makes of its settings.** A directive of nginx that names a file or a program is
//!   carried out by nginx, with nginx's rights: `schema` says which directives there may be.
//! - **reading.** With CAP_DAC_READ_SEARCH the agent, its tasks and its checks can read every file,
//!   `/etc/shadow` among them.
//! - **the server.** It can order what the files in `applications.d` declare, and nothing else; with `[tasks]
//!   exec = true` it can order anything that the unit allows.
//! - **the network.** Tasks and checks may connect to wherever the device may.
