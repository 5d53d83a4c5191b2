-- SPDX-License-Identifier: Apache-2.0
-- Who may use the interface. A token itself is nowhere; its SHA-256 is.

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY CHECK (length(id) = 26),
    name       TEXT NOT NULL,
    hash       TEXT NOT NULL UNIQUE CHECK (length(hash) = 64),
    scope      TEXT NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    used_ms    INTEGER
) STRICT, WITHOUT ROWID;
