-- A tenant, and its head row: every write to one of its resources moves `seq` by one and checks
-- `state` and `credential_version` while it does.
CREATE TABLE tenant (
    tenant             INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a part of every position
    id                 TEXT    NOT NULL UNIQUE,
    name               TEXT    NOT NULL,
    state              TEXT    NOT NULL,                   -- active, suspended, erasing
    credential_version INTEGER NOT NULL,
    seq                INTEGER NOT NULL,
    users              INTEGER NOT NULL,
    groups             INTEGER NOT NULL,
    settings           TEXT    NOT NULL,                   -- JSON
    created            INTEGER NOT NULL                    -- milliseconds since the epoch, as every time here
) STRICT;

CREATE TABLE api_token (
    token      INTEGER PRIMARY KEY AUTOINCREMENT,          -- the order of creation
    id         TEXT    NOT NULL UNIQUE,
    digest     BLOB    NOT NULL UNIQUE,                    -- SHA-256 of the secret
    tenant     INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    dialect    TEXT    NOT NULL,                           -- 2.0, 1.1
    created    INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires    INTEGER,
    last_used  INTEGER,
    revoked    INTEGER
) STRICT;

CREATE INDEX api_token_tenant ON api_token (tenant);

-- `position` is tenant (22 bits), kind (2 bits), seq at creation (39 bits): the resources of one
-- kind of one tenant lie side by side in list order, and lists need no index. Small columns come
-- first, so that a look at them never follows a long document to its overflow pages.
CREATE TABLE resource (
    position     INTEGER PRIMARY KEY,
    tenant       INTEGER NOT NULL,
    kind         INTEGER NOT NULL,                         -- 0 user, 1 group
    id           BLOB    NOT NULL,
    version      INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    modified     INTEGER NOT NULL,
    active       INTEGER NOT NULL,
    user_name    TEXT,
    external_id  TEXT,
    display_name TEXT,
    attributes   TEXT,                                     -- its rows of attribute_index, JSON; none: NULL
    document     TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX resource_id ON resource (tenant, id);
CREATE UNIQUE INDEX resource_user_name ON resource (tenant, user_name) WHERE user_name IS NOT NULL;
CREATE UNIQUE INDEX resource_display_name ON resource (tenant, display_name) WHERE kind = 1;
CREATE INDEX resource_external_id ON resource (tenant, external_id) WHERE external_id IS NOT NULL;

-- Values of multi-valued attributes that filters ask for: `emails.value`.
CREATE TABLE attribute_index (
    tenant    INTEGER NOT NULL,
    attribute TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (tenant, attribute, value, position)
) STRICT, WITHOUT ROWID;

-- Who is a member of which group. Positions are never given twice, and they name the tenant.
CREATE TABLE member (
    group_position  INTEGER NOT NULL,
    member_position INTEGER NOT NULL,
    PRIMARY KEY (group_position, member_position)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_of ON member (member_position, group_position);

-- One row that readiness writes, to learn whether the disk takes writes.
CREATE TABLE readiness (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    probes   INTEGER NOT NULL
) STRICT;

INSERT INTO readiness (only_row, probes) VALUES (1, 0);
