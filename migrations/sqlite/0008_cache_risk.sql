-- What replicas know of the risk of cached answers: a line for each scope and replica, written by that replica
-- alone. `account` is small and changes every second, `model` may have megabytes and changes every minute; both
-- are JSON with a version inside. `saved_at_ms` is the replica's sign of life, 0 once it has ended: whoever takes
-- a line over deletes it only if it is as it was seen. Older versions live without this table.
CREATE TABLE cache_risk (
    scope             TEXT   NOT NULL,
    replica           TEXT   NOT NULL,
    account           TEXT   NOT NULL,
    model             TEXT,
    model_saved_at_ms BIGINT,
    saved_at_ms       BIGINT NOT NULL,
    PRIMARY KEY (scope, replica)
);

CREATE INDEX cache_risk_by_replica ON cache_risk (replica);
