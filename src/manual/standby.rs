//! When the machine of the server dies: a standby, and what each kind of it loses.
//!
//! One machine carries a million devices. Devices keep their events on their disk while there is no server,
//! and go on as they are set to: a server that is away for an hour costs an hour's news and nothing else. So
//! first ask what a dead machine would cost you, and take the first row that is enough:
//!
//! | what | back after | of what was acknowledged, lost |
//! |---|---|---|
//! | **a service manager** that starts the server again (the packages' unit does) | seconds, if the machine lives | nothing |
//! | **a backup elsewhere**, restored by hand or by a script | as long as it takes somebody to see it | what came after the last backup, unless devices still have it |
//! | **a standby on a disk that outlives its machine** (a cloud's or hypervisor's volume, a SAN, DRBD) | 1 s after the disk is there | nothing |
//! | **a standby on a file system that both have mounted** (NFS, CephFS, OCFS2) | 11 s | nothing, if it does what it says of a sync to disk |
//!
//! Nineteen of twenty fleets need no more than the second row; the third is for those that are watched around
//! the clock. There is nothing beyond one serving machine yet.
//!
//! # The standby
//!
//! ```text
//! musterd run --config /etc/muster/musterd.toml --wait
//! ```
//!
//! It waits while another process holds the data directory, says whose it is, and takes its place when that
//! one is gone, however it ended. It looks four times a second. Both machines can run it so: the one that
//! comes first serves. As a unit it is started as soon as it waits, and `systemctl status` shows what it
//! waits for:
//!
//! ```ini
//! # systemctl edit musterd
//! [Service]
//! ExecStart=
//! ExecStart=/usr/bin/musterd run --config /etc/muster/musterd.toml --wait
//! ```
//!
//! - **It makes no new server.** A data directory that is empty, or not there, is a place where
//!   a disk is missing: it waits for that. The first server of all is started without `--wait`, or restored.
//! - **Its configuration** is its own file, which should say the same as the other's; the addresses may
//!   differ. SIGHUP has it read again, and what is wrong with it shows then.
//! - **A passphrase** has to be there without a person: a credential or a file (`[identity]
//!   passphrase_file`).
//! - **Upgrades by day**: start the new version as a standby on the same machine, end the old one, and
//!   devices are away for the time of a start. A newer server brings the database to its own version, so the
//!   way back is a backup ([`upgrades`](super::upgrades)).
//!
//! # Devices find it
//!
//! The standby has the same keys, so that devices accept it as the server it stands for. They find it
//! in one of these ways:
//!
//! - The address moves with the disk (a virtual address, a cloud's elastic one): devices notice nothing.
//! - A name with several addresses: an agent tries them in turn, first the one at which it was last served.
//! - A list of servers: `muster-agent enroll --server a.example.org,b.example.org`, or `server` in
//!   `muster-agent.toml`, up to eight.
//! - A list that the server hands out, to all or to a group, by a policy for `muster-agent`:
//!
//! ```text
//! echo '{"servers": ["a.example.org", "b.example.org:13000"]}' > servers.json
//! musterctl policy set --group / --application muster-agent --file servers.json
//! ```
//!
//! A handed-out list is tried in its order, and behind it the servers of the device's own file or of its
//! enrolment: a wrong list strands no device. It is kept on the device, counts from the next connection on,
//! and goes with the policy. `muster-agent status` shows all that are tried, and `muster-agent
//! check` says of each what is wrong.
//!
//! An agent tries first where it was last served, then the others in their order. After a machine that
//! refuses, as one does without a server, the next is tried at once; one that says nothing costs a quarter
//! of a second (RFC 8305), two seconds when no other takes a connection either, and one that takes
//! connections and does not shake hands, ten seconds. Names are resolved all at a time, and the slowest
//! answer is waited for: addresses need no name server that may have died too. A device whose link was cut
//! comes back within the window that the server announced, one second for fleets up to some thousands
//! ([`storms`](super::storms)). A machine that vanishes without a word is noticed when an answer is missing:
//! a minute after an event at the latest, and by a device that has none at its next ping (`[links]
//! keep_interval`) or sync.
//!
//! # One writer
//!
//! Two servers on one data directory would destroy it. The second one is kept out by:
//!
//! - **The lock** of the directory (flock(2)), always. It ends with its process, and can't be left behind. On
//!   disks that one machine at a time has mounted it is all that is needed.
//! - **The lease**, on file systems that several machines can have mounted, where a lock may reach no
//!   further than its machine: a file of that name, written every two seconds, which tells the machine. It
//!   is free when it has not changed for ten seconds of the watcher's own clock; wall clocks are not asked.
//!   A server that could not write it for six seconds, or finds another's, ends at once without another
//!   write. `[server] lease` says so for file systems that are not known as such. A server that ends in
//!   order gives it up, and the next one need not wait.
//! - **Fencing**, which only the cluster can do: a machine that stands still between its look at the lease
//!   and its write (paused, or its storage hangs) writes when it goes on. A cluster that must not have that
//!   cuts the machine off before the disk is given to another (Pacemaker's STONITH, a cloud's detach, SCSI-3
//!   reservations).
//!
//! A process that was stopped (SIGSTOP) has its lock still; the service manager's watchdog ends it after
//! three minutes, and then the standby serves.
//!
//! # Recipes
//!
//! RPO: how much of what was acknowledged may be gone. RTO: until devices are served again.
//!
//! **A volume of a cloud or a hypervisor.** Two machines, one volume with a journaling file system, mounted
//! where it is attached. RPO 0, RTO detach, attach and mount, then a start. Whatever decides that the first
//! machine is dead must have it powered off or detached by force *before* the volume is attached to the
//! second:
//!
//! ```text
//! (the provider's command) stop or detach machine A, and wait until it is
//! (the provider's command) attach the volume to machine B
//! mount /dev/disk/by-label/muster /var/lib/muster        # on B, where 'musterd run --wait' waits for it
//! ```
//!
//! **DRBD with Pacemaker.** Two machines with a disk each, copied block by block. RPO 0 with `protocol C` (a
//! write counts when both have it); with A or B what was under way is gone. RTO the cluster's timeout (10 to
//! 30 s) and a start. Here the cluster starts the server, without `--wait`:
//!
//! ```text
//! resource muster { protocol C; net { fencing resource-and-stonith; } … }
//! pcs resource create disk ocf:linbit:drbd drbd_resource=muster promotable
//! pcs resource create files ocf:heartbeat:Filesystem device=/dev/drbd0 directory=/var/lib/muster fstype=ext4
//! pcs resource create address ocf:heartbeat:IPaddr2 ip=192.0.2.7
//! pcs resource create musterd systemd:musterd op monitor interval=10s
//! pcs resource group add muster files address musterd
//! pcs constraint colocation add muster with promoted disk-clone INFINITY
//! pcs constraint order promote disk-clone then start muster
//! pcs property set stonith-enabled=true
//! ```
//!
//! **A file system that both have mounted.** NFS 4 with `hard` and without `nolock`, CephFS, OCFS2, GFS2. RPO
//! 0 if the file server has on its disk what was synced (`sync` in exports(5)). RTO 11 s after the last write
//! of the one that died, and a start. Both machines run `--wait`.
//!
//! **A backup elsewhere.** No second machine waits; a directory of another one does. RPO the time since the
//! last backup, less what devices still have on their disks; RTO until somebody, or a script, restores:
//!
//! ```text
//! [backup]                       # on the server; the directory is another machine's
//! directory = "/mnt/elsewhere/muster"
//! every = "1h"
//!
//! musterd restore /mnt/elsewhere/muster/muster-TIME.tar --data /var/lib/muster      # on the other machine
//! ```
//!
//! The consequences for devices are told in [`operations`](super::operations). The old machine must not
//! serve any more: devices can't tell them apart.
//!
//! # Seen
//!
//! | what | figure | with |
//! |---|---|---|
//! | a server killed under 1,000 links that send 500 events a second: its standby serves, at another address | 0.35 s after the kill | `muster-load storm --standby --devices 1000 --rate 500 --seconds 3`, release, 2 shared cores |
//! | 99 % of the devices live there, since the kill | 1.22 s; the window is 1 s | the same |
//! | events lost; stored twice | 0; 0, of 3,705 | the same |
//!
//! The same with 1,000 links, in a debug build, is a test (`tools/load/tests`), as are a standby that takes
//! over, one that waits for a disk, and the lease (`tests/server/standby.rs`), and a real agent whose
//! servers stand for each other, by its enrolment and by a policy (`tests/agent/servers.rs`). A second
//! machine, NFS and DRBD were not there to be tried: the lease was seen with another writer of its file.
