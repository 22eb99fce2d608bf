-- What calls said, for teams whose operator has it kept; everything else lives without this table. A text is deleted
-- after the time that stands beside it, whatever is configured then. `request` is the JSON of the messages, prompts
-- or inputs as the client sent them, `answer` an array of one message or text a choice; one that was cut is the
-- beginning of such a JSON.
CREATE TABLE call_texts (
    id              TEXT    NOT NULL PRIMARY KEY,
    team            TEXT    NOT NULL,
    ts_ms           BIGINT  NOT NULL,
    delete_after_ms BIGINT  NOT NULL,
    request         TEXT    NOT NULL,
    request_is_cut  BOOLEAN NOT NULL,
    answer          TEXT    NOT NULL,
    answer_is_cut   BOOLEAN NOT NULL
);

CREATE INDEX call_texts_by_end ON call_texts (delete_after_ms);
CREATE INDEX call_texts_by_team ON call_texts (team, ts_ms);
