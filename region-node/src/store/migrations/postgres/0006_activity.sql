-- The provisioning requests of the last days. `number` is the time in microseconds and 11 bits of the
-- node, so that one range of the key is a time of one tenant; nothing else is indexed, because every
-- request writes a row.
CREATE TABLE activity (
    tenant       bigint NOT NULL,
    number       bigint NOT NULL,
    clues        bigint NOT NULL,                           -- of who sent it
    resource     uuid,
    duration_us  bigint NOT NULL,
    status       integer NOT NULL,
    created      integer NOT NULL,                          -- resources
    updated      integer NOT NULL,
    unchanged    integer NOT NULL,
    deleted      integer NOT NULL,
    kind         smallint,                                  -- 0 user, 1 group
    token        text COLLATE "C" NOT NULL,                 -- id of the API token
    operation    text COLLATE "C" NOT NULL,
    display      text COLLATE "C",
    filter       text COLLATE "C",
    filter_shape text COLLATE "C",
    scim_type    text COLLATE "C",
    detail       text COLLATE "C",
    request_id   text COLLATE "C" NOT NULL,
    dialect      text COLLATE "C" NOT NULL,                 -- 2.0, 1.1
    tolerated    text COLLATE "C",                          -- JSON
    PRIMARY KEY (tenant, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

-- Runs of requests of one token without a pause.
CREATE TABLE sync_cycle (
    tenant    bigint NOT NULL,
    token     text COLLATE "C" NOT NULL,
    started   bigint NOT NULL,
    ended     bigint NOT NULL,
    clues     bigint NOT NULL,                              -- of the token's requests so far
    requests  bigint NOT NULL,
    failed    bigint NOT NULL,
    created   bigint NOT NULL,
    updated   bigint NOT NULL,
    unchanged bigint NOT NULL,
    deleted   bigint NOT NULL,
    PRIMARY KEY (tenant, token, started)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX sync_cycle_started ON sync_cycle (tenant, started);

-- Counts of each hour.
CREATE TABLE activity_hour (
    tenant    bigint NOT NULL,
    hour      bigint NOT NULL,                              -- hours since the epoch
    requests  bigint NOT NULL,
    failed    bigint NOT NULL,
    latencies text COLLATE "C" NOT NULL,                    -- JSON
    PRIMARY KEY (tenant, hour)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Times of which requests are missing. Tenant 0 stands for all.
CREATE TABLE activity_gap (
    tenant bigint NOT NULL,
    began  bigint NOT NULL,
    ended  bigint NOT NULL,
    lost   bigint,                                          -- NULL where it is not known
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, began, ended, reason)
);

-- What an administrator should put right.
CREATE TABLE finding (
    tenant     bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    token      text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    first      bigint NOT NULL,
    last       bigint NOT NULL,
    times      bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    route      text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, kind, token, subject)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Processes that write activity, each with the time at which it last did. One that stops in good
-- order takes its row away.
CREATE TABLE activity_writer (
    writer text COLLATE "C" NOT NULL PRIMARY KEY,
    seen   bigint NOT NULL,
    batch  bigint NOT NULL                                  -- the number of the last one
) WITH (fillfactor = 10);

ALTER TABLE activity ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE sync_cycle ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE activity_hour ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE activity_gap ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE finding ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY one_tenant ON activity USING (tenant = (SELECT scope()));
CREATE POLICY one_tenant ON sync_cycle USING (tenant = (SELECT scope()));
CREATE POLICY one_tenant ON activity_hour USING (tenant = (SELECT scope()));
CREATE POLICY one_tenant ON activity_gap USING (tenant = (SELECT scope()) OR tenant = 0);
CREATE POLICY one_tenant ON finding USING (tenant = (SELECT scope()));
