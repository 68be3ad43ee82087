-- From version 5 to version 6: session tickets that outlive the process.

-- What their keys are derived from, together with the secret in identity/: whoever reads this file alone can't make a ticket.
CREATE TABLE ticket_seeds (
    number INTEGER PRIMARY KEY, -- in the order in which they were made
    name BLOB NOT NULL UNIQUE, -- 16 bytes that the tickets begin with
    seed BLOB NOT NULL, -- 32 random bytes
    made_at INTEGER NOT NULL
) STRICT;
