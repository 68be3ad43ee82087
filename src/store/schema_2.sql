-- Versions of policies, the present one included: a few of each, src/store/policies/history.rs says how many.
CREATE TABLE policy_versions (
    group_id INTEGER NOT NULL REFERENCES groups (id),
    application TEXT NOT NULL,
    revision INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL, -- as the audit names them; empty: not known
    settings TEXT, -- as those of policies; null: the policy was removed
    locks TEXT NOT NULL,
    drift TEXT,
    PRIMARY KEY (group_id, application, revision)
) STRICT, WITHOUT ROWID;
INSERT INTO policy_versions (group_id, application, revision, changed_at, changed_by, settings, locks, drift)
    SELECT group_id, application, revision, changed_at, '', settings, locks, drift FROM policies;

-- With an issuer a user signs in at that provider of OpenID Connect; the subject is the person who has
-- first done so, null: nobody has yet.
ALTER TABLE users ADD COLUMN issuer TEXT;
ALTER TABLE users ADD COLUMN subject TEXT;
CREATE UNIQUE INDEX users_of_provider ON users (issuer, subject);
