//! Security: who is trusted with what, what a stolen thing is good for, and what one of them can consume.
//!
//! # Trust
//!
//! | who | may | may not |
//! |---|---|---|
//! | a stranger: anybody who reaches the port | begin a TLS handshake; with a valid join token, enrol | learn anything of the fleet: the server's certificate is all that it shows. While no token is valid a stranger is told so after the handshake, and that is all |
//! | a device: who has a certificate that the server knows | say everything about itself, deliver events under its own name, read the settings, tasks and rules that are meant for it | name another device: the certificate says which it is, a message never does. Events of the server's own application `muster` are marked `device:muster` when a device sends them |
//! | an administrator: who may open the administration socket (mode 0600, so root or the server's user) | everything: tokens, devices, settings and tasks of the whole fleet, a backup with the private keys in it | be told apart from another one; the socket knows users of the machine, not people |
//! | the holder of an API token | what its role may on its group and below ([`administration`](super::administration)), each request looked up anew: a revoked one is refused with the next. No handler can be reached without a right: the router's state opens by `May` alone (`admin/access.rs`), and `tests/ctl/rights.rs` tries every route for every role | learn of other groups' devices, give more than it has; ask from a page of another site (`Sec-Fetch-Site`, `Origin`) |
//! | a user who has signed in with a password | what their role may, as the holder of an API token; looked up anew for each request, so that another role, `user remove` and signing out count with the next one. The cookie is for this host over TLS alone, no script can read it, and what changes something with it must come from a page of this server (`Sec-Fetch-Site: same-origin`, or `Origin`) | the same; keep a session for longer than 7 days, or for 12 hours without using it |
//! | a user who signs in with OpenID Connect | the same, as the user whose first sign-in was theirs, by issuer and subject. The answer of the provider is taken once, from the browser that began (a cookie, `state`), from that provider (`iss`, RFC 9207), for a code that is worth nothing without PKCE's secret; its ID token must be signed with RS256, ES256 or EdDSA by a key that the provider publishes, for this server, for this sign-in (`nonce`), and in its time (`admin/openid`) | the same; be another user by taking their name at the provider |
//! | the provider of OpenID Connect | say who somebody is: it can be any of the users who sign in there | make a user, or give rights; be one who has a password |
//! | the server's user | read the data directory, so all keys | more than its unit allows it on the machine (`tools/systemd/musterd.service`) |
//! | the server, seen from a device | order what the files in `applications.d` declare; with `[tasks] exec = true` anything | the rest of the device: [`neighbours`](super::neighbours) |
//!
//! A device trusts its server's certificate, whose hash came with the join token, those that this server has
//! told it of since (the next one, the recovery key's), and a certificate for which one of their keys has
//! signed a voucher ([`trust`](crate::machine::trust)); no authority of the Internet can vouch for another.
//! The server trusts the certificates in its database, and those that it has signed for a device in it
//! ([`operations`](super::operations)), one look for each handshake, resumed ones included: `musterctl device
//! remove` takes effect at once and cuts the link.
//!
//! # Use of stolen things
//!
//! | what | is good for | and then |
//! |---|---|---|
//! | a join token | enrolling devices, as many as it has uses left, until it expires, into its group. It can't read or change another device, and its holder can't pose as the server: it holds the hash of a certificate, not a key | `musterctl token revoke ID`; the log names each device that enrolled and when (`device show` too), `musterctl device remove NAME` sends it away. `--name` and `--approval` make it worth less; one of `device re-enrol` is good for one device's record, once |
//! | an API token | what its role may, until it expires or is revoked; it is stored as a hash, and has 192 random bits | `musterctl api-token revoke ID`; `musterctl audit list` has what was changed with it |
//! | a one-time link | setting the password of one user, once, within a day; its secret stands behind the `#`, which no browser sends and no log has | `musterctl user passwd NAME` makes another one, and what came of the stolen one ends |
//! | a user's password | what their role may, API tokens that may no more than that included | `musterctl user passwd NAME`: password, sessions and API tokens of the user end. It is stored as its Argon2id hash (19 MiB, two passes) |
//! | the cookie of a session | what the user may, until they sign out, for 12 hours without use, at most for 7 days. It is stored as a hash; a restored backup has none | signing out, or `musterctl user passwd NAME`; `musterctl audit list` has what was changed with it |
//! | a device, or its key file (`muster-agent-data`, mode 0600) | being that device: its settings, tasks and what they hold can be read, its events, inventory and results can be made up. Not another device's, and nothing of what it stored before | `musterctl device re-enrol NAME`, and enrol the real one with that token: the stolen certificate dies at that moment, and the record stays; its keys of datagrams, with which it wakes the successor or says that that has shut down (until its next connection), die with `musterctl certificate rotate-secret` and `retire`. Until then a copy of the file is good for as long as the device is: an expired certificate is still let in, and a renewal replaces the key but can be asked for by the copy, too. Or `musterctl device remove NAME`. A copy that runs beside the original is noticed (*two devices seem to use this identity*), and is not served with `[identity] clones = "refuse"`. With `"fork"` it is given a token for the device's group: who may make devices without end should not have that; a thousand in an hour is the limit |
//! | the administration socket | the whole fleet, as long as it can be opened; with a backup all keys, for good | as for the server's keys |
//! | the server's key (`identity/server-key.pem`, or a backup; under a passphrase neither is of use, see [`identity`](super::identity)) | posing as the server: a holder who can also answer in its place (DNS, routing) orders every device what the server could | `musterd recovery-key use` ([`operations`](super::operations)): from its next sync on a device refuses the stolen key. Without a recovery key a rotation (`musterctl certificate prepare`, `switch`, `retire`) does the same for devices that come by, unless the thief is there first |
//! | the recovery key (it is not on the server) | posing as the server for good | `musterd recovery-key create` makes another one; devices forget the stolen one with their next sync |
//! | the authority's key (`ca-key.pem`) | being any device of the fleet: the server lets in what its authority has signed for a device that is there. Not the server: devices compare its certificate, not who signed it | it lies beside the server's key, so act as for that: `recovery-key use` makes another authority |
//! | the server's secret (`server-secret.pem`) | forging datagrams: waking devices, and notices that one has shut down, until its next connection. With the database also reading TLS sessions' tickets of the last day and a half | `musterctl certificate rotate-secret`, and `retire` once devices have the new keys; with the server's key stolen, too, as for that |
//! | the secret of the client at the provider of OpenID Connect (`client_secret_file`) | nothing alone: a code is needed, and the secret of PKCE that belongs to it, which is in the server's memory | another one at the provider; the file is read for each sign-in |
//! | the key of `[tls]` or `[admin]` files | posing as the server, as long as its voucher is good | a rotation: the voucher is by the server's own key |
//! | the database alone (`store/`) | reading names, groups, inventories, settings and results, which may hold secrets of applications. Tokens and sessions are stored as hashes; each guess of a password takes 19 MiB and some 20 ms; certificates are public | settings that hold secrets are changed |
//! | the event log alone (`journal/`) | reading the events | |
//!
//! Recorded traffic is of no use to the thief of any key: every session's key comes from a key exchange of
//! its own (RFC 8446 section 1.2).
//!
//! # Audit
//!
//! Every request that changes something has a row in the database before its answer begins, refusals too, and
//! so does a backup, which holds all keys. The row of a change is part of the change's own transaction: both
//! are durable or neither is. Changes elsewhere (the certificate's rotation, a call of devices) get theirs
//! behind the change; a server that dies in between loses the row. Requests are written down without secrets,
//! texts are cut after 2 KiB. A sign-in is by `unknown`, with the name that was given, or the issuer, subject
//! and name that a provider of OpenID Connect has given. A dry run changes nothing and has none.
//!
//! A row's SHA-256 covers the row and the hash of the one before it. `musterctl audit verify` finds a row
//! that was changed, taken out or put in, and an end that was cut off. A holder of the database file can
//! write the whole chain anew: the hash of the last row goes out as the event `audit_head`, every hour in
//! which it has changed and at each start, so that a copy of the events elsewhere convicts the new chain.
//! Refusals have 100 rows at once and one in ten seconds over time, those of strangers on their own: nobody
//! pushes the rows of changes out
//! with them; what is beyond is in the log.
//!
//! # Limits
//!
//! Nothing that one of them does makes the server grow without a limit, or keeps others from being served.
//! Each row is tried by `tests/server/limits`, against a real server, beside an honest device that delivers
//! events meanwhile.
//!
//! | what | limit | when it is reached |
//! |---|---|---|
//! | probes of one device | six wakes a minute, to whatever port it names; 4,096 of all devices wait to be sent | refused with a word; a check says *skipped* |
//! | messages of one device | what keeps one core busy, 75 seconds of it ahead ([`rate`](crate::machine::rate)), all its links together | its links are not read until some has come back; nothing is lost |
//! | events of one device | 8 KiB of the log a second, 64 MiB at once (`[journal] device_rate`, `device_burst`): [`delivery`](super::delivery) | they wait on the device, which shows as a reason of its status; warnings outlive other events in any case ([`operations`](super::operations)) |
//! | answers that a device does not read | 1 MiB a link, and `[links] buffer_size` for all of them: an eighth of the memory that is free, 64 MiB to 1 GiB | the link is closed, `slow_reader`; those that have held most for longest, `held_most` |
//! | parts of artifacts that a device asks for | one a link until the socket has taken it, 500 a second over time; none while half of the workers' room or of `buffer_size` is in use | it is told to ask again later; events and syncs go on |
//! | uploads that a device does not finish | 1,000 parts of 64 KiB a link, and the same `buffer_size`; 512 jobs of 64 MiB for workers, 4,000 operations of 64 MiB for the store | the device is told to come later; 256 operations and 32 MiB more are there for administrators alone |
//! | links of one device | the one that serves it, and two on their way in or out | the oldest of the two is closed, `extra_link` |
//! | epochs of one device | the server begins one epoch a start, and only when three different devices know more than it does | the device is asked for everything anew, alone |
//! | what can't be decoded | 64 KiB a frame, 8 messages a link | the link is closed: `malformed` |
//! | connections on which nothing is said | 64 handshakes beside the links of devices, and 2,048 for each thread that serves connections; the rest waits in the kernel | the oldest loses its place after 1.5 seconds when another waits, each after 10 seconds |
//! | handshakes that stop half-way | the same | the oldest loses its place after 4 seconds when another waits |
//! | connections without a certificate | one for 32 links, 16 to 256, beside those of devices; 5 seconds for the first word; none while no join token is valid | the oldest makes room, `stranger_evicted`, but not one that is being enrolled, of which there are as many at most |
//! | guesses of a join token | one for each handshake; a token has 192 random bits | refused with a word, and the connection is closed |
//! | datagrams | looked at one by one, and dropped unless their authentication holds (`datagrams_dropped`) | the kernel drops what comes faster |
//! | connections to the administrators' port | 64, 16 of one address, beside those of the socket; 5 seconds for the handshake, 15 for a request's head | one of an address with too many is closed; the next waits in the kernel. Root gets in at the socket whatever comes here |
//! | requests in HTTP/2 | 96, 48 of one address; 15 seconds without one; 30 seconds in which nothing of an answer is taken, whatever else the connection does | the next waits for 5 seconds and is refused: `busy`; the connection is closed; that answer is broken off, and the others of the connection go on |
//! | requests without a token that is good | 401 before anything is looked at but the token | that is all that a stranger learns: not even which paths there are, but for the installer ([`packages`](super::packages)) |
//! | requests for the installer | 60 at once from one address, one a second over time; 16 agents are sent at once, 8 to one address (`tests/server/install.rs`) | refused: `busy`; the installer tries three times |
//! | wrong API tokens | 20 at once from one address, ten a minute over time; 4,096 addresses are remembered | refused before they are looked up, good ones from there, too: `busy` |
//! | wrong passwords | 20 at once from one address, and for one user, ten a minute over time; 100 at once and four a second of all; one is looked at at a time, 16 wait | refused before they are looked at, right ones, too: `busy`. Unknown users cost and hear the same. Sessions go on, and `musterctl user passwd` on the socket makes a link that needs no password |
//! | sign-ins that have gone to a provider | 1,024, of which 16 are of one address, for 10 minutes; 4 at once ask it for a token, each for 7 seconds and 256 KiB; an unknown key is looked for once in 10 seconds | the oldest of the address goes, others are refused: `busy`. Answers that belong to none count as wrong passwords of the address. Passwords and the socket go on |
//! | connections of administrators | 64, of which 16 are for requests that are answered at once | the next waits for 5 seconds and is refused: `busy` |
//! | followers that do not read | 32, each with 128 events ahead | the stream waits; what retention deletes meanwhile is told as `gone` |
//! | answers that wait for devices | 16 | refused: `busy` |
//! | artifacts that administrators add | 4 at once, 4 GiB each, for an hour at most and 256 KiB in a minute at least; `[artifacts] total_size` of all, 1,000 in number; 256 MiB of the disk stay free | refused in words, and nothing of it is left |
//! | requests of administrators | 24 KiB of head within 15 seconds, 64 KiB of body, 30 seconds without a byte | refused, and the connection is closed |
//!
//! Beside them, as no attack of one but of many devices with a token each: 10,000 devices may wait for
//! approval, for 30 days, 1,000 of them with a certificate of a device that the server does not know any
//! more. Beyond that an enrolment is refused with a word (`store/tests/membership.rs`).
