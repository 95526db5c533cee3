-- Which write changed what: a row for each resource that a write changed, in the order of the
-- tenant's writes.
CREATE TABLE change (
    tenant     INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    what       TEXT    NOT NULL,                           -- created, changed, deleted
    at         INTEGER NOT NULL,
    attributes TEXT    NOT NULL,                           -- names of those that changed, JSON
    PRIMARY KEY (tenant, seq, position)
) STRICT, WITHOUT ROWID;

-- What came of the requests that were carried out lately. A gateway's keys begin with the time,
-- so new rows lie side by side and old ones are a range.
CREATE TABLE idempotency (
    tenant      INTEGER NOT NULL,
    origin      INTEGER NOT NULL,                          -- 0 gateway, 1 client
    key         BLOB    NOT NULL,
    fingerprint BLOB,                                      -- of a client's request
    what        TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    version     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (tenant, origin, key)
) STRICT, WITHOUT ROWID;
