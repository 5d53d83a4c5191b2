-- SPDX-License-Identifier: Apache-2.0
-- Fetches that clients cancel.

CREATE TABLE fetches_that_cancel (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    name          TEXT NOT NULL,
    source        TEXT NOT NULL,
    state         TEXT NOT NULL
                  CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    bytes_done    INTEGER NOT NULL DEFAULT 0 CHECK (bytes_done >= 0),
    bytes_total   INTEGER NOT NULL DEFAULT 0 CHECK (bytes_total >= 0),
    error_status  TEXT,
    error_message TEXT,
    created_ms    INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    finished_ms   INTEGER,
    CHECK ((state = 'failed') = (error_status IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO fetches_that_cancel (id, name, source, state, bytes_done, bytes_total, error_status,
                                 error_message, created_ms, updated_ms, finished_ms)
SELECT id, name, source, state, bytes_done, bytes_total, error_status, error_message, created_ms,
       updated_ms, finished_ms
FROM fetches;

DROP TABLE fetches;
ALTER TABLE fetches_that_cancel RENAME TO fetches;

CREATE INDEX fetches_unfinished ON fetches (state, id) WHERE state IN ('queued', 'running');
