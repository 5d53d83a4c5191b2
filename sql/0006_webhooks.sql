-- SPDX-License-Identifier: Apache-2.0
-- Endpoints that events are sent to, and what was or is to be sent.

CREATE TABLE webhooks (
    id               TEXT PRIMARY KEY CHECK (length(id) = 26),
    url              TEXT NOT NULL,
    description      TEXT NOT NULL,
    events           TEXT NOT NULL,   -- JSON array of types; empty: all
    labels           TEXT NOT NULL,   -- JSON object: what a job's labels must hold
    secret           TEXT NOT NULL,   -- as daemon/webhooks/secret.c keeps it
    old_secret       TEXT,            -- signed with too, until
    old_secret_until INTEGER,
    enabled          INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    disabled_reason  TEXT,            -- why the daemon disabled it; NULL: it did not
    failing_since_ms INTEGER,         -- first failure after the last success
    queued           INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    dropped          INTEGER NOT NULL DEFAULT 0, -- events not queued: the queue was full
    created_ms       INTEGER NOT NULL,
    updated_ms       INTEGER NOT NULL,
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK (disabled_reason IS NULL OR enabled = 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id          TEXT PRIMARY KEY CHECK (length(id) = 26),
    webhook_id  TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    type        TEXT NOT NULL,
    subject     TEXT NOT NULL,        -- deliveries of one subject go out in order
    body        TEXT NOT NULL,        -- what is signed and sent, the same each time
    state       TEXT NOT NULL CHECK (state IN ('queued', 'succeeded', 'failed')),
    due_ms      INTEGER,              -- NULL: waits behind another of its subject
    attempts    INTEGER NOT NULL DEFAULT 0, -- since it was queued; the retry table's row
    attempts_all INTEGER NOT NULL DEFAULT 0,
    created_ms  INTEGER NOT NULL,
    sent_ms     INTEGER,              -- the last attempt
    finished_ms INTEGER,
    duration_ms INTEGER,
    http_status INTEGER,              -- of the last answer; NULL: there was none
    answer      TEXT,                 -- the beginning of its body
    error       TEXT,                 -- why the last attempt failed
    CHECK ((state = 'queued') = (finished_ms IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_due ON deliveries (webhook_id, due_ms, id)
    WHERE state = 'queued' AND due_ms IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries (webhook_id, subject, id) WHERE state = 'queued';
CREATE INDEX deliveries_of ON deliveries (webhook_id, id);
CREATE INDEX deliveries_of_state ON deliveries (webhook_id, state, id);
CREATE INDEX deliveries_ended ON deliveries (finished_ms, id) WHERE state <> 'queued';

CREATE TRIGGER deliveries_count_inserted AFTER INSERT ON deliveries WHEN NEW.state = 'queued'
BEGIN
    UPDATE webhooks SET queued = queued + 1 WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_count_ended AFTER UPDATE OF state ON deliveries
    WHEN OLD.state = 'queued' AND NEW.state <> 'queued'
BEGIN
    UPDATE webhooks SET queued = queued - 1 WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_count_again AFTER UPDATE OF state ON deliveries
    WHEN OLD.state <> 'queued' AND NEW.state = 'queued'
BEGIN
    UPDATE webhooks SET queued = queued + 1 WHERE id = NEW.webhook_id;
END;
