-- What a row says of its own life: the time of each stage and the attempts that failed, as JSON; and what was
-- saved or spent beside the call itself.
ALTER TABLE postings ADD COLUMN stages TEXT;
ALTER TABLE postings ADD COLUMN tried TEXT;
ALTER TABLE postings ADD COLUMN compression_saved_nano_usd BIGINT NOT NULL DEFAULT 0;
ALTER TABLE postings ADD COLUMN prefix_saved_nano_usd BIGINT NOT NULL DEFAULT 0;
ALTER TABLE postings ADD COLUMN own_cost_nano_usd BIGINT NOT NULL DEFAULT 0;

CREATE INDEX postings_by_team ON postings (team, ts_ms);

-- Calls that did not end well are looked for, and are few.
CREATE INDEX postings_not_ok ON postings (outcome, ts_ms) WHERE outcome <> 'ok';

-- Sums of postings, kept in the transaction that inserts them; text that is absent from a posting is '' here.
-- `saved` is baseline less cost, of rows where both are known.
CREATE TABLE call_hours (
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
);

-- The same by day (UTC), for windows of weeks.
CREATE TABLE call_days (
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
);

-- Who spent it, by day: kept apart, because users may be many.
CREATE TABLE user_days (
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
);

-- What budgets are read from at a start: the spending of a team, of each key and of each user in it. `kind` is
-- team, key or user. It takes the place of `team_hours`, which is still written for the version before.
CREATE TABLE subject_hours (
    hour_ms       BIGINT NOT NULL,
    team          TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    n_calls       BIGINT NOT NULL,
    n_unpriced    BIGINT NOT NULL,
    cost_nano_usd BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, team, kind, name)
);

-- How long calls took: counts in buckets, four to an octave, so that quantiles of any span are added up.
CREATE TABLE latency_hours (
    at_ms  BIGINT NOT NULL,
    team   TEXT   NOT NULL,
    route  TEXT   NOT NULL,
    split  TEXT   NOT NULL,
    arm    TEXT   NOT NULL,
    bucket BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (at_ms, team, route, split, arm, bucket)
);

CREATE TABLE latency_days (
    at_ms  BIGINT NOT NULL,
    team   TEXT   NOT NULL,
    route  TEXT   NOT NULL,
    split  TEXT   NOT NULL,
    arm    TEXT   NOT NULL,
    bucket BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    PRIMARY KEY (at_ms, team, route, split, arm, bucket)
);

-- Facts about the book itself: until when rows were deleted, from which version its sums are.
CREATE TABLE ledger_facts (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
