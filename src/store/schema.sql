-- muster's state, version 1. Times are milliseconds since 1970 (UTC). Ids, epochs, digests and revisions are unsigned
-- 64-bit numbers, stored as the signed number with the same bits: printf('%016x', id) shows what muster shows.

-- What the server must remember of itself.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Rises by 1 with each write-ahead log: tells whether a log that is found beside the file belongs to it.
CREATE TABLE log_generation (
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO log_generation (generation) VALUES (0);

-- Changes that administrators made or were refused: a chain. `hash` is the SHA-256 of the hash of the row before and of this row
-- (src/store/audit.rs, hash_of); where the chain begins and ends is in meta, audit_start and audit_head.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, -- without gaps
    at INTEGER NOT NULL,
    actor TEXT NOT NULL, -- who
    origin TEXT NOT NULL, -- from where
    action TEXT NOT NULL, -- method and route
    target TEXT NOT NULL, -- the path that was asked for
    before TEXT, -- JSON, cut after 2 KiB
    after TEXT, -- JSON, the same: the request, without secrets
    outcome TEXT NOT NULL, -- done, or why it was refused
    hash BLOB NOT NULL
) STRICT;

-- Those who may ask over the network, and for what: a role on a group and those below it. Of the secret only its SHA-256 is kept.
CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL, -- reader, operator, policy-author, administrator
    group_id INTEGER NOT NULL REFERENCES groups (id),
    user_id INTEGER REFERENCES users (id), -- of the user who made it, and with whom it ends
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    is_over INTEGER NOT NULL DEFAULT 0 -- as that of tokens
) STRICT;

-- People who sign in. The password is there as its Argon2id hash (RFC 9106; 19 MiB, two passes, no parallelism); null: none was set yet.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL, -- as that of api_tokens
    group_id INTEGER NOT NULL REFERENCES groups (id),
    created_at INTEGER NOT NULL,
    password_salt BLOB,
    password_hash BLOB
) STRICT;

-- One-time links with which a user sets the password; one is gone when it was used.
CREATE TABLE user_links (
    id INTEGER PRIMARY KEY REFERENCES users (id),
    secret_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    is_over INTEGER NOT NULL DEFAULT 0 -- as that of tokens
) STRICT;

-- Sessions of users, with the SHA-256 of what the cookie has. One that was ended is gone.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,
    user_id INTEGER NOT NULL REFERENCES users (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL, -- to five minutes
    is_over INTEGER NOT NULL DEFAULT 0 -- as that of tokens
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id);

-- A tree, named by paths. The root is '/'.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    interval_seconds INTEGER,
    keep_connected INTEGER -- 0 or 1; null: what the nearest group above says that says anything; off at the root
) STRICT;
INSERT INTO groups (id, path) VALUES (1, '/');

-- Join tokens. Of the secret only its SHA-256 is kept: a reader of this file cannot enrol a device.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    uses_max INTEGER NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    revoked_at INTEGER,
    -- Its time was over by a clock that was right then: whatever the clock says later, it stays so.
    is_over INTEGER NOT NULL DEFAULT 0,
    names TEXT, -- a pattern of the names that it lets in; null: any
    device INTEGER REFERENCES devices (number), -- whose record it takes over; null: a new device
    approval INTEGER NOT NULL DEFAULT 0, -- 1: an administrator must approve each device
    copy_of INTEGER REFERENCES devices (number) -- made by the server itself, for a copy of this device; null: by an administrator
) STRICT;
-- Those that let a device in, unless their time is over.
CREATE INDEX tokens_open ON tokens (expires_at) WHERE is_over = 0 AND revoked_at IS NULL AND uses < uses_max;

-- Devices. A removed one stays as a tombstone, so that its certificate is known as that of a removed device.
-- `number` is this file's own, short, name for it.
CREATE TABLE devices (
    number INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL COLLATE NOCASE,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    keep_connected INTEGER, -- 0 or 1; null: what the group says
    interval_seconds INTEGER,
    enrolled_at INTEGER NOT NULL,
    removed_at INTEGER,
    waiting_since INTEGER, -- since when it waits for approval; null: it does not
    was_unknown INTEGER NOT NULL DEFAULT 0, -- 1: it came with a certificate of this server that was not known here any more
    certificate_floor INTEGER NOT NULL DEFAULT 0 -- certificates with a lower counter are dead: its record was taken over
) STRICT;
CREATE UNIQUE INDEX devices_by_name ON devices (name) WHERE removed_at IS NULL;
CREATE INDEX devices_by_group ON devices (group_id, name) WHERE removed_at IS NULL;
CREATE INDEX devices_waiting ON devices (was_unknown) WHERE waiting_since IS NOT NULL;

-- Tags. `rule`: a filter whose devices have the tag, whatever becomes of them; null: none.
CREATE TABLE tags (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    rule TEXT
) STRICT;

-- The devices that were given a tag.
CREATE TABLE device_tags (
    tag INTEGER NOT NULL REFERENCES tags (id),
    device INTEGER NOT NULL REFERENCES devices (number),
    PRIMARY KEY (tag, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_tags_by_device ON device_tags (device);

-- Views: filters with a name.
CREATE TABLE views (
    name TEXT PRIMARY KEY COLLATE NOCASE,
    filter TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    hash BLOB PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (number),
    expires_at INTEGER, -- until when it is good
    issued_at INTEGER, -- when it was made
    counter INTEGER NOT NULL DEFAULT 0, -- counts the certificates of the device
    key_type TEXT NOT NULL DEFAULT 'ed25519' -- ed25519, p256
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_device ON certificates (device);

-- Where a device stands, and how it is reached. Times, the spool's columns and those from due_seconds to presence are written back now and
-- then, in batches.
CREATE TABLE device_states (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    agent_epoch INTEGER NOT NULL DEFAULT 0,
    inventory_digest INTEGER NOT NULL DEFAULT 0,
    inventory_revision INTEGER NOT NULL DEFAULT 0,
    host_digest INTEGER NOT NULL DEFAULT 0,
    host_revision INTEGER NOT NULL DEFAULT 0,
    conditions_digest INTEGER NOT NULL DEFAULT 0,
    conditions_revision INTEGER NOT NULL DEFAULT 0,
    spool_epoch INTEGER NOT NULL DEFAULT 0,
    last_sequence INTEGER NOT NULL DEFAULT 0,
    last_crc INTEGER NOT NULL DEFAULT 0,
    last_position INTEGER NOT NULL DEFAULT 0, -- behind that event in the journal; 0: there is none
    last_seen_at INTEGER NOT NULL DEFAULT 0,
    last_sync_at INTEGER NOT NULL DEFAULT 0,
    due_seconds INTEGER NOT NULL DEFAULT 0, -- told to come again so long after last_sync_at
    boot INTEGER NOT NULL DEFAULT 0, -- mark of the boot that it last spoke of
    notice_counter INTEGER NOT NULL DEFAULT 0, -- highest among the notices that were heard
    wake_counter INTEGER NOT NULL DEFAULT 0, -- highest among the wakes that were sent
    address TEXT, -- where its last sync came from, as people read it; null: not known
    udp_port INTEGER NOT NULL DEFAULT 0, -- where it hears wakes; 0: nowhere
    udp_reach INTEGER NOT NULL DEFAULT 0, -- 0 unknown, 1 probing, 2 reached, 3 unreached
    departure INTEGER, -- its shutdown notice: 1 shuts down, 2 reboots, 3 sleeps, 4 agent stopped
    presence TEXT NOT NULL DEFAULT 'never_seen', -- as the event log last had it
    orders_digest INTEGER NOT NULL DEFAULT 0, -- the sum of the digests of desired settings and of runs that it is to have
    status TEXT NOT NULL DEFAULT 'ok', -- ok, warning, critical: as the event log last had it
    trust_label INTEGER NOT NULL DEFAULT 0, -- of what it last said that it trusts; 0: not known
    machine INTEGER NOT NULL DEFAULT 0 -- mark of the machine that it last was; 0: not known
) STRICT;

-- Devices that were seen on more than one machine, or otherwise show signs that two machines use their identity: few.
CREATE TABLE clone_watch (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    remembered_until INTEGER NOT NULL, -- without another sign
    forks_until INTEGER NOT NULL, -- the hour in which copies are counted that enrol anew ends then
    history BLOB NOT NULL -- CBOR: what they were, in order, and what speaks against them; that of machine/clones/history.rs
) STRICT;

-- What devices declare of their managed applications, once for all that declare the same: a JSON array, as the host facts bring it.
-- A digest leads to what may be the same: devices can make others with the same one.
CREATE TABLE declarations (
    id INTEGER PRIMARY KEY,
    digest INTEGER NOT NULL,
    content TEXT NOT NULL
) STRICT;
CREATE INDEX declarations_by_digest ON declarations (digest);

CREATE TABLE host_facts (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    os_id TEXT NOT NULL,
    os_name TEXT NOT NULL,
    os_version TEXT NOT NULL,
    kernel TEXT NOT NULL,
    architecture TEXT NOT NULL,
    hostname TEXT NOT NULL,
    addresses TEXT NOT NULL, -- JSON array
    boot_id TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    declarations INTEGER REFERENCES declarations (id) -- null: nothing is declared
) STRICT;

-- What devices say of their applications and of the settings that these have. settings_state null: nothing was ordered.
CREATE TABLE conditions (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    condition TEXT NOT NULL,
    since INTEGER NOT NULL,
    version TEXT NOT NULL,
    detail TEXT NOT NULL,
    settings_state TEXT, -- pending, applied, failed, drifted
    settings_revision INTEGER NOT NULL DEFAULT 0,
    settings_digest INTEGER NOT NULL DEFAULT 0,
    settings_applied_revision INTEGER NOT NULL DEFAULT 0,
    settings_since INTEGER NOT NULL DEFAULT 0,
    settings_detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

-- The dictionary: each application that some device has, once. AUTOINCREMENT: an id is never used again, so what was
-- prepared with one either still means the same or is seen to be gone.
-- `digest` leads to the entry, and is not proof of it: a device can make two with the same one.
-- `difference_devices`: how many devices have it by their difference, less those that lack it by their difference.
CREATE TABLE applications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest INTEGER NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    publisher TEXT NOT NULL,
    difference_devices INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX applications_by_digest ON applications (digest);
CREATE INDEX applications_by_name ON applications (name, version, publisher);

-- Sets that devices share. `content`: the sorted ids of the applications, each as the LEB128 distance from the one before.
CREATE TABLE inventory_bases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    devices INTEGER NOT NULL DEFAULT 0,
    content BLOB NOT NULL
) STRICT;
CREATE INDEX inventory_bases_by_digest ON inventory_bases (digest);

CREATE TABLE base_applications (
    application INTEGER NOT NULL,
    base INTEGER NOT NULL,
    PRIMARY KEY (application, base)
) STRICT, WITHOUT ROWID;

-- Min-hashes of bases: sets that share many of them are alike.
CREATE TABLE base_sketches (
    sketch INTEGER NOT NULL,
    base INTEGER NOT NULL,
    PRIMARY KEY (sketch, base)
) STRICT, WITHOUT ROWID;

-- A device's set: its base (none: the empty set), with `added`, without `removed`, both coded as a base's content.
CREATE TABLE device_inventories (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    base INTEGER,
    entries INTEGER NOT NULL,
    added BLOB NOT NULL,
    removed BLOB NOT NULL
) STRICT;
CREATE INDEX device_inventories_by_base ON device_inventories (base);

-- The differences once more, by application. is_added 1: has it though its base has not; 0: lacks it though its base has it.
CREATE TABLE inventory_differences (
    application INTEGER NOT NULL,
    device INTEGER NOT NULL,
    is_added INTEGER NOT NULL,
    PRIMARY KEY (application, device)
) STRICT, WITHOUT ROWID;

-- A policy: settings of an application in a group. A revision names the change in which it came to be.
CREATE TABLE policies (
    group_id INTEGER NOT NULL REFERENCES groups (id),
    application TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object
    locks TEXT NOT NULL, -- JSON array of dotted paths
    drift TEXT, -- repair or report; null: what the group above says, repair at the root
    revision INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (group_id, application)
) STRICT, WITHOUT ROWID;

-- A device's own settings.
CREATE TABLE own_settings (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object
    drift TEXT,
    revision INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

-- What each device should have, worked out from the two tables above for the applications that it declares: the digest of the
-- effective settings, and the revision in which they came to be.
CREATE TABLE desired_settings (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    digest INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

-- A task. `definition`: a JSON object with targets, schedule, window, expiry, timeout, retries and rollout.
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    application TEXT NOT NULL,
    kind TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object
    definition TEXT NOT NULL,
    continuous INTEGER NOT NULL DEFAULT 0, -- as in the definition
    state TEXT NOT NULL, -- active, done, cancelled, aborted
    why TEXT NOT NULL DEFAULT '', -- of the state, or of what its runs wait for, for people
    created_at INTEGER NOT NULL,
    ended_at INTEGER, -- when it ceased to be active
    due_at INTEGER NOT NULL DEFAULT 0, -- the occurrence that it was due for last; 0: none yet
    next_at INTEGER, -- when it is due next; null: never again
    has_news INTEGER NOT NULL DEFAULT 0, -- whether runs ended since it was looked at whether too many fail
    is_making INTEGER NOT NULL DEFAULT 0, -- whether some of its devices have no run for that occurrence yet
    release_at INTEGER -- when runs of it may be ordered next; null: none waits
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state, number);
CREATE INDEX tasks_by_next ON tasks (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX tasks_by_release ON tasks (release_at) WHERE release_at IS NOT NULL;
CREATE INDEX tasks_making ON tasks (number) WHERE is_making <> 0;
CREATE INDEX tasks_with_news ON tasks (number) WHERE has_news <> 0;

-- The devices that an active task is for.
CREATE TABLE task_targets (
    task INTEGER NOT NULL REFERENCES tasks (number),
    device INTEGER NOT NULL REFERENCES devices (number),
    made_at INTEGER NOT NULL DEFAULT 0, -- the occurrence for which a run was made last
    PRIMARY KEY (task, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_targets_by_device ON task_targets (device);

-- A run: an attempt of a task on a device, for one occurrence of its schedule.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, -- drawn at random
    task INTEGER NOT NULL REFERENCES tasks (number),
    device INTEGER NOT NULL REFERENCES devices (number),
    due_at INTEGER NOT NULL, -- the occurrence
    attempt INTEGER NOT NULL DEFAULT 1,
    is_retried INTEGER NOT NULL DEFAULT 0, -- whether there is a later attempt
    state TEXT NOT NULL, -- scheduled, pending, delivered, running, succeeded, failed, timed_out, rejected, cancelled, expired
    changed_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0, -- before this it is not ordered
    expires_at INTEGER NOT NULL DEFAULT 0, -- when it expires unless its device has accepted it
    begin_by INTEGER NOT NULL DEFAULT 0, -- until when it is ordered: its window closes, or it expires
    released_at INTEGER, -- when it was ordered last
    began_at INTEGER, -- when the server first heard that it is being executed
    lease_until INTEGER, -- until when its device must be heard of
    wake_at INTEGER, -- when the state changes by time alone; null: it is a final one
    serial INTEGER NOT NULL DEFAULT 0, -- of the last report
    progress_percent INTEGER,
    exit_code INTEGER,
    message TEXT NOT NULL DEFAULT '', -- what the device, or the server, said last
    late TEXT -- what the device reported after the state was final; JSON
) STRICT;
CREATE INDEX runs_by_task ON runs (task, due_at, device, attempt, is_retried, state);
CREATE INDEX runs_by_device ON runs (device, state);
CREATE INDEX runs_by_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_open ON runs (task) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_waiting ON runs (task, not_before) WHERE state = 'scheduled';
CREATE INDEX runs_released ON runs (task, released_at) WHERE released_at IS NOT NULL;

-- What a run's program wrote: the first part and the last.
CREATE TABLE run_outputs (
    run INTEGER PRIMARY KEY REFERENCES runs (id),
    head BLOB NOT NULL DEFAULT x'',
    tail BLOB NOT NULL DEFAULT x'',
    omitted_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Numbers of an application on a device: as they were reported last, and a day of them.
CREATE TABLE statistics (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    at INTEGER NOT NULL, -- when they were reported last
    latest TEXT NOT NULL, -- JSON array of [name, unit, value]; value null: not among those reported last
    ring BLOB NOT NULL, -- their values over a day, columns as in latest; the layout is that of fleet/ring.rs
    UNIQUE (device, application) -- and no WITHOUT ROWID: rows of one or two thousand bytes would overflow their pages there
) STRICT;

-- How well devices are, of those that ever were not: since when, and why. Who has no row is ok.
CREATE TABLE status_reasons (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    status TEXT NOT NULL, -- ok, warning, critical
    since INTEGER NOT NULL,
    reasons TEXT NOT NULL -- JSON array, the worst first
) STRICT;
CREATE INDEX status_reasons_by_status ON status_reasons (status);

-- What the keys of session tickets are derived from, together with the secret in identity/: this file alone
-- is not enough to make one.
CREATE TABLE ticket_seeds (
    number INTEGER PRIMARY KEY, -- in the order in which they were made
    name BLOB NOT NULL UNIQUE, -- 16 bytes that the tickets begin with
    seed BLOB NOT NULL, -- 32 random bytes
    made_at INTEGER NOT NULL
) STRICT;

-- For people with an SQLite tool.
CREATE VIEW device_overview AS
    SELECT printf('%016x', d.id) AS id, d.name, g.path AS group_path, s.presence, coalesce(r.status, 'ok') AS status,
        s.address, h.hostname, h.os_name, h.agent_version,
        datetime(d.enrolled_at / 1000, 'unixepoch') AS enrolled_at,
        datetime(nullif(s.last_seen_at, 0) / 1000, 'unixepoch') AS last_seen_at,
        datetime(nullif(s.last_sync_at, 0) / 1000, 'unixepoch') AS last_sync_at,
        i.entries AS applications,
        datetime(d.removed_at / 1000, 'unixepoch') AS removed_at
    FROM devices d JOIN groups g ON g.id = d.group_id
    LEFT JOIN device_states s ON s.device = d.number
    LEFT JOIN status_reasons r ON r.device = d.number
    LEFT JOIN host_facts h ON h.device = d.number
    LEFT JOIN device_inventories i ON i.device = d.number;

CREATE VIEW device_applications AS
    SELECT d.name AS device, a.name AS application, a.version, a.publisher
    FROM device_inventories i JOIN devices d ON d.number = i.device
    JOIN base_applications b ON b.base = i.base
    JOIN applications a ON a.id = b.application
    WHERE NOT EXISTS (SELECT 1 FROM inventory_differences x WHERE x.application = a.id AND x.device = i.device)
    UNION ALL
    SELECT d.name, a.name, a.version, a.publisher
    FROM inventory_differences x JOIN applications a ON a.id = x.application
    JOIN devices d ON d.number = x.device
    WHERE x.is_added = 1;

CREATE VIEW application_overview AS
    SELECT a.name, a.version, a.publisher, a.difference_devices + coalesce(
        (SELECT sum(b.devices) FROM base_applications x JOIN inventory_bases b ON b.id = x.base
         WHERE x.application = a.id), 0) AS devices
    FROM applications a;
