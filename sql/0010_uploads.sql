-- SPDX-License-Identifier: Apache-2.0
-- Models that clients upload. What arrived of a file is on disk, not here.

CREATE TABLE uploads (
    id         TEXT PRIMARY KEY CHECK (length(id) = 26),
    name       TEXT NOT NULL UNIQUE,
    client     TEXT NOT NULL,
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    files      TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('open', 'committing', 'committed')),
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
