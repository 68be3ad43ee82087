-- From version 1 to version 2: how a device is reached, where it is said to be, and whom its link is kept for.

-- What the server knows of a device's way, written back now and then like last_seen_at.
ALTER TABLE device_states ADD COLUMN due_seconds INTEGER NOT NULL DEFAULT 0; -- told to come again so long after last_sync_at
ALTER TABLE device_states ADD COLUMN boot INTEGER NOT NULL DEFAULT 0; -- which boot it last spoke of
ALTER TABLE device_states ADD COLUMN notice_counter INTEGER NOT NULL DEFAULT 0; -- highest among the notices that were heard
ALTER TABLE device_states ADD COLUMN wake_counter INTEGER NOT NULL DEFAULT 0; -- highest among the wakes that were sent
ALTER TABLE device_states ADD COLUMN address TEXT; -- where its last sync came from, as people read it; null: not known
ALTER TABLE device_states ADD COLUMN udp_port INTEGER NOT NULL DEFAULT 0; -- where it hears wakes; 0: nowhere
ALTER TABLE device_states ADD COLUMN udp_reach INTEGER NOT NULL DEFAULT 0; -- 0 unknown, 1 probing, 2 reached, 3 unreached
ALTER TABLE device_states ADD COLUMN departure INTEGER; -- its last word: 1 shuts down, 2 reboots, 3 sleeps, 4 agent stopped
ALTER TABLE device_states ADD COLUMN presence TEXT NOT NULL DEFAULT 'never_seen'; -- as the event log last had it
-- Those that were here are not announced to everybody once more.
UPDATE device_states SET presence = 'idle' WHERE last_seen_at > 0;

-- keep_connected, 0 or 1; null: what the group says, or the nearest one above it that says anything; off at the root. Until now
-- nobody could say "off", only not say "on".
ALTER TABLE groups ADD COLUMN keep_connected INTEGER;
ALTER TABLE devices RENAME COLUMN keep_connected TO keep_connected_1;
ALTER TABLE devices ADD COLUMN keep_connected INTEGER;
UPDATE devices SET keep_connected = 1 WHERE keep_connected_1 <> 0;
ALTER TABLE devices DROP COLUMN keep_connected_1;

DROP VIEW device_overview;
CREATE VIEW device_overview AS
    SELECT printf('%016x', d.id) AS id, d.name, g.path AS group_path, s.presence, s.address, h.hostname, h.os_name,
        h.agent_version,
        datetime(d.enrolled_at / 1000, 'unixepoch') AS enrolled_at,
        datetime(nullif(s.last_seen_at, 0) / 1000, 'unixepoch') AS last_seen_at,
        datetime(nullif(s.last_sync_at, 0) / 1000, 'unixepoch') AS last_sync_at,
        i.entries AS applications,
        datetime(d.removed_at / 1000, 'unixepoch') AS removed_at
    FROM devices d JOIN groups g ON g.id = d.group_id
    LEFT JOIN device_states s ON s.device = d.number
    LEFT JOIN host_facts h ON h.device = d.number
    LEFT JOIN device_inventories i ON i.device = d.number;
