//! Running a server: configuration, backup, full disks, old warnings, removed devices.
//!
//! # Starting and stopping
//!
//! `musterd run` needs a data directory and one port, TCP and UDP. A first start makes the directory (mode
//! 0700) and in it:
//!
//! | what | holds | when it is lost |
//! |---|---|---|
//! | `identity/` | certificate authority, server certificate, server secret (mode 0600) | devices come back by the recovery key; without one every device must enrol again |
//! | `store/` | SQLite: devices, groups, tokens, inventories | devices must enrol again; inventories come back by themselves. Half of the keys of session tickets, which are of no use alone |
//! | `artifacts/` | the files that tasks come with, by their SHA-256 | devices with a run that needs one are refused; `musterctl artifact list` says which to add again |
//! | `warnings/` | warnings and worse of segments that were deleted; made with the first | those warnings are gone |
//! | `journal/` | the events, in segments | the events are gone; devices still hold what was not acknowledged |
//! | `lease` | on disks that several machines share: which of them serves ([`standby`](super::standby)) | made anew; stop both servers first |
//! | `admin.sock` | where `musterctl` connects (mode 0600) | made anew at each start |
//!
//! One process at a time uses a data directory: it is locked (flock(2) on the directory itself) before
//! anything in it is opened, so that a second `musterd`, newer or older, changes nothing. The refusal names
//! the process that has it. `musterd journal verify|dump` take the same lock, shared: they read what a
//! stopped server left.
//!
//! A newer `musterd` brings the database to its own version at its first start, wholly or not at all. A copy
//! of what it was is kept beside it (`store/muster.db.version-N`) and is yours to delete; an older `musterd`
//! refuses a newer database ([`upgrades`](super::upgrades)).
//!
//! `musterd run` forbids core dumps, raises its limit of open files and has the allocator keep little
//! ([`ProcessOptions`](crate::server::process::ProcessOptions)); a program that embeds a server sets none of
//! it unless it asks for it.
//!
//! Two servers never share an address: the second is refused, and told that perhaps another musterd serves
//! devices there.
//!
//! SIGTERM and SIGINT drain: no new connections, what is in flight is finished, devices are told when to come
//! again, the journal is made durable, exit code 0, all within about ten seconds. They count from the
//! process's first moment on, as SIGHUP does. A failure of any thread ends the server the same way with exit
//! code 1, and the last line on standard error names what failed first. After `kill -9` or a power cut the
//! next start recovers by itself; nothing that was acknowledged is missing.
//!
//! A service manager that asks for it (`WatchdogSec`, as in the units in `tools/systemd`) hears that the
//! server is well as long as each thread that serves devices turns, and the agent as long as its loop does;
//! it starts again what is stuck.
//!
//! # Configuration
//!
//! `tools/musterd.toml` shows every setting with its default and what it means. A wrong file is refused with
//! its line, the key and what is allowed, and so is a path that can't be used: a directory that is missing or
//! not this user's to write, a socket's path that is too long (unix(7) allows 107 bytes). `musterd
//! check-config --config FILE` says so without starting anything, and so does `muster-agent check-config`.
//! Both try paths as the user who runs them, where they are run: what the service's user and its unit's
//! sandbox forbid shows only within the unit, where systemd runs the check at each reload, and the server's
//! at each start. Run by root by hand, they say so. A directory for backups that can't be written is a
//! warning: the server starts without, and tells of it as of any backup that fails. Left out, `--config` is
//! `/etc/muster/musterd.toml` for root and `/etc/muster/muster-agent.toml` for everybody, when it is there;
//! `musterctl` takes the socket of this machine's service. SIGHUP reads the file again: intervals, limits of
//! links, retention and the log level apply at once, and the log names the settings that wait for a restart.
//! A wrong file changes nothing then, and `systemctl reload` fails.
//!
//! An agent that is started with a wrong file, or without the one that it had, goes on with the last one that
//! it ran with, of which it keeps a copy in its data directory: nobody may be near the device. It says so in
//! the log, in `muster-agent status` and `systemctl status`, and with an event of the kind
//! `configuration_refused`. A server with a wrong file is not started.
//!
//! `[server] listen` and `udp` are the two addresses; left alone, UDP has the number of TCP.
//! [`reach`](super::reach) has a table of what a firewall has to let through.
//!
//! Each link takes a file descriptor. The server raises its soft limit to the hard one; `LimitNOFILE` in the
//! unit sets that. A large fleet's other demands on the system when all of it comes back at once are in
//! [`storms`](super::storms).
//!
//! The units in `tools/systemd` have systemd wait until the daemon says that it is up (`Type=notify`,
//! sd_notify(3)): a server then answers `musterctl` and devices, an agent takes events. They start a server
//! or an agent again however often it fails, after two and five seconds; they make `/run/muster` and
//! `/run/muster-agent` for sockets that are to be there. A port below 1024 needs
//! `AmbientCapabilities=CAP_NET_BIND_SERVICE` (and the same in `CapabilityBoundingSet=`) in a drop-in;
//! without systemd, `setcap cap_net_bind_service=+ep` on the program.
//!
//! A credential of the unit (`LoadCredential=NAME:FILE`) has the path
//! `/run/credentials/musterd.service/NAME`, which any setting may name that wants a file with a secret, a key
//! or a certificate. `check-config` leaves such paths to systemd: it starts no unit without them, and hides
//! them from `ExecReload`.
//!
//! There is no socket activation: each reactor has a listener of its own (`SO_REUSEPORT`), which the one
//! socket of a unit is not, and devices whose server is away for a moment come back by themselves.
//!
//! # Backup and restore
//!
//! The cost of a dead machine with and without them, and a server that takes over:
//! [`standby`](super::standby).
//!
//! ```sh
//! sudo musterd backup /var/backups/muster.tar --config /etc/muster/musterd.toml     # while it runs: one file, consistent, verified
//! sudo musterd restore /var/backups/muster.tar --data /var/lib/muster-new           # into an empty directory
//! ```
//!
//! `musterd backup` makes one file of everything: keys, database, events, artifacts. The server may run: then
//! it is the server that makes it, through its administration socket, and goes on meanwhile. Everything that
//! was acknowledged before the command began is in it. The database is copied first, the journal after it, up
//! to what is durable then: whatever the database says of an event, the journal has the event. It costs no
//! memory to speak of, and on the data directory's disk as much room as the database for a moment.
//!
//! The file is a tar of mode 0600 that any tar lists. Its last part is `SHA256SUMS`, which `sha256sum -c`
//! checks once it is unpacked; the other parts are described in [`server::backup`](crate::server::backup). It
//! is written beside the name that you gave (`FILE.partial`), read back from the disk, and only then has the
//! name: a kill or a power cut leaves what was there before. **It holds the server's private keys**: keep it
//! where nobody else reads it.
//!
//! `[backup]` in the configuration makes backups on a schedule, and deletes the oldest once a new one is
//! verified. Whether they are made shows in `musterctl status`, in the log, and as events of kind `backup`.
//!
//! `musterd restore` takes an empty or a new directory only, checks every hash, the database and every
//! record, and gives everything to the owner of the directory. Until all of it is there no server starts on
//! it. It draws a new server epoch, and says the consequences:
//!
//! - Devices come by themselves: certificate and keys are the same. Those that enrolled after the backup are
//!   to be approved.
//! - Sections that differ are brought over whole once.
//! - Devices send the events again that they still have and the server has not
//!   ([`delivery`](super::delivery)). An event that was acknowledged after the backup and is no longer on a
//!   device is gone.
//! - Administrators' changes after the backup have not happened: removed devices are back, withdrawn join
//!   tokens are good again, and so is the certificate of a machine whose record another one has taken over
//!   since.
//!
//! A server whose files were put back in another way, as with the image of a virtual machine, draws its new
//! epoch when three devices know more of it than it does. The log names the first ones, and each is brought
//! over whole at once.
//!
//! Stop the old server for good before the restored one starts: devices can't tell them apart.
//!
//! Devices that enrolled after the backup was made are not known to the restored server. It has issued their
//! certificates itself, and so has them wait for approval: they are in `musterctl device list --presence
//! waiting`, as `device-` and their id, the log names each, and one event is raised
//! (`not_enrolled_any_more`). `musterctl device approve ID --name kiosk-17 --group /shops` takes a device
//! back, which is in sync within about a minute; nobody has to visit it. `musterctl device remove ID` is for
//! one that had been removed since the backup. A thousand of them wait at a time, and the others look again
//! each hour.
//!
//! Files of `store/` are never to be copied by hand while a server runs, nor one without the other:
//! `muster.db` beside the `-wal` of another moment is a database that never was. A start finds that, refuses,
//! and leaves both as they are. Of a stopped server the whole data directory can be copied. A missing or
//! damaged file of `identity/` is never replaced by itself: the start is refused with the name of the file,
//! because a new identity would lock out every device. A change of `identity/` is made in a directory beside
//! it that takes its place once it is whole; a crash leaves the one or the other, and the next start clears
//! away the rest.
//!
//! # The server's key
//!
//! Devices know the server by its certificate, which has no end. Make a recovery key on the first day, while
//! every device still comes by:
//!
//! ```text
//! musterd recovery-key create > /media/safe/recovery-key.pem     # its private part, shown this once
//! musterctl certificate status                                    # how many devices have its pin
//! ```
//!
//! A rotation replaces key and certificate while the fleet is in sync all the time:
//!
//! ```text
//! musterctl certificate prepare --recovery-key-file /media/safe/recovery-key.pem
//! musterctl certificate status           # the share of the devices that have the next pin, and those without
//! musterctl device list --pins missing   # all of those
//! musterctl certificate switch           # refused when more than 1 % would be lost, with their names
//! musterctl certificate retire           # as soon as nobody needs the former one
//! ```
//!
//! Between *switch* and *retire* the former key vouches for the new one: a device that has only the former
//! pin comes back, and a join token that names the former certificate is good. After *retire* a device that
//! was away for all of it comes back by the recovery key's voucher, if *prepare* was given that key. Backups
//! from before the switch need the recovery key from then on, as below. Open links and session tickets go on
//! through all steps; a device makes one full handshake with the new certificate. `musterctl certificate
//! rotate-secret` does the same for the keys of datagrams: wakes go out with both, notices are heard with
//! either, until *retire*.
//!
//! A server whose key, authority or secret is lost or stolen, or that was restored from a backup of before a
//! rotation, gets new ones, and no device needs a visit:
//!
//! ```text
//! systemctl stop musterd
//! musterd recovery-key use --key-file /media/safe/recovery-key.pem
//! systemctl start musterd
//! ```
//!
//! Devices accept it by the recovery key, keep their certificates and records, and store what is new with
//! their first sync; from then on they refuse the stolen key, whatever voucher it had. Until then they can't
//! be woken, and the thief can pass for the server to those that have not come by. The files that were there
//! are kept as `identity.replaced`. The clock should be right: vouchers are numbered by it, so that those of
//! a restored server are not below those that devices know.
//!
//! `[tls] certificate` and `key` show devices a certificate of another authority in front of the server's
//! own. Devices accept it because the server's own key has signed a voucher for it, at the start, at a reload
//! and whenever the files change, which is looked at each minute: that it is renewed every 60 days, with the
//! same key or another, does not matter to them. Files that can't be used are told in the log, and the ones
//! before are shown meanwhile.
//!
//! After an end that was no good one (`kill -9`, a power cut) the start checks the database (`PRAGMA
//! quick_check`) before it uses it.
//!
//! # Others at the database
//!
//! Any SQLite tool can read `store/muster.db` while the server runs. A read transaction that does not end (a
//! shell that was left open) keeps SQLite's write-ahead log from beginning anew, so that it grows. It costs
//! no operation: beyond 64 MiB the server tries for 50 ms now and then, ever more rarely. The log and
//! `musterctl status` name the process.
//!
//! # A full disk
//!
//! The journal makes its segments one ahead, so a full disk shows there and not in the middle of an append.
//! Events are then not acknowledged: devices keep them in their spools, `musterctl status` says why, and it
//! goes on by itself when there is room. Retention (by size and by age, `[journal]` in the configuration)
//! deletes whole segments, the oldest first.
//!
//! # Warnings outlive other events
//!
//! Many events without weight, of a single device, fill the journal and let retention delete what is older.
//! So before a segment is deleted, its events of severity warning and worse, those of devices and the
//! server's own, are copied to a second journal, `warnings/`, and are durable there. It has a bound and an
//! age of its own: `[journal] warnings_size`, a sixteenth of `retention_size` if nothing is said (1 GiB of
//! 16), and `warnings_age`, two years. `warnings_size = "0B"` copies nothing: then no event becomes older
//! than `retention_age`; delete the directory of a stopped server to be rid of what is there.
//!
//! `musterctl event list` shows both as one list; an event keeps its position, its times and its device. When
//! a list goes further back than events are complete, a line on standard error says from when on they are,
//! and so does `deleted` in the page that the API answers. `event follow` from a position before that says
//! that events are gone, and leaves warnings from before to the list. `musterctl status` shows size and age
//! under 'warnings kept'; `musterd journal verify` and `dump`, backup, restore and the daily reading for
//! damage take both journals.
//!
//! A disk that has no room for events has some for warnings for a while: the second journal leaves 32 MiB
//! free, the first one 64. While warnings can't be copied, their segment waits as long as `retention_size`
//! allows. Then new events go first, and the segment is deleted with its warnings: the log says so, and
//! `status` counts such segments.
//!
//! # A full database
//!
//! The database needs room as well. Without it changes are refused, `musterctl status` says since when, and
//! it goes on by itself too.
//!
//! A failed write of the journal is something else: after it nobody knows what the disk holds. The server
//! stops acknowledging and ends with code 1; the service manager starts it again and it reads what is there.
//!
//! # When the process stands still
//!
//! A server that was stopped (SIGSTOP, a virtual machine's pause) or waited for its disk finds every deadline
//! passed when it goes on, though nobody was silent: it was deaf. After a turn that begins a second or more
//! late it therefore judges no deadline, of links, handshakes, writes and jobs, for as long as it was late (a
//! minute at most), and reads meanwhile; calls wait two seconds before their next step. The log says how long
//! it was. An agent does the same.
//!
//! # Many administrators
//!
//! The administration socket takes 64 clients at once. Of these 32 may follow events and 16 may wait for
//! devices (`--wait`), so that requests which are answered at once always find a place; `musterctl status`
//! shows under 'limits' how many there are of each. One client more is refused with a reason (503, `busy`): a
//! follower or one that waits at once, any other after five seconds in which no place became free. Clients
//! that do not read what they asked for are cut off after 30 seconds, and requests that announce more than 64
//! KiB are refused before they begin (413, `too_large`).
//!
//! # Damage in the journal
//!
//! Every record has its own checksum. Damage costs the records whose own bytes are hit and no others: a
//! segment with a damaged header, a file that was cut short or a gap is read as far as anything in it is
//! whole, and its events are listed and counted as before. Full segments are read through after each start
//! and once a day (8 MiB a second), so that damage is found before somebody needs what is damaged.
//!
//! A damaged segment is *set aside*: its file ends in `.damaged` then. Nothing deletes it, no rule of age or
//! size, and it does not count towards `retention_size`, so that it pushes nothing out. A file that is gone
//! leaves an empty one, `FROM-TO.missing`. `musterctl status` says `DAMAGED` with the places for as long as
//! these files are there, and `musterd journal verify` (of a stopped server) ends with code 1. To get rid of
//! both: stop the server, put the segment from a backup in its place if there is one, and move the `.damaged`
//! and `.missing` files away. A gap whose file does not come back is told of until what is older has gone
//! with retention. (`POSITION.oldest` is no damage: it says up to where retention has deleted, so that a lost
//! segment at the beginning is told from one that was old.)
//!
//! The database remembers how far the journal was durable. One that ends before that has lost files, or is an
//! older copy: the server says so, goes on behind what is remembered, uses no position twice, and asks the
//! devices concerned for what they still have ([`delivery`](super::delivery)).
//!
//! The journal is opened once, by its directory: when that is moved away while the server runs, it goes on
//! being written there, and never into another one that is put in its place.
//!
//! # Names, and what devices say
//!
//! Names of devices, groups, applications and tasks have 1 to 255 bytes, all of them to be seen: no control
//! characters (C0, C1, so no escape sequences), no bidirectional controls (U+202A to U+202E, U+2066 to
//! U+2069, U+061C, U+200E, U+200F), nothing of zero width (U+200B to U+200D, U+2060, U+FEFF and their like).
//! That excludes emoji that are joined of several.
//!
//! Commands take a device's name or its id. An id comes first, also that of a device that was removed: then
//! the command is refused. No device can be given a name of the form of an id (16 hexadecimal digits in any
//! case), and no two devices have names that differ only in the case of ASCII letters; so a text means one
//! device or none. Nor does one have a name in brackets, as `(server)` stands in lists, or one that begins
//! with `device:`, which marks what a device has no right to. Renaming to such a name is refused. A device
//! that enrols with one is called `device-` and that text, and what can't be seen is left out: the name is
//! usually the host name, which may be a serial number, and nobody stands beside it to choose another one.
//! `enroll` says so, and so does the server's log. Tasks, runs and tokens have ids alone, and groups are
//! named where groups are taken.
//!
//! Everything else that a device says is stored as it came and escaped where it is shown: in tables, details
//! and messages of `musterctl` and `muster-agent`, in `musterd journal dump` and in log lines as `\u{202e}`,
//! and with `--json` as `\u202e` (RFC 8259 section 7), whether on a terminal or not; a program that reads the
//! JSON gets the value unchanged.
//!
//! # Certificates of devices
//!
//! A device's certificate lives for a year (`[identity] device_certificate_life`, 1m to 3650d) and is renewed
//! by itself when two thirds of that are over, by the server's clock, a little earlier or later for each
//! device. The device makes a new key (`renewal_key = "same"` in its configuration keeps the one it has),
//! asks on its link, stores key and certificate beside those in use, connects anew with them, and forgets the
//! old ones when a sync has ended well there. Whatever is killed or cut off on the way, one of the two works.
//! The server keeps both until the new one was shown. `musterctl device show` and `muster-agent status` tell
//! the certificate's number, the kind of its key, its end and its renewal; the event `certificate_renewed`
//! says when.
//!
//! A certificate that has expired lets its device in all the same, and is renewed then: a device that was
//! switched off for years comes back. A shorter life counts for the certificates that are there, too: it is
//! the way to have a whole fleet renewed. The end of a certificate among the reasons of a device's status is
//! a fault when the device syncs; `muster-agent status` there, or the server's log, says which.
//!
//! Either side may be restored from a copy that is older than a renewal. The number of a certificate and the
//! device's id stand in it, signed by the server's authority, so that one which the server does not know is
//! let in when its device is there; only those from before its record was taken over are dead.
//!
//! To change a fleet to P-256 and back, set `key_type` of `muster-agent` by a policy:
//!
//! ```sh
//! echo '{"key_type": "p256"}' > p256.json
//! musterctl policy set --group / --application muster-agent --file p256.json
//! ```
//!
//! A device with a key of the other kind asks for a certificate for a new one behind its next sync. One a
//! minute is issued to a device at most. The policy counts more than `key_type` in the device's file. When
//! neither is set, a device keeps the kind that it has: that of its enrolment, which `--key-type` of
//! `muster-agent enroll`, `move` and `prepare-image` sets (`ed25519` otherwise).
//!
//! # Removed devices
//!
//! `musterctl device remove NAME` closes the device's link and refuses its certificate from then on, on
//! resumed TLS sessions too. Its events stay in the journal. To come back it must enrol again with a new
//! token, and is a new device then.
//!
//! # Images
//!
//! `muster-agent prepare-image --server muster.example.org --token-file token` makes the disk of a machine
//! one from which others can be made. It removes all that makes the data directory that of one device
//! (identity, state, spool, settings and runs that were ordered) and leaves `join.toml` there, mode 0600,
//! with the server and the token. When `muster-agent run` finds that file and no identity, it enrols the
//! device, under its host name, and tries until it has: `muster-agent status` and `check`, `systemctl status`
//! and the log say why it has not yet. Attempts thin out to one in five minutes. Then the token is
//! overwritten and the file removed. Programs that set machines up (cloud-init and the like) may write the
//! file themselves: `server`, `token` and, where wanted, `name` and `key_type`.
//!
//! The token must have a use for each machine, and live until the last one has booted (`musterctl token
//! create --uses 1000 --ttl 365d`); one that is used up or over can be replaced in the file. With
//! `--approval` none is served before an administrator has seen it. A device whose enrolment was cut off
//! behind the server's word asks again with the same key, and is the same device, with no second use (when
//! that was the last one, make another token: it is not used up). Empty
//! `/etc/machine-id` in the image (machine-id(5)), so that machines that are made from it can be told apart
//! by it.
//!
//! # Copied disks
//!
//! A disk that was copied with an identity on it makes two machines that are one device. They are told apart
//! by the boot, by a hash of the machine's id (`/etc/machine-id`, and the board's UUID where the agent may
//! read it; keyed with the id itself, so that it means nothing elsewhere), and by the agent's epoch: a
//! machine that comes back in its boot after another one is proof; a boot or an epoch that comes back on one
//! machine counts half, as a virtual machine may be set back; a section with another content in a known
//! revision counts the same, and so does a certificate that comes back after an older one that came behind
//! it; links that take each other over six times in an hour are proof again. A disk that was moved to another
//! machine, a machine that boots, and a device that was restored from a backup is no copy. The first of them
//! keeps the record, for as long as a month while it is away. The history of a suspected device, or of one
//! that was moved, is in the database: a server that starts anew goes on with it. A copy that was found out
//! is told by `[identity] clones`:
//!
//! | `clones` | the copy | the device's status |
//! |---|---|---|
//! | `"alarm"` | is served as before | *two devices seem to use this identity*, until a day after the last sign |
//! | `"fork"` | is sent to enrol anew with a token of the server's own, for the same group, once and for an hour, with a new key; its agent does so in place, under the machine's host name, and brings along what its spool holds | the same, unless each copy stays away after that |
//! | `"refuse"` | is told so in words and stays away for an hour at a time; its events wait on it | *the copy is refused*, until a day after it came last |
//!
//! Each of them is an event of the device: `identity_shared`, and `identity_forked` for each copy that was
//! sent away. Events that were waiting when the disk was copied come from both. `musterctl device why` of the
//! device, and `muster-agent status` and `check` on the copy, say what it is. Containers of one host may have
//! one id and one boot: only epochs and contents tell them apart then, and that takes longer. A copy that
//! comes less than once a day is told of each time, and found out only when it comes twice within a day.
//!
//! # Uninstalling
//!
//! Packages: `apt purge muster-agent` and `apt purge musterd` delete data and configuration, too.
//!
//! Installed by hand: on a device, after `musterctl device remove NAME` on the server, as root; its identity
//! and undelivered events are gone then:
//!
//! ```sh
//! muster-agent uninstall --purge
//! rm -rf /run/muster-agent /etc/muster/applications.d /etc/systemd/system/muster-agent.service.d
//! rmdir --ignore-fail-on-non-empty /etc/muster
//! ```
//!
//! Runs of tasks go on without the agent; `systemctl kill muster-agent` before it ends them. On the server's
//! machine, after a last backup if its devices are to be known again one day:
//!
//! ```sh
//! systemctl disable --now musterd
//! rm -rf /var/lib/muster /run/muster /etc/muster/musterd.toml
//! rm -rf /etc/systemd/system/musterd.service /etc/systemd/system/musterd.service.d
//! rm -f /usr/local/bin/musterd /usr/local/bin/musterctl
//! rmdir --ignore-fail-on-non-empty /etc/muster
//! systemctl daemon-reload
//! userdel muster
//! ```
//!
//! Settings that agents have put on devices stay there: settings files are not put back. Backups stay as
//! well, where they were made, and what was logged.
//!
//! # When something is wrong
//!
//! `musterctl device why NAME` says of one device why it is in sync or not and when it will be; `muster-agent
//! check` on the device tries every path to the server. Every closed link, every refusal and every dropped
//! datagram has a named reason with a counter: `musterctl status` shows them, and `muster-agent status` on
//! the device those of wakes.
//!
//! The log goes to standard error, with RFC 3339 times; its level is `[log] level` (`log_level` of the
//! agent), and `RUST_LOG` sets it for single modules. Under systemd, which names the journal in
//! `JOURNAL_STREAM`, lines carry journald's priorities instead, and no time of their own: `journalctl -u
//! musterd -p warning` works. Nothing waits for the log: a thread of its own writes it, from a queue of 256
//! KiB. When nobody reads it the queue fills, further lines are dropped, and one line says how many as soon
//! as there is room; `musterctl status` shows the number. The last quarter of the queue is for warnings and
//! errors. At the end of the process the queue has two seconds.
//!
//! The log stays readable under a flood. Connections that end without a valid identity (health checks, port
//! scans, removed devices) have no lines of their own: one line counts them by reason, with an example of
//! each, at most once a second and once a minute when the same goes on. Everything else that is said of
//! single devices is said 50 times a second at most, by each place in the program; what was left out is
//! counted. `RUST_LOG=debug` shows every connection.
#![forbid(unsafe_code)]
