-- Who did what to what: a chain for each tenant, whose end the tenant's row says. A hash covers the
-- record and the hash before it.
CREATE TABLE audit (
    tenant  INTEGER NOT NULL,
    number  INTEGER NOT NULL,                              -- 1, 2, 3, …
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    request TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    names   TEXT    NOT NULL,                              -- of what changed, JSON; never values
    hash    BLOB    NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;

-- The last record and its hash; and those of the last one that was removed because of its age.
ALTER TABLE tenant ADD COLUMN audit_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenant ADD COLUMN audit_hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE tenant ADD COLUMN audit_base_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenant ADD COLUMN audit_base_hash BLOB NOT NULL DEFAULT x'';

-- Whether a user is active after the change; NULL for groups, for what is gone, and where an older
-- program wrote.
ALTER TABLE change ADD COLUMN active INTEGER;

-- Who receives a tenant's events, and how far.
CREATE TABLE event_endpoint (
    endpoint      INTEGER PRIMARY KEY AUTOINCREMENT,       -- the order of creation
    tenant        INTEGER NOT NULL,
    id            TEXT    NOT NULL UNIQUE,
    settings      TEXT    NOT NULL,                        -- JSON
    secrets       TEXT    NOT NULL,                        -- JSON: what deliveries are signed with
    state         TEXT    NOT NULL,                        -- active, paused
    reason        TEXT,                                    -- why it is paused
    cursor        INTEGER NOT NULL,                        -- the last write whose events are done
    done          INTEGER NOT NULL,                        -- events of the next write that are done
    attempts      INTEGER NOT NULL,                        -- of the next event
    next_attempt  INTEGER NOT NULL,
    failing_since INTEGER,
    last_error    TEXT,
    last_success  INTEGER,
    lease         TEXT    NOT NULL,                        -- the node that delivers
    lease_until   INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    created_by    TEXT    NOT NULL
) STRICT;

CREATE INDEX event_endpoint_tenant ON event_endpoint (tenant);

-- Events that a receiver did not take, after all attempts.
CREATE TABLE event_dead_letter (
    letter   INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant   INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    event    TEXT    NOT NULL,                             -- the change, JSON
    at       INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    attempts INTEGER NOT NULL,
    replay   INTEGER NOT NULL                              -- 1: to be sent once more
) STRICT;

CREATE INDEX event_dead_letter_endpoint ON event_dead_letter (endpoint, letter);
CREATE INDEX event_dead_letter_tenant ON event_dead_letter (tenant);

-- What security event tokens are signed with; one key for the region.
CREATE TABLE event_key (
    id      TEXT    NOT NULL PRIMARY KEY,
    secret  BLOB    NOT NULL,
    created INTEGER NOT NULL
) STRICT;
