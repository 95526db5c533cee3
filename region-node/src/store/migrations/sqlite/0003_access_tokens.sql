-- Short-lived secrets of API tokens (RFC 6749 section 4.4). A row says nothing of its own: whose it is
-- and whether it is good stands in the row of its API token.
CREATE TABLE access_token (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,             -- the order of creation
    digest  BLOB    NOT NULL UNIQUE,                       -- SHA-256 of the secret
    token   INTEGER NOT NULL,
    tenant  INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX access_token_token ON access_token (token, number);
CREATE INDEX access_token_tenant ON access_token (tenant);
CREATE INDEX access_token_expires ON access_token (expires);
