-- From version 3 to version 4: tasks and their runs.

-- A task. `definition`: a JSON object with targets, schedule, window, expiry, timeout, retries and rollout.
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    application TEXT NOT NULL,
    kind TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON object
    definition TEXT NOT NULL,
    is_continuous INTEGER NOT NULL DEFAULT 0, -- as in the definition
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
    lease_until INTEGER, -- until when its device is to be heard of
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
