-- The book: one line per call. Money is nano-dollars, times are milliseconds since 1970 UTC.
-- A cost of NULL means that no price was known.
CREATE TABLE postings (
    id                  TEXT    NOT NULL PRIMARY KEY,
    ts_ms               BIGINT  NOT NULL,
    team                TEXT    NOT NULL,
    key_id              TEXT,
    user_name           TEXT,
    tags                TEXT    NOT NULL,
    endpoint            TEXT    NOT NULL,
    route               TEXT    NOT NULL,
    tier                TEXT,
    score               DOUBLE PRECISION,
    score_source        TEXT,
    reason              TEXT    NOT NULL,
    split               TEXT,
    arm                 TEXT,
    upstream            TEXT,
    model               TEXT,
    attempts            BIGINT  NOT NULL,
    path                TEXT    NOT NULL,
    cache               TEXT    NOT NULL,
    similarity          DOUBLE PRECISION,
    input_tokens        BIGINT  NOT NULL,
    cached_read_tokens  BIGINT  NOT NULL,
    cache_write_tokens  BIGINT  NOT NULL,
    output_tokens       BIGINT  NOT NULL,
    reasoning_tokens    BIGINT  NOT NULL,
    audio_input_tokens  BIGINT  NOT NULL,
    audio_output_tokens BIGINT  NOT NULL,
    cost_nano_usd       BIGINT,
    baseline_nano_usd   BIGINT,
    estimated           BOOLEAN NOT NULL,
    outcome             TEXT    NOT NULL,
    status              BIGINT  NOT NULL,
    overhead_us         BIGINT  NOT NULL,
    first_byte_ms       BIGINT,
    total_ms            BIGINT  NOT NULL
);

CREATE INDEX postings_by_time ON postings (ts_ms);

-- What each team spent in each hour, kept in the transaction that inserts the postings, so that the
-- balances of a month are read from a few hundred rows. Calendar windows in UTC begin on the hour.
CREATE TABLE team_hours (
    team          TEXT   NOT NULL,
    hour_ms       BIGINT NOT NULL,
    n_calls       BIGINT NOT NULL,
    n_unpriced    BIGINT NOT NULL,
    cost_nano_usd BIGINT NOT NULL,
    PRIMARY KEY (team, hour_ms)
);

CREATE INDEX team_hours_by_hour ON team_hours (hour_ms);
