-- The second wall stands behind the receivers of events too. A statement says whose rows it is after,
-- as everywhere; only what delivers events looks across all tenants, and says so: -1.
ALTER TABLE event_endpoint ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE event_dead_letter ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY one_tenant ON event_endpoint
    USING (tenant = (SELECT scope()) OR (SELECT scope()) = -1);
CREATE POLICY one_tenant ON event_dead_letter
    USING (tenant = (SELECT scope()) OR (SELECT scope()) = -1);
