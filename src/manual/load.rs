//! Sizing a server with `muster-load`, and the meaning of its figures.
//!
//! The tool simulates devices: the real agent's decisions ([`crate::machine::agent`]), the real wire and TLS,
//! thousands in one thread; what a device has on its disk is left out. It looks at the server from outside:
//! processor time and memory of its process, the kernel's memory for sockets, bytes at its own sockets.
//! Without `--server` it starts a server of its own on loopback, in a process of its own, and removes
//! everything afterwards. It is a package of its own (`tools/load`): `cargo build --release -p muster-load`.
//!
//! ```sh
//! muster-load hold --devices 10000                     # what a connected device takes; ends with how many fit
//! muster-load sync --devices 1000                      # a sync in which nothing has changed
//! muster-load events --devices 1000                    # durable events a second
//! muster-load events --rate 6400 --handshakes 256      # do acknowledgements suffer while others shake hands?
//! muster-load storm --devices 5000                     # the server is killed: when is everybody back?
//! muster-load wake --devices 200 --rate 50             # how soon a device is here that is called
//! ```
//!
//! All take `--json` (one document; figures by name, the unit last), `--report FILE.html` (tables and plots,
//! one file that needs no network), `--seconds` and `--rate`. Exit code 0 means that no link and no
//! acknowledged event was lost; 1 that something was, or was refused; 2 bad usage. Ctrl-C ends a run and
//! prints what was measured until then.
//!
//! # Against a server that is there
//!
//! `--server HOST:PORT --admin unix:PATH` with the administration socket of that server: the devices enrol
//! over the wire, into its groups `/muster-load/kept` and `/muster-load/called`. Its process is found through
//! the socket, or named with `--pid`; when the server is elsewhere its processor time and memory are not
//! measured, and the report says so. Identities are kept in `~/.cache/muster-load` (`--cache DIR`,
//! `--no-cache`), so that a second run enrols nobody; when they were removed on the server, `--no-cache`
//! enrols new ones. With `--self` the server is kept with them, one for each number of devices, the newest
//! six. `storm` kills its server, so it refuses any but its own.
//!
//! # Limits of the tool
//!
//! Each link takes a descriptor, in the server and in the tool. The soft limit is raised to the hard one
//! (`ulimit -Hn`); with `--self` more devices than the server could hold are refused, with the number that it
//! could. If one client process does not suffice several are started, and the report says how many. On
//! loopback every device comes from an address of its own in 127.0.0.0/8, so ports do not run out.
//!
//! One thread simulates all devices unless `--threads` says otherwise; with both ends on two cores more
//! threads only take from the server. When that thread is busy all the time the report says so: then the
//! server may do more than was seen. Settings and tasks that the server orders are not carried out: point it
//! at groups without policies.
//!
//! # hold
//!
//! Servers that know none, half and all of the devices are started and looked at, three times each. All
//! devices come with their first upload and go, and once more, so that what visits take once is no part of a
//! link. Then they connect in six steps, at each of which the tool waits until the server is quiet and looks
//! at it; the links are held with nothing but the agents' own pings; a thousand devices reconnect with and
//! without tickets; and all are closed. Trimmed, on the machine of [`measurements`](super::measurements) (the
//! other examples here were taken while it had other things to do as well):
//!
//! ```text
//! muster-load hold --self --devices 18000                                 (load average 0.0)
//! Links
//!   connected, synced for the first time       3,214 /s
//!   held                                         18,000
//!   lost                                              0
//! Processor time
//!   connection with the first upload             324 µs
//!   holding, of one core                         1.09 %
//!   server, full handshake                       275 µs
//!   server, resumed handshake                    144 µs
//! Memory
//!   the kernel's, for a socket                  3,871 B  (measured)
//!   the server's, for a link                      228 B  (slope of private memory over 6 steps)
//!   the server's, for a device that it knows      222 B
//!   the server's, for a connected device          450 B
//!   the server without devices                 2.80 MiB
//!   after all links closed, of that before       0.96 ×  (5 s after; the target is at most 1.10)
//! this server can hold about 5,200,000 devices in 23.5 GiB
//! ```
//!
//! | figure | what it is |
//! |---|---|
//! | the server's, for a link | slope, by least squares, of private memory (`Anonymous` in `smaps_rollup`: what is no file's) over the number of links, the least that is seen in some five quiet seconds, as the server's caches come and go; *off by* is the residual |
//! | the server's, for a device that it knows | by how much private memory of two servers differs that were just started, one of which knows half of the devices, for each of the other half |
//! | after all links closed | resident memory five seconds later, of that when all devices had been there and gone; and of the server before the first link, which has no buffers and statements yet |
//! | the kernel's, for a socket | from `/proc/net/sockstat` and `/proc/slabinfo` (root), both ends' sockets counted, so it is the share of one; else the project's figure, labelled so |
//! | handshakes | of the server's processor time, with TCP and a first sync in which nothing changed |
//! | the last line | memory (`--memory GIB`, or the machine's) less a tenth for the system and less the idle server, by what a device takes in the server and in the kernel |
//!
//! The last line is about memory alone; where the server's limit of open files is lower, a note says so.
//! Processor time is the other half: pings and syncs of that many devices at the interval that you set, with
//! the figures of `hold` and `sync`; and a storm ends no sooner than the handshakes of all of them are
//! computed. Below 1,000 devices nothing is said of how many fit, since a page more or less would be hundreds
//! of bytes a device.
//!
//! # sync
//!
//! Kept devices sync over and over, each again when it is done, or all together `--rate` times a second. Time
//! counts from the moment a sync was due.
//!
//! ```text
//! muster-load sync --self --devices 1000                                  (load average 6.4)
//!   ended a second                          11,805 /s
//!   the server's, for a sync                  21.1 µs
//!   message to the server                        71 B
//!   message from the server                      30 B
//!   TLS to the server                            93 B
//!   TLS from the server                          52 B
//! ```
//!
//! # events
//!
//! Events of 200 bytes (`--bytes`), acknowledged when they are durable. By default each device has one under
//! way (`--in-flight K`): the rate is the most that these devices get, and latency follows from it. With
//! `--rate` events occur when they are due whatever became of earlier ones, and time counts from then: a
//! server that stalls shows it. At the end the server's own count must equal the acknowledgements.
//!
//! ```text
//! muster-load events --self --devices 1 --in-flight 64                    (load average 6.7)
//!   acknowledged a second                                   122,885 /s
//!   the server's, for an event                                 2.73 µs
//!   the devices', for an event                                0.819 µs
//!   median acknowledgement at low load, of a durable write      1.54 ×  (the target is at most 2)
//!   acknowledged in all                                       1,418,070
//!   stored by the server                                      1,418,070
//! LATENCY                                                             COUNT     P50      P90      P99    P99.9      MAX
//! acknowledgement at 50 events a second                                 150  971 µs  3.45 ms  10.3 ms  12.9 ms  12.9 ms
//! one durable write of 4 KiB beside it (pwritev2 with RWF_DSYNC)        142  629 µs  3.07 ms  6.05 ms  6.19 ms  6.19 ms
//! from the event to its acknowledgement                           1,229,120  352 µs   576 µs  4.71 ms  13.6 ms   172 ms
//! ```
//!
//! Over 1,000 links with one under way each (22,258 a second at a load average of 6.3) an event cost the
//! devices 20.6 µs and the server 26.5 µs. Nearly all of the devices' share is two system calls on a loopback
//! socket: with one event in a message there is nothing to share them. The disk is looked at in between
//! because it is not the same all day: compare acknowledgements with the writes of the same run.
//!
//! `--handshakes K` measures a second time while K other devices at a time shake hands in full, sync and go
//! again; another thread simulates those, so that what is seen is the server's delay. With both ends on two
//! cores it is also that of four busy threads on two processors.
//!
//! # storm
//!
//! Devices are live, some have events all the time; the server is killed with SIGKILL and started again on
//! the same port and data. A device is live again when a sync of it was answered after that. The target is
//! one and a half times the processor time of everybody's handshakes, divided by the cores: with both ends
//! here the devices' time counts too.
//!
//! ```text
//! muster-load storm --self --devices 18000                                (load average 2.6)
//!   from the kill until the server was there again            484 ms
//!   50 % live again, since the server was there               2.91 s
//!   99 % live again, since the server was there               3.56 s
//!   target for 99 %, both ends on this machine                5.23 s  (1.5 × 18000 × (158 + 230) µs of processor time, of server and device, ÷ 2 cores)
//!   full                                                           1
//!   resumed                                                   17,999
//!   attempts that came to nothing                              3,668
//! ```
//!
//! Agents draw their delays from the window that the server announced, from one second at least, and from the
//! time that the server was away when that is longer: the longer it is away, the longer the last of them stay
//! away. At the end the server's list of events is read: each that was acknowledged must be there, once.
//!
//! # wake
//!
//! Devices sync, say where they hear datagrams, and go; then random ones are called through the
//! administration. The times are the server's own, from the question until the device's sync has begun and
//! ended; a handshake is in them.
//!
//! ```text
//! muster-load wake --self --devices 200 --rate 50                         (load average 7.3)
//!   devices that were called                            500
//!   synced by wake                                      500
//!   the server's, for a call                       1.15 ms
//! LATENCY                                              COUNT      P50      P90      P99    P99.9      MAX
//! from the question until the device's sync had begun    500  1.18 ms  2.40 ms  4.51 ms  6.67 ms  6.67 ms
//! ```
