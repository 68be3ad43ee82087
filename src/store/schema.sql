-- muster's state, version 1. Times are milliseconds since 1970 (UTC). Ids, epochs, digests and revisions are unsigned
-- 64-bit numbers, stored as the signed number with the same bits: printf('%016x', id) shows what muster shows.

-- What the server must remember of itself.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A tree, named by paths. The root is '/'.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    interval_seconds INTEGER
) STRICT;
INSERT INTO groups (id, path) VALUES (1, '/');

-- Join tokens. Of the secret only its SHA-256 is kept: whoever reads this file cannot enrol a device.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    uses_max INTEGER NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    revoked_at INTEGER
) STRICT;

-- Devices. A removed one stays as a tombstone, so that its certificate is known as that of a removed device.
-- `number` is this file's own, short, name for it.
CREATE TABLE devices (
    number INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL COLLATE NOCASE,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    keep_connected INTEGER NOT NULL DEFAULT 0,
    interval_seconds INTEGER,
    enrolled_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX devices_by_name ON devices (name) WHERE removed_at IS NULL;
CREATE INDEX devices_by_group ON devices (group_id, name) WHERE removed_at IS NULL;

CREATE TABLE certificates (
    hash BLOB PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (number)
) STRICT, WITHOUT ROWID;

-- Where a device stands. last_seen, last_sync and the spool's columns are written back now and then, in batches.
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
    last_seen_at INTEGER NOT NULL DEFAULT 0,
    last_sync_at INTEGER NOT NULL DEFAULT 0
) STRICT;

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
    agent_version TEXT NOT NULL
) STRICT;

CREATE TABLE conditions (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    condition TEXT NOT NULL,
    since INTEGER NOT NULL,
    version TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

-- The dictionary: each application that some device has, once. AUTOINCREMENT: an id is never used again, so what was
-- prepared with one either still means the same or is seen to be gone.
-- `difference_devices`: how many devices have it by their difference, less those that lack it by their difference.
CREATE TABLE applications (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest INTEGER NOT NULL UNIQUE,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    publisher TEXT NOT NULL,
    difference_devices INTEGER NOT NULL DEFAULT 0
) STRICT;
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

-- For people with an SQLite tool.
CREATE VIEW device_overview AS
    SELECT printf('%016x', d.id) AS id, d.name, g.path AS group_path, h.hostname, h.os_name, h.agent_version,
        datetime(d.enrolled_at / 1000, 'unixepoch') AS enrolled_at,
        datetime(nullif(s.last_seen_at, 0) / 1000, 'unixepoch') AS last_seen_at,
        datetime(nullif(s.last_sync_at, 0) / 1000, 'unixepoch') AS last_sync_at,
        i.entries AS applications,
        datetime(d.removed_at / 1000, 'unixepoch') AS removed_at
    FROM devices d JOIN groups g ON g.id = d.group_id
    LEFT JOIN device_states s ON s.device = d.number
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
