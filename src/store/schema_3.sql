-- The files that tasks come with: each is artifacts/HASH in the data directory.
CREATE TABLE artifacts (
    number INTEGER PRIMARY KEY, -- in the order in which they were added
    hash BLOB NOT NULL UNIQUE, -- SHA-256 of the content
    bytes INTEGER NOT NULL,
    name TEXT NOT NULL, -- of the file that was added, without its directory
    signature TEXT, -- the text of minisign's file; null: none
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL -- as the audit names them
) STRICT;

ALTER TABLE tasks ADD COLUMN artifact BLOB; -- its hash, as in the definition
CREATE INDEX tasks_by_artifact ON tasks (artifact) WHERE artifact IS NOT NULL;
