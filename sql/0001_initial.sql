-- SPDX-License-Identifier: Apache-2.0
-- Version 1. Times are milliseconds since the epoch. To change the schema: add a file with the next
-- number; this one stays as it is for ever.

CREATE TABLE jobs (
    id               TEXT PRIMARY KEY CHECK (length(id) = 26),
    state            TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority         INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    name             TEXT NOT NULL,
    base             TEXT NOT NULL,
    specification    TEXT NOT NULL,
    labels           TEXT NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    boot_id          TEXT,             -- the process that runs it: the lease
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    stage            TEXT NOT NULL DEFAULT '',
    progress         REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    error_status     TEXT,
    error_subject    TEXT,
    error_message    TEXT,
    idempotency_key  TEXT,
    body_digest      TEXT,
    created_ms       INTEGER NOT NULL,
    updated_ms       INTEGER NOT NULL,
    started_ms       INTEGER,
    finished_ms      INTEGER,
    event_count      INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'running') = (boot_id IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_ms IS NOT NULL)),
    CHECK ((idempotency_key IS NULL) = (body_digest IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (state, id);

CREATE TABLE events (
    job_id         TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number         INTEGER NOT NULL CHECK (number > 0),
    at_ms          INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('state', 'stage', 'point', 'note')),
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

CREATE TRIGGER events_are_append_only BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

CREATE TABLE exports (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    job_id        TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task          TEXT NOT NULL,
    format        TEXT NOT NULL CHECK (format IN ('full')),
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

CREATE INDEX exports_waiting ON exports (id) WHERE state = 'queued';

CREATE TABLE models (
    name          TEXT PRIMARY KEY,
    root          TEXT NOT NULL,
    revision      TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('ready', 'broken')),
    reason        TEXT,
    tensor_count  INTEGER NOT NULL,
    parameters    INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    file_count    INTEGER NOT NULL,
    registered_ms INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    present       INTEGER NOT NULL DEFAULT 1 CHECK (present IN (0, 1)),
    CHECK ((state = 'broken') = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
