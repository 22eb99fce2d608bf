-- Teams made over HTTP or by the command line; `config` is a JSON object with the words of `[teams.NAME]`.
CREATE TABLE teams (
    name       TEXT   NOT NULL PRIMARY KEY,
    config     TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT
);

-- What a key may spend besides its team: a JSON array with the words of `[[keys]]`, or NULL for nothing of its own.
ALTER TABLE api_keys ADD COLUMN budgets TEXT;
