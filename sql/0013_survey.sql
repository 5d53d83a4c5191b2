-- SPDX-License-Identifier: Apache-2.0
-- Surveys, what lists show of results, how fast stages were, and when a running job will end.

ALTER TABLE jobs ADD COLUMN survey INTEGER NOT NULL DEFAULT 0 CHECK (survey IN (0, 1));
-- Of a succeeded job that is no survey: NULL of those that ended before this version.
ALTER TABLE jobs ADD COLUMN result_error REAL;
ALTER TABLE jobs ADD COLUMN result_ratio REAL;       -- bytes to those of the model in 16 bits
ALTER TABLE jobs ADD COLUMN result_bytes INTEGER;    -- of the artifacts' files
ALTER TABLE jobs ADD COLUMN ends_ms INTEGER;         -- of a running job, expected

-- Sums over attempts that ended well, later ones counting more.
CREATE TABLE paces (
    method  TEXT NOT NULL,
    kind    TEXT NOT NULL,    -- what the job starts from
    stage   TEXT NOT NULL,
    work    REAL NOT NULL CHECK (work >= 0),     -- as planned: operations, or bytes
    seconds REAL NOT NULL CHECK (seconds >= 0),
    PRIMARY KEY (method, kind, stage)
) STRICT, WITHOUT ROWID;

-- Events of one kind more.
CREATE TABLE events_of_version_13 (
    job_id         TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number         INTEGER NOT NULL CHECK (number > 0),
    at_ms          INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('state', 'stage', 'point', 'note', 'frontier')),
    stage          TEXT NOT NULL,
    step           INTEGER NOT NULL,
    loss           REAL,
    relative_error REAL,
    ratio          REAL,
    ratio_target   REAL,
    items_done     INTEGER NOT NULL,
    items_total    INTEGER NOT NULL,
    seconds        REAL,
    bytes_read     INTEGER NOT NULL,
    text           TEXT,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

INSERT INTO events_of_version_13 (job_id, number, at_ms, attempt, kind, stage, step, loss,
                                  relative_error, ratio, ratio_target, items_done, items_total,
                                  seconds, bytes_read, text)
SELECT job_id, number, at_ms, attempt, kind, stage, step, loss, relative_error, ratio, ratio_target,
       items_done, items_total, seconds, bytes_read, text
FROM events;

DROP TABLE events;
ALTER TABLE events_of_version_13 RENAME TO events;

CREATE TRIGGER events_are_append_only BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;
