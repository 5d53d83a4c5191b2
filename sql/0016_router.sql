-- SPDX-License-Identifier: Apache-2.0
-- Version 16. Routers among the formats of exports.

CREATE TABLE exports_of_version_16 (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    job_id        TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task          TEXT NOT NULL,
    format        TEXT NOT NULL CHECK (format IN ('full', 'peft', 'peft-exact', 'router')),
    max_rank      INTEGER NOT NULL DEFAULT 0 CHECK (max_rank >= 0),
    state         TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    bytes         INTEGER NOT NULL DEFAULT 0,
    error_status  TEXT,
    error_message TEXT,
    created_ms    INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    finished_ms   INTEGER,
    CHECK ((state IN ('succeeded', 'failed')) = (finished_ms IS NOT NULL)),
    UNIQUE (job_id, format, task)
) STRICT, WITHOUT ROWID;

INSERT INTO exports_of_version_16 (id, job_id, task, format, max_rank, state, bytes, error_status,
                                  error_message, created_ms, updated_ms, finished_ms)
SELECT id, job_id, task, format, max_rank, state, bytes, error_status, error_message,
       created_ms, updated_ms, finished_ms
FROM exports;

DROP TABLE exports;
ALTER TABLE exports_of_version_16 RENAME TO exports;

CREATE INDEX exports_waiting ON exports (id) WHERE state = 'queued';
CREATE INDEX exports_running ON exports (id) WHERE state = 'running';
