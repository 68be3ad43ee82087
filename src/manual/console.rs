//! The console: the fleet in a browser.
//!
//! `musterd` shows the administration as pages, at the port for administrators
//! ([`administration`](super::administration), *From elsewhere*): `https://muster.example.org:13001`. Pages
//! are made on the server. There is nothing to install, nothing is fetched from elsewhere, and reading works
//! without JavaScript; the one small script adds keys, times that stay true, and events as they come.
//!
//! People sign in with a name and a password; the one-time link of a new user leads to the page where they
//! choose that. Or they sign in at a provider of OpenID Connect, when the server has one. Sessions are those
//! of [`administration`](super::administration), *Roles*.
//!
//! Every page has an address that can be kept or sent to a colleague (filters, order and page are in it), and
//! says at its foot which `musterctl` line does the same.
//!
//! | place | about |
//! |---|---|
//! | overview | what needs somebody now: devices that are critical, lost, or wait for approval; what is wrong with the server, and limits that are near |
//! | devices | a filter, values to narrow it down by, order by a click, CSV; changes of all that the filter lets through, after a page that says how many those are |
//! | a device | why it is as it is, its facts, conditions, settings and their origin, runs, events, a day of each statistic; sync, change, tag, approve, remove |
//! | groups | the tree, and from which group above each setting comes; make, move, remove |
//! | applications | which versions are installed, and who has them |
//! | policies | the settings of each group, as JSON, with locks; *Preview* says which devices would have other settings, and how they differ, before anything is saved (`musterctl policy set --dry-run`); the versions of each, what differs between two, and the way back to one |
//! | tasks | make one for a filter, follow its runs, see their output, cancel it |
//! | events | by device, severity, since and until; new ones appear by themselves, through restarts of the server as well, 50 at most each half second: a row says how many more came |
//! | access | users, API tokens, join tokens, with the line that installs and enrols a device; who one is |
//! | audit | each change that was made or refused; its chain can be checked |
//! | server | links, event log, database, backups, limits, certificate and the steps of its rotation (`musterctl certificate`) |
//! | API | the API, from its own description: operations, what each takes and answers, an example; at the foot of each page |
//!
//! Keys: `/` goes to the search, `?` to the help, `g` and a letter to a place. Colours follow the system,
//! dark or light; no state is told by colour alone. Tables become cards on a telephone.
//!
//! # The certificate
//!
//! The server's own certificate is one of Ed25519, which browsers don't read. They are shown another one, of
//! P-256, that is made of the server's secret and stays the same through restarts; the log names its
//! fingerprint (`administrators connect to https://…`). A browser asks whether to go on, as it doesn't know
//! the fleet's authority: compare the fingerprint, once. A certificate that browsers know, such as one of
//! ACME, is shown instead when `[admin]`, or `[tls]`, names its files ([`identity`](super::identity)).
//!
//! # Its safety
//!
//! The console has no way of its own to the data: each page asks the API, within the process, as the one who
//! looks at it. Rights, audit and bounds are those of the API ([`administration`](super::administration)).
//! Forms and buttons that one's role does not allow are left out of the page.
//!
//! - Names, messages and output that devices choose are escaped, invisible and reordering characters are
//!   shown as escapes, and the policy of each page (Content-Security-Policy) lets the console's script alone
//!   run.
//! - A change is a form that is sent from a page of the console: what a page of another site has a browser
//!   send is refused by `Sec-Fetch-Site` and `Origin`.
//! - The message after a change is a word in the address that stands for a text of the server's, so that no
//!   address puts somebody else's words on a page.
//! - Secrets (tokens) are shown once, in the answer that makes them. No page is kept by the browser's cache.
//! - Pages that follow events share the bound of `musterctl event follow`: when it is reached, a page says so
//!   and goes on showing what is stored.
//!
//! A build without it: leave the feature `console` out (`cargo build --no-default-features --features
//! musterd`).
