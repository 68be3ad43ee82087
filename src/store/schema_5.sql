-- From version 4 to version 5: statistics, and why a device's status is what it is.

-- Numbers of an application on a device: what is measured, and a ring of the latest values.
CREATE TABLE statistics (
    device INTEGER NOT NULL REFERENCES devices (number),
    application TEXT NOT NULL,
    names TEXT NOT NULL, -- JSON array of [name, unit]
    ring BLOB NOT NULL, -- see store/statistics.rs
    PRIMARY KEY (device, application)
) STRICT, WITHOUT ROWID;

-- Of devices whose status is not ok: since when, and why, as a JSON array of texts.
CREATE TABLE status_reasons (
    device INTEGER PRIMARY KEY REFERENCES devices (number),
    since INTEGER NOT NULL,
    reasons TEXT NOT NULL
) STRICT;

-- Until when a certificate is good; null: enrolled before this was kept.
ALTER TABLE certificates ADD COLUMN expires_at INTEGER;
