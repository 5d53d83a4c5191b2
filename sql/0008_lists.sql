-- SPDX-License-Identifier: Apache-2.0
-- Lists without reading specifications, counts that are kept, and what tells that a database is the
-- one that was used last.

-- What lists show and choose by, beside the specification.
ALTER TABLE jobs ADD COLUMN method TEXT NOT NULL DEFAULT 'didi';
ALTER TABLE jobs ADD COLUMN task_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN budget TEXT;             -- JSON
ALTER TABLE jobs ADD COLUMN dtype TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN extends TEXT;            -- id of the job that it extends
UPDATE jobs SET
    method = coalesce(json_extract(specification, '$.method'), 'didi'),
    task_count = coalesce(json_array_length(specification, '$.tasks'), 0),
    budget = specification -> '$.budget',
    dtype = coalesce(json_extract(specification, '$.output.dtype'), ''),
    extends = json_extract(specification, '$.extend.job')
WHERE json_valid(specification);

CREATE TABLE job_specifications (
    job_id        TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    specification TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO job_specifications SELECT id, specification FROM jobs;
ALTER TABLE jobs DROP COLUMN specification;

CREATE INDEX jobs_by_method ON jobs (method, id);
CREATE INDEX jobs_by_state_and_method ON jobs (state, method, id);
CREATE INDEX jobs_extending ON jobs (extends, state) WHERE extends IS NOT NULL;
CREATE INDEX exports_running ON exports (id) WHERE state = 'running';

-- One row a label; state and method are those of the job, so that each filter has its index.
CREATE TABLE job_labels (
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    state  TEXT NOT NULL,
    method TEXT NOT NULL,
    PRIMARY KEY (key, value, job_id)
) STRICT, WITHOUT ROWID;
INSERT INTO job_labels (key, value, job_id, state, method)
SELECT label.key, label.value, jobs.id, jobs.state, jobs.method
FROM jobs, json_each(CASE WHEN json_valid(jobs.labels) THEN jobs.labels ELSE '{}' END) AS label
WHERE label.type = 'text';
CREATE INDEX job_labels_by_state ON job_labels (key, value, state, job_id);
CREATE INDEX job_labels_by_method ON job_labels (key, value, method, job_id);
CREATE INDEX job_labels_by_both ON job_labels (key, value, state, method, job_id);
CREATE INDEX job_labels_of_job ON job_labels (job_id);

CREATE TABLE job_counts (
    state TEXT PRIMARY KEY,
    jobs  INTEGER NOT NULL CHECK (jobs >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts (state, jobs)
SELECT column1, (SELECT count(*) FROM jobs WHERE state = column1)
FROM (VALUES ('queued'), ('running'), ('succeeded'), ('failed'), ('cancelled'));

CREATE TRIGGER jobs_counted_in AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = new.state;
END;
CREATE TRIGGER jobs_counted_out AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
END;
CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
    UPDATE job_counts SET jobs = jobs + 1 WHERE state = new.state;
    UPDATE job_labels SET state = new.state WHERE job_id = new.id;
END;

-- Jobs that users deleted and whose files may still be there: these alone are removed.
CREATE TABLE deleted_jobs (
    job_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Compared with the file didid.mark beside the database.
CREATE TABLE store_facts (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    database_id TEXT NOT NULL,
    commits     INTEGER NOT NULL
) STRICT;
INSERT INTO store_facts (one, database_id, commits) VALUES (1, lower(hex(randomblob(16))), 0);
