-- From version 4 to version 5: statistics, and why a device's status is what it is.

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

-- Until when a certificate is good; null: enrolled before this was kept.
ALTER TABLE certificates ADD COLUMN expires_at INTEGER;
CREATE INDEX certificates_by_device ON certificates (device);

DROP VIEW device_overview;
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
