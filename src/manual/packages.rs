//! Packages: muster without a compiler on the machine that it runs on.
//!
//! # One line
//!
//! On the server: the port for administrators ([`administration`](super::administration), *From elsewhere*),
//! a user, and agents in `/usr/share/musterd/agents` (`[admin] agents`), one file for each kind of machine:
//! `muster-agent-x86_64`, `muster-agent-aarch64`, `muster-agent-armv7`. The package `musterd-agents` puts
//! them there; `tools/package/static` builds them. Then `musterctl token create`, and the page *Access*
//! of the console, show what to paste into a shell of root on a device:
//!
//! ```text
//! curl -fsS --tlsv1.3 -k --pinnedpubkey 'sha256//…;sha256//…' 'https://muster.example.org:13001/install' | MUSTER_TOKEN=muster1-… sh
//! ```
//!
//! It fetches the agent for the machine, installs it as a service (*By hand*), enrols the device and starts
//! it: on any Linux with systemd, OpenRC or procd, whatever its C library, with curl, or with GNU wget where
//! that takes `--pinnedpubkey`. `sh -s -- --name kiosk-17` gives options to `muster-agent enroll`; as the
//! first, `--root DIR` installs into a tree. A failure before the device is enrolled leaves nothing behind.
//!
//! - Nothing is trusted at first sight. The line pins the keys of the port, and curl holds to a pin under
//!   `-k` as well: `-k` leaves out authorities alone. The script fetches the agent with the same pin, and
//!   runs it only when its SHA-256 is the one that the script names. The token names the server's
//!   certificate for the enrolment.
//! - Half a script does nothing. The token is no argument of a program, which others could read; the shell's
//!   history has it, when it has been used.
//! - The line works as long as its token, unless the keys change before. The pinned ones are the server's
//!   own, for which there is no date, with the next one once that is prepared; that of the certificate for
//!   browsers, for programs whose TLS has no Ed25519; or that of the files that `[admin]` or `[tls]` names.
//!   So a line that was made between `certificate prepare` and `certificate switch` outlives the rotation.
//!   One from before needs a new line after the switch, one under `certificate rotate-secret` after the next
//!   restart, and one that pins files when they are renewed with another key (certbot: `--reuse-key`).
//! - Script and agents are no secret, and nobody signs in for them: `GET /install`, and `GET
//!   /install/agent/SHA256`, of which caches may keep a copy for ever. They are rationed
//!   ([`security`](super::security), *Limits*).
//!
//! # Debian
//!
//! `tools/package/deb` builds these packages into `target/package`, on a Debian with Rust, a C compiler and
//! dpkg-dev; any machine of that architecture installs them with `apt install ./NAME.deb`.
//!
//! | package | has |
//! |---|---|
//! | `musterd` | the server; its unit, enabled and started at once; its user `muster`; `/etc/muster/musterd.toml`; dashboards and alert rules among its examples |
//! | `muster-agent` | the agent; its unit, enabled, which does nothing until the device is enrolled; that for devices that sleep; `/etc/muster/muster-agent.toml` |
//! | `muster-tools` | `musterctl`, `muster-load` |
//! | `musterd-agents` | the agents of `tools/package/static` that are there, for the server to offer (*One line*) |
//!
//! Each has the man pages and the completions of its programs. Files below `/etc` are Debian's conffiles:
//! an upgrade keeps what was changed there. An upgrade restarts server and agent behind the new program;
//! runs of tasks go on meanwhile, and their ends are told by the new agent. `apt remove` stops them and
//! leaves data and configuration. `apt purge` deletes both: with a server's data its key is gone, and
//! devices accept no other unless there is a recovery key ([`operations`](super::operations)).
//!
//! # Other packages
//!
//! `tools/package/rpm DIRECTORY ARCHITECTURE` makes `muster-agent` for systems with RPM, with the same unit
//! and configuration, of a program of `tools/package/static`. It is built in `.ci/run`, and was not installed
//! on such a system yet.
//!
//! `tools/package/container/Containerfile` is an image of the server: the static `musterd` and `musterctl`,
//! and nothing else. It was not built yet: there is no builder of images where muster is made.
//!
//! For FreeBSD and macOS there are service files, `tools/rc.d/muster-agent` and
//! `tools/launchd/muster.agent.plist`, to be copied by hand; nobody has tried them.
//!
//! # One file for any Linux
//!
//! `tools/package/static x86_64`, `aarch64` or `armv7` builds programs that need no library of the system
//! (musl), on Debian 12, from Debian's compiler and the sources of its standard library. `tools/package/deb
//! DIRECTORY arm64` makes packages of them. Beside each program stands its debug information (`.debug`).
//!
//! For armv7 the crate libc is told to keep seconds in 64 bits (`RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1`). In 32,
//! which is its choice for musl, no clock can be read from 2038 on, nor one that is wrong by as much: the
//! program ends with a panic. Another build for such a device, as of `tools/ffi`, needs the same.
//!
//! # By hand
//!
//! On a systemd machine of another kind, the server:
//!
//! ```sh
//! cargo build --profile dist
//! sudo install -m 755 target/dist/musterd target/dist/musterctl /usr/local/bin/
//! sudo useradd --system --home-dir /var/lib/muster --shell /usr/sbin/nologin muster
//! sudo install -D -m 644 tools/musterd.toml /etc/muster/musterd.toml
//! sudo install -m 644 tools/systemd/musterd.service /etc/systemd/system/
//! sudo systemctl daemon-reload
//! sudo systemctl enable --now musterd
//! ```
//!
//! and the agent, which runs once it is enrolled:
//!
//! ```sh
//! sudo target/dist/muster-agent install
//! ```
//!
//! `muster-agent install` does what the package does, where there is none: it copies itself, writes
//! `/etc/muster/muster-agent.toml` unless there is one, and the service, and enables that at the first
//! installation. Once more, by a newer program, it is the upgrade: the program is replaced by a rename, and
//! the service started again while runs of tasks go on. `muster-agent uninstall` stops and removes service
//! and program; state and configuration go with `--purge` alone. With `--root DIR` both work on a tree of
//! files, such as an image, and start nothing. Both refuse to touch what a package has.
//!
//! | service manager | service | program | state |
//! |---|---|---|---|
//! | systemd | the packages' unit, in `/etc/systemd/system` | `/usr/local/bin` | `/var/lib/muster-agent` |
//! | OpenRC (Alpine, Gentoo) | `/etc/init.d/muster-agent`, under supervise-daemon | `/usr/local/bin` | `/var/lib/muster-agent` |
//! | procd (OpenWrt) | `/etc/init.d/muster-agent`, kept by sysupgrade | `/usr/bin` | `/etc/muster/agent`: `/var` is in memory there |
//!
//! The one that runs is found out; `--service-manager` names another. The scripts of OpenRC and procd were
//! read by a shell in the tests, and have not been tried on such a system yet.
//!
//! # The build
//!
//! The profile `dist`: small code (`opt-level = "s"`), of all crates at once. An event, an idle link and a
//! handshake go through the crates that `Cargo.toml` names, which are built for speed as in `release`;
//! SQLite, which none of them needs, is built small.
//!
//! The programs of `tools/package/static`, stripped. Seconds are of processor time, on two cores that other
//! work shared; those of a processor's first program have the standard library in them, and the very first
//! what runs at the build. Memory is resident, and anonymous of that, of a program that idles: a server
//! without devices, the administrators' port open; an agent that is enrolled, connected and in sync, three
//! minutes after its start.
//!
//! | program | processor | size | to build | memory |
//! |---|---|---|---|---|
//! | `musterd` with the console | x86_64 | 14.1 MB | 547 s | 11.8 MiB; 1.6 MiB |
//! | | aarch64 | 12.0 MB | not timed | not measured |
//! | | armv7 | 11.3 MB | 982 s, as the very first | not measured |
//! | `muster-agent` | x86_64 | 6.1 MB | 372 s, as the first | 5.5 MiB; 0.7 MiB |
//! | | aarch64 | 4.8 MB | 318 s, as the first | not measured |
//! | | armv7 | 4.0 MB | 264 s | not measured |
//! | `musterctl` | x86_64 | 6.6 MB | 148 s | ends at once |
//! | | aarch64 | 5.2 MB | 149 s | ends at once |
//! | | armv7 | 4.4 MB | 151 s | ends at once |
//!
//! Under an emulator the memory is the emulator's as well: that of programs for ARM takes such a machine. The
//! server beside one of `release`, on x86_64:
//!
//! | program | of `static`, stripped | of `release`, stripped, with glibc |
//! |---|---|---|
//! | `musterd` with the console | 14.1 MB | 26.8 MB, with the demo |
//! | the same, idle, without devices, the administrators' port open, six seconds after a start: resident; anonymous memory of that | 11.8 MiB; 1.6 MiB | 19.7 MiB; 1.9 MiB |
//! | the same, at its very first start, which makes keys, certificates and tables, and the first user | 12.5 MiB; 2.0 MiB | 21.6 MiB; 2.1 MiB |
//! | its processor time for 72,000 events at 8,000 a second of 64 devices, three runs in turn | 1.49, 1.83, 1.35 s | 1.31, 1.80, 1.76 s |
//! | its processor time for 1,500 devices that enrol and connect | 2.27 s | 2.45, 2.51 s |
//!
//! Two cores that other work shared. musl's allocator has no price that such runs show. On machines of their
//! own the programs for ARM were not tried, but emulated (below).
//!
//! # Other systems, other processors
//!
//! FreeBSD and macOS have kqueue(2) instead of epoll(7), no inotify(7), no `RWF_DSYNC`, no `/proc`: what is
//! Linux's has a neighbour there. Package databases and definitions are looked at by a timer, the journal
//! writes and calls fdatasync(2), and a run is a process group. Linux uses the same where a file system or a
//! kernel has less, so the tests see these ways too; a local program's user is not known there, and the mode
//! of the agent's socket is all there is. `tools/package/systems` compiles all programs and the load tool for
//! both systems, in `.ci/run` as well. They were never run there: that takes such a machine.
//!
//! `tools/package/emulated aarch64 PROGRAM PROGRAMS`, and `armv7`, start a `muster-agent` or a `musterd` of
//! another processor under qemu-user, with this machine's programs on the other side: an agent enrols, syncs,
//! delivers events, before and after the server is killed, and runs a task. An agent is shown a clock twenty
//! years ahead, too, which takes faketime and an emulator that is not static (`qemu-user`): built with 32
//! bits for seconds, that for armv7 panics there. `.ci/run` does so with the agents for aarch64 and armv7:
//! 227 and 253 s of processor time to build each in the profile `dev`, from nothing, and 10 s to run it. An
//! emulator of system calls knows fewer of them than a kernel: there the agent does without a subreaper
//! (prctl(2)) and without `RWF_DSYNC`.
//!
//! By hand, on 2026-11-30, with qemu 7.2: the agent for armv7 and the servers for armv7 and aarch64, each
//! with programs of x86_64 on the other side, went through all of it in 9, 32 and 24 s.
//!
//! # The proof
//!
//! `tools/package/guest DIRECTORY` installs the packages in a Debian 12 of its own, in which a real systemd
//! is the first process: a directory, and namespaces of this machine's kernel, without a network. It
//! installs, enrols, runs a task as another user, gets an event, reloads, upgrades under a running task, has
//! nginx take settings (and keep them when the next are wrong), reboots and powers off (the server is told
//! which). The server's keys go under a passphrase that systemd gives to its unit. Then the machine, without
//! the agent's package, becomes another device by the line that the server prints; that agent is upgraded by
//! `muster-agent install` under a running task, then by a release from the server, then by one that is
//! broken, and uninstalled. At last the packages are removed and purged. `.ci/run` does so with the programs
//! of the tests. A boot from disk, and devices of its own, such a machine does not have.
