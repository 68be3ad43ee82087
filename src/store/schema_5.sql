-- From version 4 to version 5: statistics, and why a device's status is what it is.

-- Numbers of an application on a device: as they were reported last, and a day of them.
CREATE TABLE statistics (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    at INTEGER NOT NULL, -- when they were reported last
    latest TEXT NOT NULL, -- JSON array of [name, unit, value]; value null: not among those reported last
    ring BLOB NOT NULL, -- their values over a day, columns as in latest; the layout is that of fleet/ring.rs
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

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
