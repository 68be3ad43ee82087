//! Identity for a lifetime: how devices and the server know each other, and stay able to, whatever is lost.
//!
//! No date and no lost file is meant to end a fleet. A certificate that is over is a word in a status, keys
//! are replaced while everybody works, and for each thing that can be lost or stolen there is a way back
//! that needs no visit to a device.
//!
//! # Certificates on both sides
//!
//! | | shows | the other looks |
//! |---|---|---|
//! | server | its certificate, and vouchers behind it | whether it equals one of the stored copies (*pins*), or a pinned key vouches for its key |
//! | device | its certificate | whether the store knows its hash; otherwise whether the server's own authority signed it, for a device that is there |
//! | a new device | a join token | whether it is known, has uses left, and is meant for this name or device |
//!
//! Dates in certificates are read by nobody but the server, which decides when to renew: a device may have
//! booted in 1970 or in 2100.
//!
//! # Certificates of devices
//!
//! `[identity] device_certificate_life` (365 days when nothing is said, 1 minute to 10 years). At two
//! thirds of it, spread over the fleet, the server has the device renew:
//!
//! 1. The device makes a key (or keeps its own: `renewal_key = "same"`), and asks on its link.
//! 2. The server signs, stores the new certificate beside the old one, and sends it.
//! 3. The device stores both in one durable write, and connects with the new one.
//! 4. That proves it to the server, which forgets the old one; the device does so behind the first sync
//!    that ends well.
//!
//! An end between any two steps leaves a certificate that works. If the server is restored from a copy of
//! before the renewal, or the device's disk is, the certificate that is shown is unknown there or an old one;
//! it was signed by the server's authority for a device that exists, so it is let in, and renewed when that
//! is due. A certificate that died with a take-over (below) stays dead, also at a server that was restored
//! from before that, once the machine that has the record has come; with that it is no copy, whatever the
//! older state says of the machine before it (event `record_taken_over`). An expired certificate is renewed
//! like any other.
//!
//! The first key is an Ed25519 one, or as `muster-agent enroll --key-type p256` says, and later ones are of
//! the same kind. `key_type`, on the device or by a policy for the whole fleet (application `muster-agent`),
//! moves a fleet from Ed25519 to P-256 and back: each device asks for a certificate for the other kind by
//! itself, and keeps that kind when the policy goes.
//!
//! # The server's key
//!
//! Devices store copies of up to four certificates: current, next or former, recovery. A change of the set
//! is sent with the next sync; a device counts as knowing it once it has stored it and said so.
//!
//! ```text
//! musterctl certificate prepare    makes the next key; its certificate spreads with syncs
//! musterctl certificate status     what share of the fleet has it, and who has not
//! musterctl certificate switch     the next is the current one; refused while it would lose devices
//! musterctl certificate retire     the former one is forgotten, here and on the devices
//! ```
//!
//! A device that was away all that time knows the former certificate alone. It comes back by the **recovery
//! key**: `musterd recovery-key create` makes it, stores its certificate as one more pin, prints the
//! private key once and keeps it nowhere. With it the administrator signs a *voucher*, a certificate for
//! the next key that the server shows behind its own (`certificate prepare --recovery-key-file FILE`).
//! Vouchers are numbered, and a device takes none below the highest number that it was told: a key that was
//! stolen earlier is worth nothing with the voucher that it had.
//!
//! ## When the server's key is lost, or stolen
//!
//! ```text
//! systemctl stop musterd
//! musterd recovery-key use --key-file FILE --data DIR
//! systemctl start musterd
//! ```
//!
//! makes a new key and secret, and a voucher for the key by the recovery key. Devices come by themselves,
//! accept the voucher, and are told the new pins with their first sync. Nobody visits a device. Make a new
//! recovery key afterwards: this one has been on a machine that is connected.
//!
//! The authority stays while its files are whole: its signature is what lets devices in whose certificates a
//! restored server does not know. When somebody else has the files say `--stolen`: it is made anew, too, and
//! devices that the database knows come back all the same. Make a backup then: copies of before, of the
//! server or of a device's disk, have certificates in them that nobody knows any more. The same holds for
//! copies from before another recovery key was made.
//!
//! Without a recovery key, a device that was away for a whole rotation, and every device after a loss, has
//! to enrol anew. `certificate status` says so as long as there is none.
//!
//! ## Certificates of an authority of your own
//!
//! `[tls] certificate` and `key` have the devices' port show a certificate of the administrator's own
//! authority, as scanners may want to see it. Devices don't pin it: muster's own key, which they have
//! pinned, signs a voucher for the key in the files, at each start and whenever the files change. So an
//! ACME client may renew them every 60 days, with the same key or another, and no device notices.
//!
//! `[admin] certificate` and `key` do the same for the administrators' port, for browsers: there the file's
//! further certificates are shown, too. `musterctl` needs nothing for it, neither a file of an authority nor
//! another hash: the voucher leads from the certificate that its token names to that of the files, which may
//! so be renewed as often as one likes.
//!
//! A key, or a passphrase (below), that others can read is refused, at the start, at a reload and by
//! `check-config`: as with PostgreSQL, the file has mode 0600, or 0640 when it belongs to root, so that a
//! service reads it by its group. A running server goes on with the files that it has.
//!
//! # Joining
//!
//! `token create` takes a pattern of names (`--name 'kiosk-*'`) and `--approval`: then a device waits in
//! the list until `musterctl device approve NAME`, with its certificate in hand and nothing to see.
//!
//! The key with which a device asks is on its disk before it asks, and stands for the device: one that hears
//! no answer, or ends before it has stored it, asks again, is told the same device, and uses its token once.
//! (The gate that turns strangers away opens for any token that is valid: where the one that was used up was
//! the only one, another has to be made, and keeps its use.)
//!
//! `musterctl device re-enrol NAME` prints a token that takes the record over: a machine that was made anew
//! has its name, group, settings, tasks and history back, and the certificate of before dies at that
//! moment.
//!
//! A device that a restored server does not know, with a certificate that its authority signed, stands in
//! the same list as lost: `device approve ID` makes its record anew, and the device notices nothing.
//!
//! # Two machines with one identity
//!
//! A copied disk has the key in it. The copies are told apart by what they can't share: the boot, the
//! history of what was sent, a keyed hash of the machine id, and certificates once one of them has renewed
//! its own: the old one comes, as after a restore, and then the renewed one again, which no restored machine
//! has. The server stores what it has seen of such a device, so that a restart of it changes nothing
//! (`machine/clones.rs` has the points of each sign). `[identity] clones` says what then happens:
//!
//! | | |
//! |---|---|
//! | `"alarm"` | an event and a word in the status; both go on taking turns |
//! | `"fork"` | the one that came later is sent a token for the group and enrols anew, with a key of its own; both live |
//! | `"refuse"` | the one that came later is turned away |
//!
//! Which one came later is certain where the machine ids differ. Virtual machines that share one are told
//! apart by their boots: when the first has booted since, or the server was started, either may be taken for
//! the copy.
//!
//! `muster-agent prepare-image` makes a disk that may be copied: whatever boots from it enrols as itself.
//!
//! # The server's keys on its disk
//!
//! `identity/` holds the server's private keys and its secret, in PEM, mode 0600. With
//!
//! ```toml
//! [identity]
//! passphrase_file = "credential:muster"
//! ```
//!
//! they are kept under a passphrase, from the next start on: each sealed by itself (AES-256-GCM, with a key
//! of PBKDF2-HMAC-SHA256, 600,000 iterations), so that a reader of the disk has certificates and nothing
//! else. The passphrase is the first line of a file that is there at the start:
//!
//! | `passphrase_file` | where it comes from |
//! |---|---|
//! | `credential:muster` | systemd: `LoadCredentialEncrypted=muster:/etc/credstore.encrypted/muster` in the unit, made with `systemd-creds encrypt --with-key=tpm2`, or with the host's key |
//! | a path, such as `/run/keys/muster` | whatever puts it there before the server starts: a program that has a TPM or a key server unseal it into memory |
//! | `-` | standard input, where a person is asked |
//!
//! A backup has the files as they are on the disk, so it needs the passphrase of its day at the start after
//! a restore. Another passphrase, or none: `musterd identity protect` and `unprotect`, with the server
//! stopped. While it runs the keys are in its memory. Keys that were on the disk in clear before may be
//! found there until they are written over; on a disk that others had, make new ones (`recovery-key use
//! --stolen`).
//!
//! | a thief of | has, without the passphrase | and with it, or when there is none |
//! |---|---|---|
//! | the data directory, or a backup | what the database and the event log say; certificates; nothing to pose as anybody with | the server: [`security`](super::security) |
//! | the database alone (`store/`) | names, groups, inventories, settings, results; hashes of tokens and certificates | the same: no key is in it, and the seeds of TLS tickets are half of what a ticket takes |
//! | `identity/` alone | certificates | posing as the server and as any of its devices |
