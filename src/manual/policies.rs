//! Policies: what a device's applications should be set to, and how that is said once for many devices.
//!
//! A *policy* is settings, one JSON object, for one application in one group. A device's *effective settings*
//! are the policies of its groups from the root down, each over the one above it, then the device's own
//! settings. Objects are merged key by key; everything else (numbers, texts, lists, `null`) is replaced as a
//! whole.
//!
//! ```text
//! /                  {"currency": "EUR", "receipt": {"lines": 40, "logo": "a"}}   locks currency
//! /shops             {"receipt": {"lines": 60}}
//! kiosk-17 (own)      {"currency": "USD", "receipt": {"logo": "b"}}
//! ─────────────────────────────────────────────────────────────────────────────
//! kiosk-17 should have {"currency": "EUR", "receipt": {"lines": 60, "logo": "b"}}
//! ```
//!
//! # Locks
//!
//! A lock names a key by its dotted path (`receipt.lines`; a dot within a name is written `\.`). It freezes
//! that key, and all below it, as it is at the level that locks it: levels below can't change it, can't add
//! to it, and can't replace an object that it lies in. A lock on a key that the policy does not have is
//! refused. `musterctl policy explain` shows for each key its value, where it comes from, who locked it, what
//! it overrode, and what was refused.
//!
//! # Revisions
//!
//! Each change (of a policy, of own settings, of a device's group, of the tree) is one new revision and one
//! transaction, in which what every device concerned should have is worked out anew. Only devices whose
//! settings differ then are asked: those that are connected at once, a few hundred a second, the others at
//! their slot, or woken with `--now`. The device checks the settings by its own rules, puts them in place and
//! reports ([`applications`](super::applications)); `musterctl settings show` has desired and reported side
//! by side. A file of which nobody orders the settings any more stays on the device as it is.
//!
//! # History
//!
//! The last 50 versions of each policy are kept, as far as they have room in 256 KiB: when each was set, by
//! whom, settings, locks and drift; that a policy was removed is a version as well. They go along when the
//! group is moved, and with it when it is removed. `musterctl policy history` lists them, with `--diff 12` it
//! says what revision 12 changed, key by key; `musterctl policy revert --revision 12` sets the policy to what
//! it was then, which is one more version. With `--dry-run` all commands that change settings only say which
//! devices would have other ones, and how those differ.
//!
//! # Drift
//!
//! When somebody changes an application's settings file by hand, the device notices at its next look. With
//! `--drift repair`, which holds at the root, it puts the ordered settings in place again; with `--drift
//! report` it leaves the file alone and says so. The nearest level that says anything counts. Both are an
//! event of the kind `settings_drift`.
//!
//! # The server's own application
//!
//! Settings for `muster` are the rules by which devices are judged ([`status`](super::status)). They go by
//! the same tree, and to no device.
#![forbid(unsafe_code)]
