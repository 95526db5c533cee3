-- The provisioning requests of the last days. `number` is the time in microseconds and 11 bits of the
-- node, so that one range of the key is a time of one tenant; nothing else is indexed, because every
-- request writes a row. Texts and counts that do not apply are NULL or 0 and take no room.
CREATE TABLE activity (
    tenant       INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    token        TEXT    NOT NULL,                         -- id of the API token
    clues        INTEGER NOT NULL,                         -- of who sent it
    operation    TEXT    NOT NULL,
    kind         INTEGER,                                  -- 0 user, 1 group
    resource     BLOB,
    display      TEXT,
    filter       TEXT,
    filter_shape TEXT,
    status       INTEGER NOT NULL,
    scim_type    TEXT,
    detail       TEXT,
    duration_us  INTEGER NOT NULL,
    request_id   TEXT    NOT NULL,
    dialect      TEXT    NOT NULL,                         -- 2.0, 1.1
    tolerated    TEXT,                                     -- JSON
    created      INTEGER NOT NULL,                         -- resources
    updated      INTEGER NOT NULL,
    unchanged    INTEGER NOT NULL,
    deleted      INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;

-- Runs of requests of one token without a pause.
CREATE TABLE sync_cycle (
    tenant    INTEGER NOT NULL,
    token     TEXT    NOT NULL,
    started   INTEGER NOT NULL,
    ended     INTEGER NOT NULL,
    clues     INTEGER NOT NULL,                            -- of the token's requests so far
    requests  INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    updated   INTEGER NOT NULL,
    unchanged INTEGER NOT NULL,
    deleted   INTEGER NOT NULL,
    PRIMARY KEY (tenant, token, started)
) STRICT, WITHOUT ROWID;

CREATE INDEX sync_cycle_started ON sync_cycle (tenant, started);

-- Counts of each hour.
CREATE TABLE activity_hour (
    tenant    INTEGER NOT NULL,
    hour      INTEGER NOT NULL,                            -- hours since the epoch
    requests  INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    latencies TEXT    NOT NULL,                            -- JSON
    PRIMARY KEY (tenant, hour)
) STRICT, WITHOUT ROWID;

-- Times of which requests are missing. Tenant 0 stands for all.
CREATE TABLE activity_gap (
    tenant  INTEGER NOT NULL,
    began   INTEGER NOT NULL,
    ended   INTEGER NOT NULL,
    lost    INTEGER,                                       -- NULL where it is not known
    reason  TEXT    NOT NULL,
    PRIMARY KEY (tenant, began, ended, reason)
) STRICT, WITHOUT ROWID;

-- What an administrator should put right.
CREATE TABLE finding (
    tenant     INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    token      TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    times      INTEGER NOT NULL,
    request_id TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    PRIMARY KEY (tenant, kind, token, subject)
) STRICT, WITHOUT ROWID;

-- Processes that write activity, each with the time at which it last did. One that stops in good
-- order takes its row away.
CREATE TABLE activity_writer (
    writer TEXT    NOT NULL PRIMARY KEY,
    seen   INTEGER NOT NULL,
    batch  INTEGER NOT NULL                                -- the number of the last one
) STRICT, WITHOUT ROWID;
