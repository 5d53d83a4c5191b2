-- SPDX-License-Identifier: Apache-2.0
-- Version 2. Spectra and bases that finished jobs keep for others, and who starts from whom.

ALTER TABLE jobs ADD COLUMN from_job TEXT CHECK (length(from_job) = 26);
ALTER TABLE jobs ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0 CHECK (kept_bytes >= 0);

CREATE INDEX jobs_starting_from ON jobs (from_job, state) WHERE from_job IS NOT NULL;
CREATE INDEX jobs_that_keep ON jobs (id, kept_bytes) WHERE kept_bytes > 0;
