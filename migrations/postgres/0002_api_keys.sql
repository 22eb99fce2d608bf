-- API keys. Only a hash of the secret is kept; `routes` is a JSON array, or NULL for all of the team's.
CREATE TABLE api_keys (
    id         TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    team       TEXT   NOT NULL,
    routes     TEXT,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT
);
