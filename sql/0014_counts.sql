-- SPDX-License-Identifier: Apache-2.0
-- Counts that a damaged row made impossible (negative, beyond 64 bits, no number) keep no job from
-- changing its state: they stay within what their columns hold.

DROP TRIGGER jobs_counted_in;
DROP TRIGGER jobs_counted_out;
DROP TRIGGER jobs_moved;
DROP TRIGGER jobs_measured;
CREATE TRIGGER jobs_counted_in AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET
        jobs = CAST(coalesce(jobs, 0) + 1 AS INTEGER),
        artifact_bytes = CAST(max(coalesce(artifact_bytes, 0)
                                  + coalesce(new.artifact_bytes, 0), 0) AS INTEGER)
    WHERE state = new.state;
END;
CREATE TRIGGER jobs_counted_out AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET
        jobs = CAST(max(coalesce(jobs, 0) - 1, 0) AS INTEGER),
        artifact_bytes = CAST(max(coalesce(artifact_bytes, 0)
                                  - coalesce(old.artifact_bytes, 0), 0) AS INTEGER)
    WHERE state = old.state;
END;
CREATE TRIGGER jobs_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state
BEGIN
    UPDATE job_counts SET
        jobs = CAST(max(coalesce(jobs, 0) - 1, 0) AS INTEGER),
        artifact_bytes = CAST(max(coalesce(artifact_bytes, 0)
                                  - coalesce(old.artifact_bytes, 0), 0) AS INTEGER)
    WHERE state = old.state;
    UPDATE job_counts SET
        jobs = CAST(coalesce(jobs, 0) + 1 AS INTEGER),
        artifact_bytes = CAST(max(coalesce(artifact_bytes, 0)
                                  + coalesce(new.artifact_bytes, 0), 0) AS INTEGER)
    WHERE state = new.state;
    UPDATE job_labels SET state = new.state WHERE job_id = new.id;
END;
CREATE TRIGGER jobs_measured AFTER UPDATE OF artifact_bytes ON jobs WHEN old.state = new.state
BEGIN
    UPDATE job_counts SET
        artifact_bytes = CAST(max(coalesce(artifact_bytes, 0) - coalesce(old.artifact_bytes, 0)
                                  + coalesce(new.artifact_bytes, 0), 0) AS INTEGER)
    WHERE state = new.state;
END;
