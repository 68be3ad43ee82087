-- From version 3 to version 4: tasks and their runs.

-- A task. `definition`: a JSON object with targets, schedule, window, expiry, timeout, retries and rollout.
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    application TEXT NOT NULL,
    kind TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object
    definition TEXT NOT NULL,
    state TEXT NOT NULL, -- active, done, cancelled, aborted
    why TEXT NOT NULL DEFAULT '', -- of the state, for people
    created_at INTEGER NOT NULL,
    next_at INTEGER -- when runs are to be made next; null: never again
) STRICT;
CREATE INDEX tasks_by_next ON tasks (next_at) WHERE next_at IS NOT NULL;

-- A run: a task on a device, for one occurrence of its schedule.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, -- drawn at random
    task INTEGER NOT NULL REFERENCES tasks (number),
    device INTEGER NOT NULL REFERENCES devices (number),
    occurrence_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    state TEXT NOT NULL, -- scheduled, pending, delivered, running, succeeded, failed, timed_out, rejected, cancelled, expired
    changed_at INTEGER NOT NULL,
    wake_at INTEGER, -- when the state changes by itself; null: when it is a final one
    serial INTEGER NOT NULL DEFAULT 0, -- of the last report
    progress_percent INTEGER,
    exit_code INTEGER,
    message TEXT NOT NULL DEFAULT '', -- what the device, or the server, said last
    late TEXT -- what the device reported after the state was final; JSON
) STRICT;
CREATE INDEX runs_by_task ON runs (task, device);
CREATE INDEX runs_by_device ON runs (device, state);
CREATE INDEX runs_by_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;

-- What a run's program wrote: the first part and the last.
CREATE TABLE run_outputs (
    run INTEGER PRIMARY KEY REFERENCES runs (id),
    head BLOB NOT NULL DEFAULT x'',
    tail BLOB NOT NULL DEFAULT x'',
    omitted_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
