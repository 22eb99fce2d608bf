-- Sums by day lie in the order of their keys: one tree instead of a table and its index, so that a page reads
-- them in one run and a batch changes each line in one place. Buckets come before names, because quantiles are
-- added up by bucket. A version before this one reads and writes them as ever. Postgres keeps its heap: it adds
-- up by hashing, and does not mind the order.

CREATE TABLE call_days_in_order (
    at_ms                      BIGINT NOT NULL,
    team                       TEXT   NOT NULL,
    route                      TEXT   NOT NULL,
    tier                       TEXT   NOT NULL,
    upstream                   TEXT   NOT NULL,
    model                      TEXT   NOT NULL,
    path                       TEXT   NOT NULL,
    cache                      TEXT   NOT NULL,
    split                      TEXT   NOT NULL,
    arm                        TEXT   NOT NULL,
    outcome                    TEXT   NOT NULL,
    n_calls                    BIGINT NOT NULL,
    n_unpriced                 BIGINT NOT NULL,
    n_estimated                BIGINT NOT NULL,
    attempts                   BIGINT NOT NULL,
    cost_nano_usd              BIGINT NOT NULL,
    baseline_nano_usd          BIGINT NOT NULL,
    saved_nano_usd             BIGINT NOT NULL,
    compression_saved_nano_usd BIGINT NOT NULL,
    prefix_saved_nano_usd      BIGINT NOT NULL,
    own_cost_nano_usd          BIGINT NOT NULL,
    input_tokens               BIGINT NOT NULL,
    cached_read_tokens         BIGINT NOT NULL,
    cache_write_tokens         BIGINT NOT NULL,
    output_tokens              BIGINT NOT NULL,
    reasoning_tokens           BIGINT NOT NULL,
    audio_input_tokens         BIGINT NOT NULL,
    audio_output_tokens        BIGINT NOT NULL,
    overhead_us                BIGINT NOT NULL,
    PRIMARY KEY (at_ms, team, route, tier, upstream, model, path, cache, split, arm, outcome)
) WITHOUT ROWID;

INSERT INTO call_days_in_order SELECT * FROM call_days ORDER BY at_ms, team, route, tier, upstream, model, path, cache, split, arm, outcome;
DROP TABLE call_days;
ALTER TABLE call_days_in_order RENAME TO call_days;

CREATE TABLE user_days_in_order (
    at_ms                      BIGINT NOT NULL,
    team                       TEXT   NOT NULL,
    key_id                     TEXT   NOT NULL,
    user_name                  TEXT   NOT NULL,
    path                       TEXT   NOT NULL,
    outcome                    TEXT   NOT NULL,
    n_calls                    BIGINT NOT NULL,
    n_unpriced                 BIGINT NOT NULL,
    n_estimated                BIGINT NOT NULL,
    attempts                   BIGINT NOT NULL,
    cost_nano_usd              BIGINT NOT NULL,
    baseline_nano_usd          BIGINT NOT NULL,
    saved_nano_usd             BIGINT NOT NULL,
    compression_saved_nano_usd BIGINT NOT NULL,
    prefix_saved_nano_usd      BIGINT NOT NULL,
    own_cost_nano_usd          BIGINT NOT NULL,
    input_tokens               BIGINT NOT NULL,
    cached_read_tokens         BIGINT NOT NULL,
    cache_write_tokens         BIGINT NOT NULL,
    output_tokens              BIGINT NOT NULL,
    reasoning_tokens           BIGINT NOT NULL,
    audio_input_tokens         BIGINT NOT NULL,
    audio_output_tokens        BIGINT NOT NULL,
    overhead_us                BIGINT NOT NULL,
    PRIMARY KEY (at_ms, team, key_id, user_name, path, outcome)
) WITHOUT ROWID;

INSERT INTO user_days_in_order SELECT * FROM user_days ORDER BY at_ms, team, key_id, user_name, path, outcome;
DROP TABLE user_days;
ALTER TABLE user_days_in_order RENAME TO user_days;

CREATE TABLE latency_days_in_order (
    at_ms  BIGINT NOT NULL,
    team   TEXT   NOT NULL,
    route  TEXT   NOT NULL,
    split  TEXT   NOT NULL,
    arm    TEXT   NOT NULL,
    bucket BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (at_ms, bucket, team, route, split, arm)
) WITHOUT ROWID;

INSERT INTO latency_days_in_order SELECT * FROM latency_days ORDER BY at_ms, bucket, team, route, split, arm;
DROP TABLE latency_days;
ALTER TABLE latency_days_in_order RENAME TO latency_days;
