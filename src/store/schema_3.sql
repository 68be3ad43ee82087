-- From version 2 to version 3: policies, settings, and what devices offer.

-- What devices declare of their managed applications, once for all that declare the same: a JSON array, as the host facts bring it.
CREATE TABLE declarations (
    id INTEGER PRIMARY KEY,
    digest INTEGER NOT NULL UNIQUE,
    content TEXT NOT NULL
) STRICT;
ALTER TABLE host_facts ADD COLUMN declarations INTEGER REFERENCES declarations (id); -- null: nothing is declared

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

-- What devices say of their settings. settings_state null: nothing was ordered.
ALTER TABLE conditions ADD COLUMN settings_state TEXT; -- pending, applied, failed, drifted
ALTER TABLE conditions ADD COLUMN settings_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conditions ADD COLUMN settings_digest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conditions ADD COLUMN settings_applied_revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conditions ADD COLUMN settings_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conditions ADD COLUMN settings_detail TEXT NOT NULL DEFAULT '';

-- The sum of the digests of desired settings and of runs that the device is to have.
ALTER TABLE device_states ADD COLUMN orders_digest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device_states ADD COLUMN status TEXT NOT NULL DEFAULT 'ok'; -- ok, warning, critical: as the event log last had it
