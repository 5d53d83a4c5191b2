-- SPDX-License-Identifier: Apache-2.0
-- What artifacts take, which jobs have lost events, and the trace that a job belongs to.

-- At most, while the job has not succeeded; NULL where nobody has looked.
ALTER TABLE jobs ADD COLUMN artifact_bytes INTEGER CHECK (artifact_bytes >= 0);
-- All events but the last and the states are gone.
ALTER TABLE jobs ADD COLUMN events_dropped INTEGER NOT NULL DEFAULT 0
    CHECK (events_dropped IN (0, 1));
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
ALTER TABLE deliveries ADD COLUMN traceparent TEXT;

CREATE INDEX jobs_not_measured ON jobs (id) WHERE state = 'succeeded' AND artifact_bytes IS NULL;
CREATE INDEX jobs_with_events ON jobs (finished_ms)
    WHERE finished_ms IS NOT NULL AND events_dropped = 0;

ALTER TABLE job_counts ADD COLUMN artifact_bytes INTEGER NOT NULL DEFAULT 0
    CHECK (artifact_bytes >= 0);

DROP TRIGGER jobs_counted_in;
DROP TRIGGER jobs_counted_out;
DROP TRIGGER jobs_moved;
CREATE TRIGGER jobs_counted_in AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET
        jobs = jobs + 1, artifact_bytes = artifact_bytes + coalesce(new.artifact_bytes, 0)
    WHERE state = new.state;
END;
CREATE TRIGGER jobs_counted_out AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET
        jobs = jobs - 1, artifact_bytes = artifact_bytes - coalesce(old.artifact_bytes, 0)
    WHERE state = old.state;
END;
CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state
BEGIN
    UPDATE job_counts SET
        jobs = jobs - 1, artifact_bytes = artifact_bytes - coalesce(old.artifact_bytes, 0)
    WHERE state = old.state;
    UPDATE job_counts SET
        jobs = jobs + 1, artifact_bytes = artifact_bytes + coalesce(new.artifact_bytes, 0)
    WHERE state = new.state;
    UPDATE job_labels SET state = new.state WHERE job_id = new.id;
END;
CREATE TRIGGER jobs_measured AFTER UPDATE OF artifact_bytes ON jobs WHEN old.state = new.state
BEGIN
    UPDATE job_counts SET
        artifact_bytes = artifact_bytes - coalesce(old.artifact_bytes, 0)
                         + coalesce(new.artifact_bytes, 0)
    WHERE state = new.state;
END;
