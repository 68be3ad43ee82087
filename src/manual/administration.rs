//! The first day with a server: enrolment, events, devices, calls, an application of your own.
//!
//! The README installs both sides. This chapter goes on from there, with a device `kiosk-17` in
//! `/shops/berlin`.
//!
//! # Access
//!
//! `musterctl` speaks to the server through a socket that is for root and the server's user alone; the
//! examples of the handbook leave `sudo` out. Another server than this machine's service is named with
//! `--server unix:PATH` or in `MUSTER_SERVER`. Every command takes `--json` and `--help`. Exit codes: 0 done,
//! 1 refused or not there, 2 bad usage. `musterctl completion bash` prints what has a shell complete all of
//! it, zsh and fish too.
//!
//! # A fleet in files
//!
//! `musterctl apply -f DIR` reads every file below `DIR` whose name ends in `.toml`, compares all of it with
//! the server, and makes the server as the files say: groups, views, tags by rule, policies and tasks
//! (`musterctl apply --help` shows each). `--dry-run` only shows the differences. A task is known again by
//! its name; one that is done is not done again. Without `--prune` nothing is removed; with it, policies,
//! views and tags by rule that no file speaks of. A file that is not understood is named with its line, and
//! then nothing is changed; when the server refuses something, those before it are made, and the next run
//! goes on there.
//!
//! # Roles
//!
//! An API token lets a person or a program do what a role may, on one group and those below it:
//!
//! ```sh
//! musterctl api-token create anna --role administrator            # prints the token, this once
//! musterctl api-token create dashboard --role reader --ttl 365d   # with --group PATH: on that group alone
//! musterctl api-token list
//! ```
//!
//! | role | may, on its group and below |
//! |---|---|
//! | `reader` | see devices, their reports, settings, tasks and events |
//! | `operator` | also call devices, make and cancel tasks, add artifacts for them (and on the whole fleet remove them), approve, name, tag and move devices, set their intervals |
//! | `policy-author` | also set policies and settings; make, move and remove groups |
//! | `administrator` | also make join tokens, remove and re-enrol devices, make API tokens (none that may more than its own) |
//!
//! People sign in with a name and a password, once the server has a port for them (below):
//!
//! ```text
//! musterctl user create anna --role administrator                 # prints a one-time link, good for a day
//! musterctl user list
//! musterctl user set anna --role operator --group /shops          # counts with her next request
//! musterctl user passwd anna                                      # another link; all that she had ends
//! musterctl user remove anna
//! ```
//!
//! With the link, `musterctl login --link-file -` sets the password: ten characters or more. Anybody who has
//! the link can do that, once. An API token that a user makes ends with the user, when they have fewer rights
//! than it, and with a new link. Make those of programs on the server's socket, so that they are nobody's.
//!
//! For people who sign in at a provider of OpenID Connect (Keycloak, Entra ID, Google, authentik and so on)
//! the server is registered there as a web application for the code flow, with the redirect address
//! `https://muster.example.org:13001/openid/callback`, and told of it in `musterd.toml`:
//!
//! ```text
//! [admin.openid]
//! name = "Example"                                                # "Sign in with Example" on the sign-in page
//! issuer = "https://id.example.org/realms/staff"
//! address = "https://muster.example.org:13001"                    # of the console, as browsers reach it
//! client_id = "muster"
//! client_secret_file = "/etc/muster/openid-secret"
//! ```
//!
//! ```text
//! musterctl user create carla --role operator --group /shops --openid
//! ```
//!
//! The provider says who somebody is; what they may is decided here, as for every user. The first person who
//! signs in there under the user's name (`claim`: `preferred_username`, or `email`, which must be verified)
//! is that user from then on, by issuer and subject: another one who is given the name later is refused, and
//! one whose name changes stays the user they were. `user list` tells who has come. To let another person
//! have the name, remove the user and make it anew; choose a claim that people can't set for themselves, as
//! anybody at the provider who has the name may come first. Such a user has no password and no one-time link;
//! sessions are the same as others', and a provider that has shut somebody out ends none of them: `user
//! remove` does, with the API tokens that they made. On a command line they use an API token, which an
//! administrator makes. The provider is asked over TLS 1.3 with the authorities of the system, or those in
//! `ca`. While it can't be reached the sign-in page says so, and passwords go on.
//!
//! Some things can't be told apart by groups and need the role on `/`: `status`, tags, lists of applications
//! and of events without a device (reader); views and rules of tags (operator); audit, certificate, recovery
//! key and backup (administrator). Lists show one's own groups; the devices, tasks and tokens of others are
//! *not there*. `musterctl` asks with the token in `MUSTER_API_TOKEN`; without one, root and the server's
//! user may everything at the socket. A group can't be removed while an API token or a user has a role on
//! it.
//!
//! # From elsewhere
//!
//! With `listen` in `[admin]` of `musterd.toml` the server opens a TCP port for administrators (13001) as
//! soon as there is an API token or a user, and not before. On the server:
//!
//! ```text
//! [admin]
//! listen = "0.0.0.0:13001"
//! ```
//!
//! and wherever `musterctl` is:
//!
//! ```text
//! musterctl login --link-file -                                   # asks for a one-time link and a password
//! musterctl login https://muster.example.org:13001 --user anna    # later: asks for the password
//! musterctl login https://muster.example.org:13001                # or asks for an API token
//! export MUSTER_SERVER=https://muster.example.org:13001
//! musterctl device list
//! musterctl logout                                                # forgets the token here; 'api-token revoke' ends it
//! ```
//!
//! Browsers warn of the server's own certificate, which no authority of the Internet vouches for; `[admin]
//! certificate` and `key` show them another one ([`identity`](super::identity)).
//!
//! Link and token name the server's certificate, so that nothing is trusted at first use, and a rotation of
//! the server's key is followed as long as the former key vouches for the new one. `musterctl` keeps the new
//! certificate as soon as it has met it, so that the token stays good; a place from where nobody asked
//! before the former one was retired needs another token, or `--user` with `--certificate`, as one does that
//! knows nothing of the server: `musterctl status` has it there. A password is asked for once: what is kept
//! is an API token with the user's rights, good for 30 days, in `$XDG_CONFIG_HOME/muster/tokens.json`, mode
//! 0600. `musterctl status` says where the port is. Programs ask with `Authorization: Bearer`, in HTTP/1.1
//! or 2 over TLS 1.3, browsers with the cookie of a session ([`wire::api`](crate::wire::api)); `GET
//! /v1/openapi.json` describes all of it as OpenAPI 3.1.
//!
//! # Tokens
//!
//! A join token names the server's certificate, has a life, a number of uses and a group. The device reads it
//! from a file, or `--token-file -` asks for it, or `MUSTER_TOKEN` has it: as an argument every user of the
//! device could read it, and in a command line it stays in the shell's history. A unit that enrols has it as
//! a credential of systemd: `--token-file %d/token` with `LoadCredential=token:FILE`. An agent alone, without
//! the server's dependencies, is built with `cargo build --release --no-default-features --features
//! muster-agent`; `--features musterd` builds the server without agent and control command.
//!
//! A token can be bound to names, and to an administrator's word:
//!
//! ```sh
//! musterctl token create --uses 50 --name 'kiosk-*'               # no device of another name comes in with it
//! musterctl token create --uses 50 --group /new --approval        # each device waits until somebody approves it
//! musterctl device list --presence waiting                        # those that wait
//! musterctl device approve kiosk-18 --group /spare                # in sync within about a minute; nobody touches it
//! musterctl device approve --where 'name:booth-*' --yes           # all of those that wait and are named so
//! musterctl device remove kiosk-19                                # not wanted: refused from now on
//! ```
//!
//! A device that waits has enrolled and is given nothing: no settings, no tasks, no calls, and nothing that
//! it says is taken. `muster-agent status` and `check` on it say so; it looks once a minute whether it was
//! approved. At most 10,000 wait at a time, and one that waited for 30 days is removed. Devices that a
//! restored server does not know any more wait in the same list ([`operations`](super::operations)).
//!
//! On a device that sleeps, `tools/systemd/muster-agent-sleep.service` tells the server so. The agent syncs
//! at the interval that the server names, and at once when something is installed or removed.
//!
//! # A machine that was reimaged
//!
//! It would come back as a new device, as `kiosk-17-2`. With a token that is made for it, it takes its old
//! record over:
//!
//! ```sh
//! musterctl device re-enrol kiosk-17                              # prints a token, for one machine, for a day
//! ```
//!
//! On the new machine that token is used as any other, with `muster-agent enroll`, under whatever name.
//! Id, name, group, settings, tasks and events stay. The certificate that the device had is dead the moment
//! the token is used: its link is cut, and an old disk that is started again is told that another machine has
//! taken its record over. The event log has `record_taken_over`. Until the token is used nothing changes;
//! `musterctl token revoke` takes it back. A run that the old machine had begun ends as one of which the
//! device knows nothing any more ([`runs`](super::runs)).
//!
//! # Events
//!
//! ```sh
//! sudo muster-agent emit --application backup --severity error --kind backup.failed "the disk is full" --field disk=sdb
//! ```
//!
//! `emit` returns once the event is in the device's spool, on its disk. It travels at once when the device is
//! connected, and otherwise as soon as it can. Programs may write to the agent's Unix socket instead, one
//! JSON line an event; `[socket]` in `muster-agent.toml` lets those of other users in, and `emit` with them;
//! theirs waits ten seconds for an agent that is started anew. On the server:
//!
//! ```sh
//! musterctl event list --severity error --limit 20
//! musterctl event follow
//! ```
//!
//! `event follow` misses none, however many come. `event follow --newest 20` is for people who look on: twice
//! a second the newest 20 at most, and how many more there were (`skipped` in the API's stream).
//!
//! Warnings and worse are kept for longer than other events (`[journal]` in `musterd.toml`), so that a device
//! that floods the log does not wash them away. The promises about events: [`delivery`](super::delivery).
//!
//! # Devices
//!
//! ```sh
//! musterctl status                                      # the server at a glance
//! musterctl device list --group /shops --search kiosk
//! musterctl device list --where 'os:debian app:openssl seen:<1d' --sort -last_seen
//! musterctl device show kiosk-17
//! musterctl device set kiosk-17 --interval 5m --keep-connected on
//! musterctl application list --name 'openssl*' --version '<3.0.14'
//! musterctl device remove kiosk-16                       # refused from now on, also on resumed connections
//! ```
//!
//! # Find and select
//!
//! ```sh
//! musterctl device list --where 'version:<0.2 -(name:test-* or group:/shops)' --csv
//! musterctl device list --where 'kiosk presence:lost status:critical' --sort group
//! musterctl device sync --where 'os:debian app:libssl3<3.0.14'
//! musterctl tag set kiosk --where 'name:kiosk-*'                    # those that are so now
//! musterctl tag rule outdated 'version:<0.1 or app:openssl<3.0.14'  # those that are so at any moment
//! musterctl view save silent 'seen:>7d -tag:outdated'
//! musterctl device list --where 'view:silent or tag:outdated'
//! musterctl device list --where tag:kiosk --facets                  # numbers, by presence, group and so on
//! musterctl device set --where tag:kiosk --interval 15m --yes
//! ```
//!
//! A filter is a line of terms; blanks join them, `or` means either side, `not` or a `-` the opposite, and
//! parentheses do what they say. Everything is compared in whatever case of ASCII letters, but for the names
//! of applications. In double quotes stands what has blanks, parentheses or a colon in it.
//!
//! | term | lets through |
//! |---|---|
//! | a text | devices whose name or host name contains it |
//! | `name:ber*`, `host:*.example.org` | those with such a name, or host name: `*` is any text, `?` one character |
//! | `group:/berlin` | those of the group and the groups below it |
//! | `os:debian` | those whose system has this id, or this text in its name |
//! | `version:<0.2` | those whose agent has such a version: `<`, `<=`, `=`, `!=`, `>=`, `>` |
//! | `app:openssl`, `app:lib*<3.0.14` | those that have an application of such a name (and version), as `application list --name` and `--version` have them |
//! | `presence:lost`, `status:critical` | those that are so |
//! | `seen:>2h`, `synced:<1d` | those last heard, or last in sync, longer or less long ago; never is longer than anything |
//! | `tag:kiosk`, `view:silent` | those that have a tag (of such a name); those of a saved filter |
//! | `pins:missing`, `pins:stored` | those that do not yet, or do, know the server's certificates as they are now |
//!
//! An error names the character, and `musterctl` points at it. A filter has at most 2,048 bytes and 64 terms,
//! and is at most 16 parentheses deep. `--where` stands wherever devices are meant: `device list`, `device
//! sync`, `device set`, `device approve`, `device remove`, `tag set` and `task create`; the other options of
//! `device list` are terms of the same filter. `--sort` takes any column, and with a `-` before it the other
//! way round; `--sort why` goes by the text of the worst reason, whatever time it tells. `--csv` has the
//! columns of the table, as they are on the screen; a name that a spreadsheet would take for a formula has an
//! apostrophe before it.
//!
//! A tag by a rule is asked anew whenever it is named, so that it is right at every moment; a rule names no
//! tag and no view, a view no view. There may be 256 of each, named with letters, digits, `-`, `_` and `.`.
//!
//! A command that does something to a selection says how many devices it is about and asks first, in a
//! terminal and without `--yes`. Devices that wait for approval are not called, and are given no tasks, tags
//! and settings: of them `device approve` and `device remove` alone are. `device set` and `device approve`
//! change all of them or none. `device remove` goes on in pieces of 256, whatever the number: when it breaks
//! off, those that are removed stay so, the answer says how many they are, and the same command removes the
//! others. One that takes longer than 25 seconds is told so, and goes on meanwhile.
//!
//! All that is listed is in memory while somebody asks, about 150 bytes a device, and for five minutes after:
//! the first question reads it from the database, each other one only what has changed since.
//!
//! # Audit
//!
//! Each change that was made, and each that was refused, is a row: who asked (the user of the machine, by the
//! socket's credentials, the user or the API token), when, what, the thing before and the request. A dry run
//! has one only when it was forbidden.
//!
//! ```sh
//! musterctl audit list --since 24h
//! musterctl audit verify                                 # follows the chain; exit code 1 when a row was changed or is missing
//! ```
//!
//! The rows are a chain of hashes ([`security`](super::security)). They are kept for two years, at most
//! 100,000 of them; the chain goes on from where the deleted ones ended.
//!
//! # Calls
//!
//! ```sh
//! musterctl device sync kiosk-17 --wait                  # now, whether it is connected or not; says what became of it
//! musterctl device sync --group /shops --wait           # everybody there, with progress; of whom it could not reach, why and until when
//! musterctl device show kiosk-17 --now                   # has it look at itself anew first
//! musterctl device why kiosk-17                          # why is it in sync or not, and when will it be?
//! musterctl device set kiosk-17 --keep-connected on      # its connection stays; also for a group: group create /shops --keep-connected on
//! ```
//!
//! A connected device is asked on its connection, any other is woken: one authenticated UDP datagram, upon
//! which the agent connects to its own server's address and checks the certificate as always. A device that
//! shuts down, sleeps or whose agent is stopped says so, so that `device list` tells *shut down* from *lost*;
//! `musterctl event list` has each change.
//!
//! Ways to reach devices, and the ports that they take: [`reach`](super::reach).
//!
//! # An application of your own, in ten lines
//!
//! On the device, one file says what may be set of an application, and how:
//!
//! ```toml
//! # /etc/muster/applications.d/shop.toml
//! name = "shop"
//! [condition]
//! systemd_unit = "shop.service"
//! [settings]
//! file = "/etc/shop/settings.json"
//! format = "json"
//! validate = ["shop", "--check", "{file}"]
//! apply = ["systemctl", "reload", "shop"]
//! [statistics]
//! file = "/run/shop/statistics.json"
//! ```
//!
//! On the server, a policy for a group, and its outcome:
//!
//! ```sh
//! echo '{"currency": "EUR", "receipt": {"lines": 40}}' > shop.json
//! musterctl policy set --group /shops --application shop --file shop.json --lock currency --now
//! musterctl policy explain --device kiosk-17 --application shop    # each key: value, which group, locked by whom, what it overrode
//! musterctl settings show --device kiosk-17                        # what it should have, what it says it has, and why not
//! musterctl group move /shops/berlin /shops/potsdam               # says first how many devices would have other settings
//! musterctl device list --status critical                         # who is not well, and why
//! musterctl device show kiosk-17                                   # conditions, settings, a day of numbers as a plot
//! ```
//!
//! The shipped service may write nothing but its own data: `tools/systemd/muster-agent-settings.conf` is a
//! drop-in that lets it write settings files of nginx; name the directories of yours there instead. Settings
//! that the application's own check refuses never get into place; a file that somebody changes by hand is put
//! right or reported. `tools/applications.d` has nginx. More: [`applications`](super::applications),
//! [`policies`](super::policies), [`status`](super::status).
//!
//! The application's tasks are declared in the same file, and nothing else can be started from
//! the server:
//!
//! ```toml
//! [[task]]
//! kind = "backup"
//! command = ["shop", "backup", "--level", "{level}"]
//! arguments = { type = "object", properties = { level = { type = "integer", maximum = 9 } }, required = ["level"] }
//! timeout_seconds = 1800
//! ```
//!
//! ```sh
//! echo '{"level": 3}' > backup.json
//! musterctl task create --application shop --kind backup --device kiosk-17 --file backup.json --wait    # with progress and output
//! musterctl task create --application shop --kind backup --group /shops --file backup.json \
//!     --schedule 'cron 0 3 * * *' --time-zone Europe/Berlin --continuous --rate 20 --retries 2 --abort-percent 10
//! musterctl task show ID                                          # every run: how far it is, why it waits, until when
//! musterctl task cancel ID                                        # final at once; ends the program on devices that can be reached
//! ```
//!
//! Every run ends: it expires, times out, or its device says how it went. It is executed at most once unless
//! it says that it may repeat, whatever dies in between. More: [`tasks`](super::tasks),
//! [`runs`](super::runs).
#![forbid(unsafe_code)]
