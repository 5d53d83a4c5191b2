-- SPDX-License-Identifier: Apache-2.0
-- Every statement of the store, by name. Parameters are named; the C side binds by name.

-- name: transaction_begin
BEGIN IMMEDIATE;
-- name: transaction_commit
COMMIT;
-- name: transaction_rollback
ROLLBACK;
-- name: savepoint_begin
SAVEPOINT request;
-- name: savepoint_release
RELEASE request;
-- name: savepoint_rollback
ROLLBACK TO request;

-- name: job_insert
INSERT INTO jobs (id, state, priority, name, base, specification, labels, idempotency_key,
                  body_digest, from_job, created_ms, updated_ms)
VALUES (:id, 'queued', :priority, :name, :base, :specification, :labels, :idempotency_key,
        :body_digest, :from_job, :now, :now);

-- name: job_by_idempotency_key
SELECT id, body_digest FROM jobs WHERE idempotency_key = :idempotency_key;

-- name: job_count_active
SELECT count(*) FROM jobs WHERE state IN ('queued', 'running');

-- name: job_newest_id
SELECT max(id) FROM jobs;

-- name: job_select
SELECT id, state, priority, name, base, specification, labels, attempt, cancel_requested, stage,
       progress, error_status, error_subject, error_message, created_ms, updated_ms, started_ms,
       finished_ms, event_count, from_job, kept_bytes
FROM jobs WHERE id = :id;

-- name: job_list
SELECT id, state, priority, name, base, specification, labels, attempt, cancel_requested, stage,
       progress, error_status, error_subject, error_message, created_ms, updated_ms, started_ms,
       finished_ms, event_count, from_job, kept_bytes
FROM jobs
WHERE id < coalesce(:before_id, '~')
  AND (:state IS NULL OR state = :state)
  AND (:label_key IS NULL
       OR EXISTS (SELECT 1 FROM json_each(jobs.labels) AS label
                  WHERE label.key = :label_key
                    AND (:label_value IS NULL OR label.value = :label_value)))
ORDER BY id DESC LIMIT :limit;

-- name: job_each_succeeded
SELECT id FROM jobs WHERE state = 'succeeded' ORDER BY id;

-- name: job_next_queued
SELECT id FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued' AND priority >= :priority
ORDER BY priority DESC, id LIMIT 1;

-- The one statement that moves a job. :from is a JSON array of states; :attempt -1 means any.
-- name: job_move
UPDATE jobs SET
    state = :to,
    updated_ms = :now,
    boot_id = CASE :to WHEN 'running' THEN :boot_id END,
    attempt = attempt + :attempt_change,
    cancel_requested = CASE WHEN :to IN ('queued', 'running') THEN 0 ELSE cancel_requested END,
    started_ms = CASE :to WHEN 'running' THEN :now ELSE started_ms END,
    finished_ms = CASE WHEN :to IN ('succeeded', 'failed', 'cancelled') THEN :now END,
    stage = '',
    progress = CASE :to WHEN 'succeeded' THEN 1.0 WHEN 'queued' THEN 0.0 ELSE progress END,
    error_status = :error_status,
    error_subject = :error_subject,
    error_message = :error_message,
    event_count = event_count + 1
WHERE id = :id
  AND state IN (SELECT value FROM json_each(:from))
  AND (:attempt = -1 OR attempt = :attempt)
RETURNING attempt, event_count;

-- name: job_request_cancel
UPDATE jobs SET cancel_requested = 1, updated_ms = :now WHERE id = :id AND state = 'running';

-- name: job_progress
UPDATE jobs SET stage = :stage, progress = :progress, updated_ms = :now
WHERE id = :id AND attempt = :attempt AND state = 'running';

-- name: job_of_other_boot
SELECT id FROM jobs
WHERE state = 'running' AND boot_id <> :boot_id ORDER BY id LIMIT 1;

-- name: job_delete
DELETE FROM jobs
WHERE id = :id AND state IN ('succeeded', 'failed', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM exports WHERE job_id = :id AND state = 'running')
  AND NOT EXISTS (SELECT 1 FROM jobs AS later WHERE later.state IN ('queued', 'running')
                    AND json_extract(later.specification, '$.extend.job') = :id);

-- name: job_extended_by
SELECT id FROM jobs
WHERE state IN ('queued', 'running') AND json_extract(specification, '$.extend.job') = :id
LIMIT 1;

-- name: job_keep
UPDATE jobs SET kept_bytes = :bytes WHERE id = :id AND attempt = :attempt AND state = 'running';

-- name: kept_forget
UPDATE jobs SET kept_bytes = 0 WHERE id = :id AND kept_bytes > 0;

-- name: kept_total
SELECT coalesce(sum(kept_bytes), 0) FROM jobs WHERE kept_bytes > 0;

-- The oldest that no unfinished job starts from.
-- name: kept_oldest
SELECT id FROM jobs AS source
WHERE kept_bytes > 0 AND state <> 'running'
  AND NOT EXISTS (SELECT 1 FROM jobs AS other
                  WHERE other.from_job = source.id AND other.state IN ('queued', 'running'))
ORDER BY id LIMIT 1;

-- name: kept_is_needed
SELECT EXISTS (SELECT 1 FROM jobs WHERE id = :id AND kept_bytes > 0)
    OR EXISTS (SELECT 1 FROM jobs WHERE from_job = :id AND state IN ('queued', 'running'));

-- name: kept_list
SELECT id FROM jobs WHERE kept_bytes > 0 ORDER BY id;

-- name: event_count_up
UPDATE jobs SET event_count = event_count + 1, updated_ms = :now
WHERE id = :id AND attempt = :attempt AND state = 'running' AND event_count < :event_limit
RETURNING event_count;

-- name: event_insert
INSERT INTO events (job_id, number, at_ms, attempt, kind, stage, step, loss, relative_error, ratio,
                    ratio_target, items_done, items_total, seconds, bytes_read, text)
VALUES (:id, :number, :now, :attempt, :kind, :stage, :step, :loss, :relative_error, :ratio,
        :ratio_target, :items_done, :items_total, :seconds, :bytes_read, :text);

-- name: event_list
SELECT number, at_ms, attempt, kind, stage, step, loss, relative_error, ratio, ratio_target,
       items_done, items_total, seconds, bytes_read, text
FROM events WHERE job_id = :id AND number > :after ORDER BY number LIMIT :limit;

-- name: export_upsert
INSERT INTO exports (id, job_id, task, format, max_rank, state, created_ms, updated_ms)
VALUES (:id, :job_id, :task, :format, :max_rank, 'queued', :now, :now)
ON CONFLICT (job_id, format, task) DO UPDATE SET
    state = 'queued', max_rank = :max_rank, error_status = NULL, error_message = NULL,
    finished_ms = NULL, updated_ms = :now
WHERE state = 'failed' OR (max_rank <> :max_rank AND state <> 'running');

-- name: export_busy
SELECT id FROM exports
WHERE job_id = :job_id AND format = :format AND task = :task AND state = 'running'
  AND max_rank <> :max_rank;

-- name: export_newest_id
SELECT max(id) FROM exports;

-- name: export_list
SELECT id, job_id, task, format, max_rank, state, bytes, error_status, error_message, created_ms,
       updated_ms, finished_ms
FROM exports WHERE job_id = :id ORDER BY task, format;

-- name: export_claim
UPDATE exports SET state = 'running', updated_ms = :now
WHERE id = (SELECT id FROM exports WHERE state = 'queued' ORDER BY id LIMIT 1)
RETURNING id, job_id, task, format, max_rank, state, bytes, error_status, error_message,
          created_ms, updated_ms, finished_ms;

-- name: export_finish
UPDATE exports SET state = :state, bytes = :bytes, error_status = :error_status,
    error_message = :error_message, updated_ms = :now,
    finished_ms = CASE WHEN :state IN ('succeeded', 'failed') THEN :now END
WHERE id = :id AND state = 'running'
RETURNING job_id;

-- name: export_boot
UPDATE exports SET state = 'queued', updated_ms = :now WHERE state = 'running';

-- name: model_mark_absent
UPDATE models SET present = 0;

-- name: model_upsert
INSERT INTO models (name, root, revision, state, reason, tensor_count, parameters, bytes,
                    file_count, registered_ms, updated_ms)
VALUES (:name, :root, :revision, :state, :reason, :tensor_count, :parameters, :bytes, :file_count,
        :now, :now)
ON CONFLICT (name) DO UPDATE SET
    root = excluded.root, revision = excluded.revision, state = excluded.state,
    reason = excluded.reason, tensor_count = excluded.tensor_count,
    parameters = excluded.parameters, bytes = excluded.bytes, file_count = excluded.file_count,
    updated_ms = CASE WHEN revision = excluded.revision AND state = excluded.state
                      THEN updated_ms ELSE excluded.updated_ms END,
    present = 1;

-- name: model_delete_absent
DELETE FROM models WHERE present = 0;

-- name: model_list
SELECT name, root, revision, state, reason, tensor_count, parameters, bytes, file_count,
       registered_ms, updated_ms
FROM models WHERE name > coalesce(:after, '') ORDER BY name LIMIT :limit;

-- name: model_select
SELECT name, root, revision, state, reason, tensor_count, parameters, bytes, file_count,
       registered_ms, updated_ms
FROM models WHERE name = :name;
