-- SPDX-License-Identifier: Apache-2.0
-- Bake-offs: every method at its own size, didi at each of these, and what a scorer said of them.

CREATE TABLE bakeoffs (
    id               TEXT PRIMARY KEY CHECK (length(id) = 26),
    name             TEXT NOT NULL,
    request          TEXT NOT NULL,    -- JSON, with all that was left out
    state            TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    sized            INTEGER NOT NULL DEFAULT 0 CHECK (sized IN (0, 1)), -- didi has its sizes
    scored           INTEGER NOT NULL CHECK (scored IN (0, 1)),          -- a scorer judges
    model_bytes      INTEGER NOT NULL CHECK (model_bytes >= 0),          -- in 16 bits
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    error_status     TEXT,
    error_message    TEXT,
    idempotency_key  TEXT,
    body_digest      TEXT,
    created_ms       INTEGER NOT NULL,
    updated_ms       INTEGER NOT NULL,
    finished_ms      INTEGER,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_ms IS NOT NULL)),
    CHECK ((idempotency_key IS NULL) = (body_digest IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX bakeoffs_by_idempotency_key ON bakeoffs (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX bakeoffs_unfinished ON bakeoffs (id) WHERE state IN ('queued', 'running');

-- What a member's job gave is copied here when it ends, since the job may go before the bake-off.
CREATE TABLE bakeoff_members (
    bakeoff_id    TEXT NOT NULL REFERENCES bakeoffs (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL CHECK (number >= 0),
    role          TEXT NOT NULL CHECK (role IN ('method', 'base', 'survey', 'didi')),
    label         TEXT NOT NULL,
    method        TEXT NOT NULL,
    options       TEXT NOT NULL,       -- JSON
    job_id        TEXT CHECK (length(job_id) = 26), -- NULL: refused, and of the base
    state         TEXT                 -- NULL: its job has not ended
        CHECK (state IN ('succeeded', 'failed', 'cancelled', 'refused')),
    result_error  REAL,
    result_ratio  REAL,
    result_bytes  INTEGER,
    run_ms        INTEGER,
    error_status  TEXT,
    error_message TEXT,
    PRIMARY KEY (bakeoff_id, number),
    CHECK (CASE role WHEN 'base' THEN job_id IS NULL AND state = 'succeeded'
                     ELSE (job_id IS NULL) = (state IS 'refused') END)
) STRICT, WITHOUT ROWID;

CREATE TABLE bakeoff_scores (
    bakeoff_id TEXT NOT NULL,
    number     INTEGER NOT NULL,
    task       TEXT NOT NULL,
    score      REAL,                   -- NULL: there is none, see error
    cosine     REAL,                   -- without a scorer: what tells without data
    length     REAL,
    error      TEXT,
    run_ms     INTEGER NOT NULL,
    PRIMARY KEY (bakeoff_id, number, task),
    FOREIGN KEY (bakeoff_id, number) REFERENCES bakeoff_members (bakeoff_id, number)
        ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN bakeoff TEXT CHECK (length(bakeoff) = 26);
