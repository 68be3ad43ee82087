//! Managed applications: what a device says of them, settings, drift, statistics.
//!
//! # One file for each
//!
//! The agent reads `applications.d/*.toml` (`/etc/muster/applications.d`, or where `applications` in
//! `muster-agent.toml` says), and reads it again whenever a file changes. The server can order only what
//! these files declare. A wrong file is named in the log and in `muster-agent status`, with line, key and
//! what is allowed; the others count.
//!
//! ```toml
//! name = "shop"
//!
//! [version]
//! command = ["shop", "--version"]
//!
//! [condition]
//! systemd_unit = "shop.service"
//!
//! [settings]
//! file = "/etc/shop/settings.json"
//! format = "json"
//! mode = "0640"
//! schema = { type = "object", properties = { port = { type = "integer" } } }
//! validate = ["shop", "--check", "{file}"]
//! apply = ["systemctl", "reload", "shop"]
//!
//! [statistics]
//! command = ["shop", "--statistics"]
//! ```
//!
//! | key | means |
//! |---|---|
//! | `name` | what policies, tasks and events call it |
//! | `package` | the package whose version is its version; left out: `name` |
//! | `[version] command`, `timeout_seconds` (10, at most 60) | instead of `package`: the first word of its output that begins with a digit, also after `v` or `/` |
//! | `[condition]` | one of `systemd_unit`, `pid_file`, `command` (exit codes of an init script's `status`; `timeout_seconds`) |
//! | `[settings] file` | the file that holds the settings and nothing else; a path from `/` on. A link of root or of the agent's own user stays, the file behind it is replaced; links of others are refused |
//! | `format` | `"json"`, `"toml"` or `"key_value"` |
//! | `separator`, `line_end` | for `key_value`: `"="` and nothing, unless said otherwise (nginx: `" "` and `";"`) |
//! | `mode` | permission bits; left out: those of the file before, or 0644. Owner, access list and attributes of the file before stay |
//! | `schema` | JSON Schema, written as TOML ([`fleet::schema`](crate::fleet::schema) says what is known); the server checks by it too |
//! | `validate` | judges the candidate, `{file}`, which lies in a private directory beside the file |
//! | `validate_in_place` | judges it in its place, for applications that can only test all of their configuration |
//! | `apply` | tells the application; exit code 0 is success |
//! | `rollback` | tells it that the old file is back; left out: `apply` again |
//! | `timeout_seconds` | for each of the commands: 30, at most 600 |
//! | `[statistics] command` or `file` | a JSON object of numbers, or of `{"value": 1.5, "unit": "bytes"}`; `timeout_seconds` (10, at most 60) |
//!
//! Commands are run as they stand, without a shell, with the agent's rights, and in the agent's service:
//! `tools/systemd/muster-agent-settings.conf` shows what its unit must allow for that;
//! [`neighbours`](super::neighbours) says what the unit does not stop. `tools/applications.d/` has nginx as
//! Debian packages it, and an example.
//!
//! In `key_value`, objects within objects are written with dotted keys, and a list as a line for each of its
//! values. Line breaks and control characters in a value, the end of a line in it, and the separator or
//! blanks in a key are refused: no value can become a line of its own. The effect of a directive is for
//! `schema` to judge.
//!
//! # From an order to a file
//!
//! The order is kept durably under `orders/` in the data directory before a sync says that it is there. One
//! application at a time, a helper checks the schema, writes the candidate, runs `validate`, remembers what
//! was there before in a journal, renames the candidate into place, runs `validate_in_place`, then `apply`.
//! The conditions say how far it is, and so do events of the application: `settings_applied` (info),
//! `settings_failed` (error), `settings_drift` (warning).
//!
//! | what happens | what follows |
//! |---|---|
//! | schema, format or `validate` refuses | nothing was touched: *failed*, with the reason in the command's own last lines |
//! | `validate_in_place` refuses | the old file is put back; the application was told nothing: *failed* |
//! | `apply` fails or takes too long | the old file is put back, `rollback` is run: *failed* |
//! | the file can't be replaced (a mount point) | it is written over, and the event says so |
//! | somebody else changes the file meanwhile | it is left as it is: `settings_drift`, then as with any drift |
//! | the agent is killed | its next start finds the journal, puts the old file back, runs `rollback` if `apply` may have begun, and then begins anew |
//! | that happens three times in a row | it is given up: *failed* |
//! | nothing defines the application, or it takes no settings | *failed*, until its file says otherwise |
//!
//! Settings that failed stay failed until the order or the definition changes, and are tried once more when
//! the agent is started again. When the server orders nothing any more, the file stays as it is.
//!
//! # Drift
//!
//! At each look, once a minute, the file is compared with what was put in place. By policy a changed file is
//! put right (`repair`), at most three times an hour, then it is left as *drifted*; or it is only told
//! (`report`), and *drifted* until somebody puts it right.
//!
//! # The agent itself
//!
//! It is one of the applications, `muster-agent`, and takes settings: `{"interval_seconds": 600,
//! "log_level": "debug", "servers": ["a.example.org"], "spool": {"info_mebibytes": 8}}`. They lie above what
//! `muster-agent.toml` says, are in force at once, from the start on after a restart, and no more when the
//! policy is removed. Unknown keys are refused. Its numbers are the device's: `disk_free` and
//! `disk_free_percent` of the file system that the data directory is on, `memory_available`, `load_1m`,
//! `uptime` (of the system), `spool`.
//!
//! # Statistics
//!
//! Numbers are asked for at each look and go up with the next sync that is due or asked for, the newest only;
//! with one that only says what has changed, once in an interval at most. At most 256 of a device are sent.
#![forbid(unsafe_code)]
