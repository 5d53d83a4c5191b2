-- SPDX-License-Identifier: Apache-2.0
-- Webhooks of registries: what they may start, what came, what is asked for, what is told back.

CREATE TABLE hooks (
    name       TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
    document   TEXT NOT NULL,
    secret     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `work` says what is still to be done, and is gone when that is over.
CREATE TABLE hook_deliveries (
    id          TEXT PRIMARY KEY CHECK (length(id) = 26),
    hook        TEXT NOT NULL REFERENCES hooks (name) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    subject     TEXT,
    delivery    TEXT NOT NULL,
    origin      TEXT NOT NULL CHECK (origin IN ('webhook', 'poll')),
    state       TEXT NOT NULL CHECK (state IN ('pending', 'waiting', 'done', 'ignored', 'failed')),
    rule        TEXT,
    job_id      TEXT,
    fetch_id    TEXT,
    reason      TEXT,
    excerpt     TEXT NOT NULL,
    work        TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_ms     INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    finished_ms INTEGER,
    CHECK ((state IN ('pending', 'waiting')) = (work IS NOT NULL)),
    CHECK ((state IN ('pending', 'waiting')) = (finished_ms IS NULL)),
    CHECK ((state = 'failed') <= (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX hook_deliveries_key ON hook_deliveries (hook, key);
CREATE INDEX hook_deliveries_list ON hook_deliveries (hook, id);
CREATE INDEX hook_deliveries_subject ON hook_deliveries (hook, subject, created_ms)
    WHERE subject IS NOT NULL;
CREATE INDEX hook_deliveries_due ON hook_deliveries (next_ms, id)
    WHERE state IN ('pending', 'waiting');

CREATE TABLE hook_polls (
    hook       TEXT NOT NULL REFERENCES hooks (name) ON DELETE CASCADE,
    source     TEXT NOT NULL,
    seen       TEXT,
    checked_ms INTEGER NOT NULL,
    due_ms     INTEGER NOT NULL,
    error      TEXT,
    PRIMARY KEY (hook, source)
) STRICT, WITHOUT ROWID;

CREATE TABLE hook_registrations (
    job_id     TEXT PRIMARY KEY,
    hook       TEXT NOT NULL,
    model      TEXT NOT NULL,
    experiment TEXT,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
    attempts   INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_ms    INTEGER NOT NULL,
    version    TEXT,
    error      TEXT,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    CHECK ((state = 'done') = (version IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX hook_registrations_due ON hook_registrations (next_ms) WHERE state = 'waiting';
