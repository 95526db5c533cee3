-- The writes to a tenant's resources, each one call: the head row is moved on condition that the
-- access holds, then everything else, or nothing. A function whose parameters change gets a new
-- name, so that an older program finds the one that it knows.
--
-- Each runs under a savepoint of its own (the block with EXCEPTION), so that writes can share a
-- transaction and one that cannot be done takes back only itself.

-- What a write ended in.
CREATE TYPE written AS (
    status    text,     -- done, refused, not_found, stale, taken, repeated, key_reused; else an SQLSTATE
    attribute text,     -- taken: which attribute's value
    position  bigint,
    version   bigint,   -- stale: the version that the resource is at
    created   bigint,
    what      text,     -- repeated: what was done when the request came first
    id        uuid,     -- repeated: to what
    at        bigint    -- repeated: when
);

-- Moves the head row on, if the access holds: the number of the write, or nothing. A write sees
-- no row of any tenant but its own from here on.
CREATE FUNCTION move_head(
    p_tenant bigint, p_tenant_id text, p_credential_version bigint, p_users bigint, p_groups bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    PERFORM set_config('meridian.tenant', p_tenant::text, true);
    PERFORM FROM tenant t
     WHERE t.tenant = p_tenant AND t.id = p_tenant_id AND t.state = 'active'
       AND t.credential_version = p_credential_version
       FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- A statement of its own, and so a look that comes after the lock.
    INSERT INTO head AS n (tenant, seq, users, groups)
    SELECT h.tenant, h.seq + 1, h.users + p_users, h.groups + p_groups
      FROM head h WHERE h.tenant = p_tenant ORDER BY h.seq DESC LIMIT 1
    RETURNING n.seq INTO moved;
    DELETE FROM head h WHERE h.tenant = p_tenant AND h.seq = moved - 1;
    RETURN moved;
END $$;

-- Keeps what came of a request, or says what came of it before.
CREATE FUNCTION keep_outcome(
    p_tenant bigint, p_origin smallint, p_key bytea, p_fingerprint bytea,
    p_what text, p_position bigint, p_id uuid, p_version bigint, p_now bigint
) RETURNS written LANGUAGE plpgsql AS $$
DECLARE
    w written;
    is_same boolean;
BEGIN
    IF p_key IS NULL THEN
        RETURN w;
    END IF;
    LOOP
        INSERT INTO idempotency
            (tenant, origin, key, fingerprint, what, position, id, version, at)
        VALUES
            (p_tenant, p_origin, p_key, p_fingerprint, p_what, p_position, p_id, p_version, p_now)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN w;
        END IF;
        SELECT i.fingerprint IS NOT DISTINCT FROM p_fingerprint,
               i.what, i.position, i.id, i.version, i.at
          INTO is_same, w.what, w.position, w.id, w.version, w.at
          FROM idempotency i
         WHERE i.tenant = p_tenant AND i.origin = p_origin AND i.key = p_key;
        -- Not there: it was old, and forgotten just now.
        EXIT WHEN FOUND;
    END LOOP;
    w.status := CASE WHEN is_same THEN 'repeated' ELSE 'key_reused' END;
    RETURN w;
END $$;

-- Under row-level security only what cannot tell anything about other rows takes part in a look-up
-- by an index: comparisons with columns, constants and variables do, expressions do not. So values
-- are put together before they are looked up, here and below.

-- Whether a user name, or one that looks like it, is somebody else's.
CREATE FUNCTION is_taken(
    p_tenant bigint, p_user_name text, p_look_alike text, p_position bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    shared text := coalesce(p_look_alike, p_user_name);
BEGIN
    RETURN p_user_name IS NOT NULL AND (
        EXISTS (SELECT FROM attribute_index a
                 WHERE a.tenant = p_tenant AND a.attribute = 'userName.lookAlike'
                   AND a.value = shared AND a.position <> p_position)
        OR
        EXISTS (SELECT FROM resource r
                 WHERE r.tenant = p_tenant AND r.user_name = shared
                   AND r.position <> p_position));
END $$;

-- Takes away the rows of the index that a resource had; p_attributes names them, as JSON.
CREATE FUNCTION forget_index_rows(
    p_tenant bigint, p_attributes text, p_position bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was record;
BEGIN
    FOR was IN
        SELECT e.pair ->> 0 AS name, e.pair ->> 1 AS value
          FROM jsonb_array_elements(p_attributes::jsonb) AS e(pair)
    LOOP
        DELETE FROM attribute_index a
         WHERE a.tenant = p_tenant AND a.attribute = was.name AND a.value = was.value
           AND a.position = p_position;
    END LOOP;
END $$;

-- Applies changes to the members of the group at a position, in order; p_ids holds the ids of all
-- of them, p_counts how many belong to each. Answers how many rows changed.
CREATE FUNCTION apply_members(
    p_tenant bigint, p_group bigint, p_changes text[], p_counts integer[], p_ids uuid[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    changed bigint := 0;
    n bigint;
    first integer := 1;
    ids uuid[];
BEGIN
    FOR i IN 1 .. coalesce(array_length(p_changes, 1), 0) LOOP
        ids := p_ids[first : first + p_counts[i] - 1];
        first := first + p_counts[i];
        IF p_changes[i] = 'remove' THEN
            -- By an array, so that what is removed is looked up, however large the group is.
            DELETE FROM member m
             WHERE m.group_position = p_group
               AND m.member_position = ANY (ARRAY(
                       SELECT r.position FROM resource r
                        WHERE r.tenant = p_tenant AND r.id = ANY (ids)));
            GET DIAGNOSTICS n = ROW_COUNT;
            changed := changed + n;
        ELSE
            IF p_changes[i] = 'replace' THEN
                DELETE FROM member m
                 WHERE m.group_position = p_group
                   AND m.member_position NOT IN
                       (SELECT r.position FROM resource r
                         WHERE r.tenant = p_tenant AND r.id = ANY (ids));
                GET DIAGNOSTICS n = ROW_COUNT;
                changed := changed + n;
            END IF;
            INSERT INTO member (group_position, member_position)
            SELECT p_group, r.position FROM resource r
             WHERE r.tenant = p_tenant AND r.id = ANY (ids)
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS n = ROW_COUNT;
            changed := changed + n;
        END IF;
    END LOOP;
    RETURN changed;
END $$;

CREATE FUNCTION create_resource(
    p_tenant bigint, p_tenant_id text, p_credential_version bigint, p_now bigint,
    p_origin smallint, p_key bytea, p_fingerprint bytea,
    p_kind smallint, p_id uuid, p_active boolean,
    p_user_name text, p_look_alike text, p_external_id text, p_display_name text,
    p_names text[], p_values text[], p_attributes text, p_document text,
    p_member_changes text[], p_member_counts integer[], p_member_ids uuid[]
) RETURNS written LANGUAGE plpgsql AS $$
DECLARE
    w written;
    head_seq bigint;
    index_name text;
BEGIN
    head_seq := move_head(p_tenant, p_tenant_id, p_credential_version,
                          (p_kind = 0)::int, (p_kind = 1)::int);
    IF head_seq IS NULL THEN
        w.status := 'refused';
        RETURN w;
    END IF;
    IF head_seq >= 1::bigint << 39 THEN
        RAISE 'a tenant''s writes have run out of numbers' USING ERRCODE = 'MR001';
    END IF;
    w := keep_outcome(p_tenant, p_origin, p_key, p_fingerprint, 'created',
                      (p_tenant << 41) | (p_kind::bigint << 39) | head_seq, p_id, head_seq, p_now);
    IF w.status IS NOT NULL THEN
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w.position := (p_tenant << 41) | (p_kind::bigint << 39) | head_seq;
    w.version := head_seq;
    w.created := p_now;
    INSERT INTO change (tenant, seq, position, id, what, at, attributes)
    VALUES (p_tenant, head_seq, w.position, p_id, 'created', p_now, '[]');
    IF is_taken(p_tenant, p_user_name, p_look_alike, w.position) THEN
        w.status := 'taken';
        w.attribute := 'userName';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    INSERT INTO resource
        (position, tenant, kind, id, version, created, modified, active,
         user_name, external_id, display_name, attributes, document)
    VALUES
        (w.position, p_tenant, p_kind, p_id, head_seq, p_now, p_now, p_active,
         p_user_name, p_external_id, p_display_name, p_attributes, p_document);
    INSERT INTO attribute_index (tenant, attribute, value, position)
    SELECT p_tenant, a.name, a.value, w.position FROM unnest(p_names, p_values) AS a(name, value)
    ON CONFLICT DO NOTHING;
    IF p_member_changes IS NOT NULL THEN
        PERFORM apply_members(p_tenant, w.position, p_member_changes, p_member_counts, p_member_ids);
    END IF;
    w.status := 'done';
    RETURN w;
EXCEPTION
    WHEN SQLSTATE 'MR000' THEN
        RETURN w;
    WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS index_name = CONSTRAINT_NAME;
        w.status := 'taken';
        w.attribute := unique_attribute(index_name);
        RETURN w;
    WHEN OTHERS THEN
        w.status := SQLSTATE;
        RETURN w;
END $$;

-- The attribute that an index keeps unique. Ids are random: a collision is a bug, and still
-- nothing is overwritten.
CREATE FUNCTION unique_attribute(p_index text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_index
        WHEN 'resource_user_name' THEN 'userName'
        WHEN 'resource_display_name' THEN 'displayName'
        ELSE 'id'
    END
$$;

CREATE FUNCTION replace_resource(
    p_tenant bigint, p_tenant_id text, p_credential_version bigint, p_now bigint,
    p_origin smallint, p_key bytea, p_fingerprint bytea,
    p_kind smallint, p_id uuid, p_expected bigint, p_active boolean,
    p_user_name text, p_look_alike text, p_external_id text, p_display_name text,
    p_names text[], p_values text[], p_attributes text, p_document text, p_changed text,
    p_member_changes text[], p_member_counts integer[], p_member_ids uuid[]
) RETURNS written LANGUAGE plpgsql AS $$
DECLARE
    w written;
    outcome written;
    head_seq bigint;
    index_name text;
    present record;
    members bigint := 0;
BEGIN
    head_seq := move_head(p_tenant, p_tenant_id, p_credential_version, 0, 0);
    IF head_seq IS NULL THEN
        w.status := 'refused';
        RETURN w;
    END IF;
    SELECT r.position, r.version, r.created, r.user_name, r.attributes
      INTO present
      FROM resource r WHERE r.tenant = p_tenant AND r.id = p_id AND r.kind = p_kind;
    IF NOT FOUND THEN
        w.status := 'not_found';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w.position := present.position;
    w.created := present.created;
    IF present.version <> p_expected THEN
        w.status := 'stale';
        w.version := present.version;
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w.version := head_seq;
    IF p_user_name IS DISTINCT FROM present.user_name
       AND is_taken(p_tenant, p_user_name, p_look_alike, present.position) THEN
        w.status := 'taken';
        w.attribute := 'userName';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    UPDATE resource r
       SET version = head_seq, modified = p_now, active = p_active, user_name = p_user_name,
           external_id = p_external_id, display_name = p_display_name,
           attributes = p_attributes, document = p_document
     WHERE r.position = present.position AND r.tenant = p_tenant;
    IF p_attributes IS DISTINCT FROM present.attributes THEN
        PERFORM forget_index_rows(p_tenant, present.attributes, present.position);
        INSERT INTO attribute_index (tenant, attribute, value, position)
        SELECT p_tenant, a.name, a.value, present.position
          FROM unnest(p_names, p_values) AS a(name, value)
        ON CONFLICT DO NOTHING;
    END IF;
    IF p_member_changes IS NOT NULL THEN
        members := apply_members(p_tenant, present.position, p_member_changes, p_member_counts,
                                 p_member_ids);
    END IF;
    outcome := keep_outcome(p_tenant, p_origin, p_key, p_fingerprint, 'changed', present.position,
                            p_id, head_seq, p_now);
    IF outcome.status IS NOT NULL THEN
        w := outcome;
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    INSERT INTO change (tenant, seq, position, id, what, at, attributes)
    VALUES (p_tenant, head_seq, present.position, p_id, 'changed', p_now,
            CASE WHEN members > 0 THEN (p_changed::jsonb || '"members"')::text ELSE p_changed END);
    w.status := 'done';
    RETURN w;
EXCEPTION
    WHEN SQLSTATE 'MR000' THEN
        RETURN w;
    WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS index_name = CONSTRAINT_NAME;
        w.status := 'taken';
        w.attribute := unique_attribute(index_name);
        RETURN w;
    WHEN OTHERS THEN
        w.status := SQLSTATE;
        RETURN w;
END $$;

-- Deletes a resource with all memberships in it and of it; groups that lose it as a member move
-- to the version of this write.
CREATE FUNCTION delete_resource(
    p_tenant bigint, p_tenant_id text, p_credential_version bigint, p_now bigint,
    p_origin smallint, p_key bytea, p_fingerprint bytea,
    p_kind smallint, p_id uuid, p_expected bigint
) RETURNS written LANGUAGE plpgsql AS $$
DECLARE
    w written;
    head_seq bigint;
    present record;
BEGIN
    head_seq := move_head(p_tenant, p_tenant_id, p_credential_version,
                          -(p_kind = 0)::int, -(p_kind = 1)::int);
    IF head_seq IS NULL THEN
        w.status := 'refused';
        RETURN w;
    END IF;
    SELECT r.position, r.version, r.attributes INTO present
      FROM resource r WHERE r.tenant = p_tenant AND r.id = p_id AND r.kind = p_kind;
    IF NOT FOUND THEN
        w.status := 'not_found';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    IF present.version <> p_expected THEN
        w.status := 'stale';
        w.version := present.version;
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w := keep_outcome(p_tenant, p_origin, p_key, p_fingerprint, 'deleted', present.position, p_id,
                      head_seq, p_now);
    IF w.status IS NOT NULL THEN
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w.position := present.position;
    w.version := head_seq;
    INSERT INTO change (tenant, seq, position, id, what, at, attributes)
    VALUES (p_tenant, head_seq, present.position, p_id, 'deleted', p_now, '[]');
    WITH groups AS (
        UPDATE resource r SET version = head_seq, modified = p_now
         WHERE r.tenant = p_tenant AND r.position <> present.position AND r.position IN
               (SELECT m.group_position FROM member m WHERE m.member_position = present.position)
        RETURNING r.position, r.id)
    INSERT INTO change (tenant, seq, position, id, what, at, attributes)
    SELECT p_tenant, head_seq, g.position, g.id, 'changed', p_now, '["members"]' FROM groups g;
    DELETE FROM member m WHERE m.member_position = present.position;
    IF p_kind = 1 THEN
        DELETE FROM member m WHERE m.group_position = present.position;
    END IF;
    PERFORM forget_index_rows(p_tenant, present.attributes, present.position);
    DELETE FROM resource r WHERE r.position = present.position AND r.tenant = p_tenant;
    w.status := 'done';
    RETURN w;
EXCEPTION
    WHEN SQLSTATE 'MR000' THEN
        RETURN w;
    WHEN OTHERS THEN
        w.status := SQLSTATE;
        RETURN w;
END $$;

-- Changes the members of a group and nothing else of it. What changes nothing moves nothing on.
CREATE FUNCTION change_members(
    p_tenant bigint, p_tenant_id text, p_credential_version bigint, p_now bigint,
    p_origin smallint, p_key bytea, p_fingerprint bytea,
    p_id uuid, p_expected bigint,
    p_member_changes text[], p_member_counts integer[], p_member_ids uuid[]
) RETURNS written LANGUAGE plpgsql AS $$
DECLARE
    w written;
    outcome written;
    head_seq bigint;
    present record;
BEGIN
    head_seq := move_head(p_tenant, p_tenant_id, p_credential_version, 0, 0);
    IF head_seq IS NULL THEN
        w.status := 'refused';
        RETURN w;
    END IF;
    SELECT r.position, r.version INTO present
      FROM resource r WHERE r.tenant = p_tenant AND r.id = p_id AND r.kind = 1;
    IF NOT FOUND THEN
        w.status := 'not_found';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    w.position := present.position;
    w.version := present.version;
    IF present.version <> p_expected THEN
        w.status := 'stale';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    IF apply_members(p_tenant, present.position, p_member_changes, p_member_counts,
                     p_member_ids) = 0 THEN
        -- The head row goes back to where it was.
        w.status := 'done';
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    outcome := keep_outcome(p_tenant, p_origin, p_key, p_fingerprint, 'changed', present.position,
                            p_id, head_seq, p_now);
    IF outcome.status IS NOT NULL THEN
        w := outcome;
        RAISE 'not done' USING ERRCODE = 'MR000';
    END IF;
    UPDATE resource r SET version = head_seq, modified = p_now
     WHERE r.position = present.position AND r.tenant = p_tenant;
    INSERT INTO change (tenant, seq, position, id, what, at, attributes)
    VALUES (p_tenant, head_seq, present.position, p_id, 'changed', p_now, '["members"]');
    w.version := head_seq;
    w.status := 'done';
    RETURN w;
EXCEPTION
    WHEN SQLSTATE 'MR000' THEN
        RETURN w;
    WHEN OTHERS THEN
        w.status := SQLSTATE;
        RETURN w;
END $$;
