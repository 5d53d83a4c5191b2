-- SPDX-License-Identifier: Apache-2.0
-- Every statement of the store, by name. Parameters are named; the C side binds by name.

-- What lists show of a job. {job_row} stands for it.
-- text: job_row
jobs.id, jobs.state, jobs.priority, jobs.name, jobs.base, jobs.labels, jobs.attempt,
       jobs.cancel_requested, jobs.stage, jobs.progress, jobs.error_status, jobs.error_subject,
       jobs.error_message, jobs.created_ms, jobs.updated_ms, jobs.started_ms, jobs.finished_ms,
       jobs.event_count, jobs.from_job, jobs.kept_bytes, jobs.method, jobs.task_count, jobs.budget,
       jobs.dtype, jobs.survey, jobs.result_error, jobs.result_ratio, jobs.result_bytes,
       jobs.ends_ms, jobs.traceparent, jobs.bakeoff

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
INSERT INTO jobs (id, state, priority, name, base, labels, idempotency_key, body_digest, from_job,
                  created_ms, updated_ms, method, task_count, budget, dtype, extends, survey,
                  artifact_bytes, traceparent, bakeoff)
VALUES (:id, 'queued', :priority, :name, :base, :labels, :idempotency_key, :body_digest, :from_job,
        :now, :now, coalesce(json_extract(:specification, '$.method'), 'didi'),
        coalesce(json_array_length(:specification, '$.tasks'), 0), :specification -> '$.budget',
        coalesce(json_extract(:specification, '$.output.dtype'), ''),
        json_extract(:specification, '$.extend.job'),
        coalesce(json_extract(:specification, '$.survey'), 0), :artifact_bytes, :traceparent,
        :bakeoff);

-- name: job_insert_specification
INSERT INTO job_specifications (job_id, specification) VALUES (:id, :specification);

-- name: job_insert_labels
INSERT INTO job_labels (key, value, job_id, state, method)
SELECT label.key, label.value, jobs.id, jobs.state, jobs.method
FROM jobs, json_each(jobs.labels) AS label
WHERE jobs.id = :id AND label.type = 'text';

-- A job that is known by its files alone.
-- name: job_rebuild
UPDATE jobs SET state = 'succeeded', attempt = 1, progress = 1.0,
    started_ms = :started, finished_ms = :finished, updated_ms = :now, event_count = 2,
    result_error = :result_error, result_ratio = :result_ratio, result_bytes = :result_bytes,
    artifact_bytes = NULL
WHERE id = :id;

-- name: job_by_idempotency_key
SELECT id, body_digest FROM jobs WHERE idempotency_key = :idempotency_key;

-- name: job_count_active
SELECT coalesce(sum(jobs), 0) FROM job_counts WHERE state IN ('queued', 'running');

-- name: job_running
SELECT id, name, stage, progress, attempt, started_ms, ends_ms
FROM jobs INDEXED BY jobs_by_state WHERE state = 'running' ORDER BY id LIMIT 1000;

-- name: job_newest_id
SELECT max(id) FROM jobs;

-- name: job_select
SELECT {job_row}, specification
FROM jobs JOIN job_specifications ON job_id = id WHERE id = :id;

-- Lists: one statement for each set of filters, each with its index.
-- name: job_list
SELECT {job_row} FROM jobs
WHERE id < :before_id
ORDER BY id DESC LIMIT :limit;

-- name: job_list_state
SELECT {job_row} FROM jobs
WHERE id < :before_id AND state = :state
ORDER BY id DESC LIMIT :limit;

-- name: job_list_method
SELECT {job_row} FROM jobs
WHERE id < :before_id AND method = :method
ORDER BY id DESC LIMIT :limit;

-- name: job_list_state_method
SELECT {job_row} FROM jobs
WHERE id < :before_id AND state = :state AND method = :method
ORDER BY id DESC LIMIT :limit;

-- name: job_list_label
SELECT {job_row} FROM job_labels AS label CROSS JOIN jobs ON jobs.id = label.job_id
WHERE label.key = :label_key AND label.value = :label_value AND label.job_id < :before_id
ORDER BY label.job_id DESC LIMIT :limit;

-- name: job_list_label_state
SELECT {job_row} FROM job_labels AS label CROSS JOIN jobs ON jobs.id = label.job_id
WHERE label.key = :label_key AND label.value = :label_value AND label.job_id < :before_id
  AND label.state = :state
ORDER BY label.job_id DESC LIMIT :limit;

-- name: job_list_label_method
SELECT {job_row} FROM job_labels AS label CROSS JOIN jobs ON jobs.id = label.job_id
WHERE label.key = :label_key AND label.value = :label_value AND label.job_id < :before_id
  AND label.method = :method
ORDER BY label.job_id DESC LIMIT :limit;

-- name: job_list_label_state_method
SELECT {job_row} FROM job_labels AS label CROSS JOIN jobs ON jobs.id = label.job_id
WHERE label.key = :label_key AND label.value = :label_value AND label.job_id < :before_id
  AND label.state = :state AND label.method = :method
ORDER BY label.job_id DESC LIMIT :limit;

-- name: job_state_after
SELECT id FROM jobs WHERE state = :state AND id > :after ORDER BY id LIMIT :limit;

-- 0 unknown, 1 known, 2 deleted
-- name: job_known
SELECT CASE WHEN EXISTS (SELECT 1 FROM jobs WHERE id = :id) THEN 1
            WHEN EXISTS (SELECT 1 FROM deleted_jobs WHERE job_id = :id) THEN 2 ELSE 0 END;

-- name: job_inspect
SELECT id, state, coalesce((SELECT json_valid(specification) FROM job_specifications
                            WHERE job_id = id), 0)
FROM jobs WHERE id > :after ORDER BY id LIMIT :limit;

-- name: job_cancelled_running
SELECT id FROM jobs WHERE state = 'running' AND cancel_requested = 1;

-- name: deleted_insert
INSERT OR IGNORE INTO deleted_jobs (job_id) VALUES (:id);

-- name: deleted_forget
DELETE FROM deleted_jobs WHERE job_id = :id;

-- name: deleted_list
SELECT job_id FROM deleted_jobs ORDER BY job_id;

-- name: commit_count_up
UPDATE store_facts SET commits = commits + 1 RETURNING commits;

-- name: facts_select
SELECT database_id, commits FROM store_facts;

-- name: job_counts_list
SELECT state, jobs, artifact_bytes FROM job_counts ORDER BY state;

-- Of jobs that succeeded, and of those that are still to end. sum() fails where it overflows.
-- name: artifact_totals
SELECT CAST(total(artifact_bytes) FILTER (WHERE state = 'succeeded') AS INTEGER),
       CAST(total(artifact_bytes) FILTER (WHERE state IN ('queued', 'running')) AS INTEGER)
FROM job_counts;

-- name: artifacts_unmeasured
SELECT id FROM jobs INDEXED BY jobs_not_measured
WHERE state = 'succeeded' AND artifact_bytes IS NULL AND id > :after ORDER BY id LIMIT :limit;

-- name: artifacts_measured
UPDATE jobs SET artifact_bytes = :bytes
WHERE id = :id AND state = 'succeeded' AND artifact_bytes IS NULL;

-- The oldest that finished before :before, or whichever where :all, and that nothing protects.
-- name: job_to_expire
SELECT id FROM jobs AS old
WHERE state IN ('succeeded', 'failed', 'cancelled') AND (:all OR finished_ms < :before)
  AND CASE WHEN json_valid(labels) THEN json_extract(labels, '$.keep') ELSE 'damaged' END IS NULL
  AND NOT EXISTS (SELECT 1 FROM exports
                  WHERE job_id = old.id AND exports.state IN ('queued', 'running'))
  AND NOT EXISTS (SELECT 1 FROM jobs AS later
                  WHERE later.state IN ('queued', 'running')
                    AND (later.from_job = old.id OR later.extends = old.id))
  AND NOT EXISTS (SELECT 1 FROM bakeoffs
                  WHERE bakeoffs.id = old.bakeoff AND bakeoffs.state IN ('queued', 'running'))
ORDER BY id LIMIT 1;

-- name: job_count_finished
SELECT count(*) FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled');

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
    ends_ms = NULL,
    result_error = :result_error,
    result_ratio = :result_ratio,
    result_bytes = :result_bytes,
    -- NULL: it could not be measured
    artifact_bytes = CASE WHEN :artifact_bytes >= 0 THEN :artifact_bytes
                          WHEN :to <> 'succeeded' THEN artifact_bytes END,
    events_dropped = 0,
    event_count = event_count + 1
WHERE id = :id
  AND state IN (SELECT value FROM json_each(:from))
  AND (:attempt = -1 OR attempt = :attempt)
RETURNING attempt, event_count;

-- name: job_request_cancel
UPDATE jobs SET cancel_requested = 1, updated_ms = :now WHERE id = :id AND state = 'running';

-- name: job_progress
UPDATE jobs SET stage = :stage, progress = :progress, ends_ms = :ends, updated_ms = :now
WHERE id = :id AND attempt = :attempt AND state = 'running';

-- name: pace_list
SELECT stage, work, seconds FROM paces WHERE method = :method AND kind = :kind
ORDER BY stage LIMIT :limit;

-- What came before counts less with each attempt.
-- name: pace_add
INSERT INTO paces (method, kind, stage, work, seconds)
VALUES (:method, :kind, :stage, :work, :seconds)
ON CONFLICT (method, kind, stage) DO UPDATE SET
    work = 0.7 * work + excluded.work, seconds = 0.7 * seconds + excluded.seconds;

-- name: job_of_other_boot
SELECT id FROM jobs
WHERE state = 'running' AND boot_id <> :boot_id ORDER BY id LIMIT 1;

-- name: job_delete
DELETE FROM jobs
WHERE id = :id AND state IN ('succeeded', 'failed', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM exports WHERE job_id = :id AND state = 'running')
  AND NOT EXISTS (SELECT 1 FROM jobs AS later WHERE later.state IN ('queued', 'running')
                    AND later.extends = :id);

-- name: job_extended_by
SELECT id FROM jobs WHERE extends = :id AND state IN ('queued', 'running') LIMIT 1;

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
SELECT EXISTS (SELECT 1 FROM jobs
               WHERE id = :id AND (kept_bytes > 0 OR state IN ('queued', 'running')))
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
       items_done, items_total, seconds, bytes_read, text,
       CASE kind WHEN 'state' THEN (SELECT traceparent FROM jobs WHERE jobs.id = :id) END
FROM events WHERE job_id = :id AND number > :after ORDER BY number LIMIT :limit;

-- The job that ended first, before :before, and still has all of its events.
-- name: event_job_to_thin
SELECT id FROM jobs INDEXED BY jobs_with_events
WHERE finished_ms IS NOT NULL AND events_dropped = 0 AND finished_ms < :before
ORDER BY finished_ms LIMIT 1;

-- name: event_thin
DELETE FROM events
WHERE job_id = :id AND kind <> 'state'
  AND number < (SELECT event_count FROM jobs WHERE jobs.id = :id);

-- name: event_thinned
UPDATE jobs SET events_dropped = 1 WHERE id = :id;

-- name: event_reach
SELECT state, event_count FROM jobs WHERE id = :id;

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
UPDATE exports SET state = 'queued', updated_ms = :now
WHERE id IN (SELECT id FROM exports WHERE state = 'running');

-- name: model_mark_absent
UPDATE models SET present = 0;

-- name: model_upsert
INSERT INTO models (name, root, revision, state, reason, tensor_count, parameters, bytes,
                    file_count, is_adapter, registered_ms, updated_ms)
VALUES (:name, :root, :revision, :state, :reason, :tensor_count, :parameters, :bytes, :file_count,
        :is_adapter, :now, :now)
ON CONFLICT (name) DO UPDATE SET
    root = excluded.root, revision = excluded.revision, state = excluded.state,
    reason = excluded.reason, tensor_count = excluded.tensor_count,
    parameters = excluded.parameters, bytes = excluded.bytes, file_count = excluded.file_count,
    is_adapter = excluded.is_adapter,
    updated_ms = CASE WHEN revision = excluded.revision AND state = excluded.state
                      THEN updated_ms ELSE excluded.updated_ms END,
    present = 1;

-- name: model_delete_absent
DELETE FROM models WHERE present = 0;

-- name: model_list
SELECT name, root, revision, state, reason, tensor_count, parameters, bytes, file_count,
       is_adapter, registered_ms, updated_ms
FROM models WHERE name > coalesce(:after, '') ORDER BY name LIMIT :limit;

-- name: model_select
SELECT name, root, revision, state, reason, tensor_count, parameters, bytes, file_count,
       is_adapter, registered_ms, updated_ms
FROM models WHERE name = :name;

-- name: fetch_newest_id
SELECT max(id) FROM fetches;

-- name: fetch_same
SELECT id FROM fetches
WHERE state IN ('queued', 'running') AND name = :name AND source = :source LIMIT 1;

-- name: fetch_insert
INSERT INTO fetches (id, name, source, state, created_ms, updated_ms)
VALUES (:id, :name, :source, 'queued', :now, :now);

-- Keeps the table short: the oldest of those that ended.
-- name: fetch_trim
DELETE FROM fetches WHERE id IN
    (SELECT id FROM fetches WHERE finished_ms IS NOT NULL ORDER BY id DESC
     LIMIT -1 OFFSET :most);

-- name: fetch_select
SELECT id, name, source, state, bytes_done, bytes_total, error_status, error_message, created_ms,
       updated_ms, finished_ms
FROM fetches WHERE id = :id;

-- name: fetch_list
SELECT id, name, source, state, bytes_done, bytes_total, error_status, error_message, created_ms,
       updated_ms, finished_ms
FROM fetches WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit;

-- name: fetch_claim
UPDATE fetches SET state = 'running', updated_ms = :now
WHERE id = (SELECT id FROM fetches WHERE state = 'queued' ORDER BY id LIMIT 1)
RETURNING id, name, source, state, bytes_done, bytes_total, error_status, error_message,
          created_ms, updated_ms, finished_ms;

-- name: fetch_progress
UPDATE fetches SET bytes_done = :done, bytes_total = :total, updated_ms = :now
WHERE id = :id AND state = 'running';

-- name: fetch_finish
UPDATE fetches SET state = :state, error_status = :error_status, error_message = :error_message,
    updated_ms = :now, finished_ms = CASE WHEN :state IN ('succeeded', 'failed') THEN :now END
WHERE id = :id AND state = 'running';

-- name: fetch_cancel
UPDATE fetches SET state = 'cancelled', updated_ms = :now, finished_ms = :now
WHERE id = :id AND state IN ('queued', 'running')
RETURNING id;

-- name: fetch_delete
DELETE FROM fetches WHERE id = :id AND finished_ms IS NOT NULL RETURNING id;

-- name: fetch_boot
UPDATE fetches SET state = 'queued', updated_ms = :now WHERE state = 'running';

-- name: upload_newest_id
SELECT max(id) FROM uploads;

-- name: webhook_newest_id
SELECT max(id) FROM (SELECT max(id) AS id FROM webhooks UNION ALL SELECT max(id) FROM deliveries);

-- name: webhook_count
SELECT count(*) FROM webhooks;

-- name: webhook_insert
INSERT INTO webhooks (id, url, description, events, labels, secret, enabled, created_ms, updated_ms)
VALUES (:id, :url, :description, :events, :labels, :secret, :enabled, :now, :now);

-- name: webhook_select
SELECT id, url, description, events, labels, secret, old_secret, old_secret_until, enabled,
       disabled_reason, failing_since_ms, queued, dropped, created_ms, updated_ms
FROM webhooks WHERE id = :id;

-- name: webhook_open
SELECT enabled, queued FROM webhooks WHERE id = :id;

-- name: webhook_list
SELECT id, url, description, events, labels, secret, old_secret, old_secret_until, enabled,
       disabled_reason, failing_since_ms, queued, dropped, created_ms, updated_ms
FROM webhooks WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit;

-- What is NULL, or below 0, stays. Who is enabled again begins without a past.
-- name: webhook_update
UPDATE webhooks SET
    url = coalesce(:url, url), description = coalesce(:description, description),
    events = coalesce(:events, events), labels = coalesce(:labels, labels),
    failing_since_ms = CASE WHEN :enabled = 1 AND enabled = 0 THEN NULL ELSE failing_since_ms END,
    disabled_reason = CASE WHEN :enabled < 0 THEN disabled_reason END,
    enabled = CASE WHEN :enabled < 0 THEN enabled ELSE :enabled END,
    updated_ms = :now
WHERE id = :id;

-- name: webhook_disable
UPDATE webhooks SET enabled = 0, disabled_reason = :reason, updated_ms = :now
WHERE id = :id AND enabled = 1;

-- name: webhook_rotate
UPDATE webhooks SET
    old_secret = CASE WHEN :until > :now THEN secret END,
    old_secret_until = CASE WHEN :until > :now THEN :until END,
    secret = :secret, updated_ms = :now
WHERE id = :id;

-- name: webhook_forget_old_secrets
UPDATE webhooks SET old_secret = NULL, old_secret_until = NULL WHERE old_secret_until <= :now;

-- name: webhook_delete
DELETE FROM webhooks WHERE id = :id;

-- name: webhook_any_enabled
SELECT EXISTS (SELECT 1 FROM webhooks WHERE enabled = 1);

-- Who hears of an event; an endpoint with labels hears of jobs that have all of them. A damaged row
-- hears of nothing, and stops nobody: json_each fails on what is not JSON.
-- name: webhook_hearing
SELECT id, queued FROM webhooks
WHERE enabled = 1
  AND (events = '[]'
       OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(events) THEN events ELSE '[]' END)
                  AS one WHERE one.value = :type))
  AND NOT EXISTS
      (SELECT 1 FROM json_each(CASE WHEN json_valid(webhooks.labels) THEN webhooks.labels
                                    ELSE '["damaged"]' END) AS wanted
       WHERE NOT EXISTS (SELECT 1 FROM json_each(:labels) AS label
                         WHERE label.key = wanted.key AND label.value = wanted.value))
ORDER BY id;

-- name: webhook_drop
UPDATE webhooks SET dropped = dropped + 1 WHERE id = :id RETURNING dropped;

-- name: webhook_answered
UPDATE webhooks SET
    failing_since_ms = CASE WHEN :succeeded THEN NULL ELSE coalesce(failing_since_ms, :now) END
WHERE id = :id AND (failing_since_ms IS NOT NULL OR NOT :succeeded);

-- name: delivery_insert
INSERT INTO deliveries (id, webhook_id, type, subject, body, state, due_ms, created_ms,
                        traceparent)
VALUES (:id, :webhook_id, :type, :subject, :body, 'queued',
        CASE WHEN EXISTS (SELECT 1 FROM deliveries AS earlier INDEXED BY deliveries_in_order
                          WHERE earlier.webhook_id = :webhook_id AND earlier.subject = :subject
                            AND earlier.state = 'queued') THEN NULL ELSE :now END,
        :now, :traceparent);

-- name: delivery_select
SELECT id, webhook_id, type, subject, body, state, due_ms, attempts, attempts_all, created_ms,
       sent_ms, finished_ms, duration_ms, http_status, answer, error, traceparent
FROM deliveries WHERE id = :id AND webhook_id = :webhook_id;

-- name: delivery_list
SELECT id, webhook_id, type, subject, body, state, due_ms, attempts, attempts_all, created_ms,
       sent_ms, finished_ms, duration_ms, http_status, answer, error, traceparent
FROM deliveries
WHERE webhook_id = :webhook_id AND id < coalesce(:before, '~') ORDER BY id DESC LIMIT :limit;

-- name: delivery_list_of_state
SELECT id, webhook_id, type, subject, body, state, due_ms, attempts, attempts_all, created_ms,
       sent_ms, finished_ms, duration_ms, http_status, answer, error, traceparent
FROM deliveries
WHERE webhook_id = :webhook_id AND state = :state AND id < coalesce(:before, '~')
ORDER BY id DESC LIMIT :limit;

-- The first few of each endpoint, so that none waits for another.
-- name: delivery_due
SELECT delivery.id, delivery.webhook_id, type, subject, body, delivery.state, due_ms, attempts,
       attempts_all, delivery.created_ms, sent_ms, finished_ms, duration_ms, http_status, answer,
       error, traceparent
FROM webhooks AS endpoint CROSS JOIN deliveries AS delivery ON delivery.id IN
    (SELECT id FROM deliveries AS due INDEXED BY deliveries_due
     WHERE due.webhook_id = endpoint.id AND due.state = 'queued' AND due.due_ms <= :now
     ORDER BY due.due_ms, due.id LIMIT :each)
WHERE endpoint.enabled = 1
ORDER BY due_ms, delivery.id LIMIT :limit;

-- name: delivery_next_due
SELECT min((SELECT min(due_ms) FROM deliveries AS later INDEXED BY deliveries_due
            WHERE later.webhook_id = endpoint.id AND later.state = 'queued'
              AND later.due_ms > :now))
FROM webhooks AS endpoint WHERE endpoint.enabled = 1;

-- One that waits behind another meanwhile goes on waiting.
-- name: delivery_answered
UPDATE deliveries SET
    state = :state,
    due_ms = CASE WHEN :state = 'queued' AND due_ms IS NOT NULL THEN :due_ms END,
    attempts = attempts + 1, attempts_all = attempts_all + 1,
    sent_ms = :sent_ms, duration_ms = :now - :sent_ms, http_status = nullif(:http_status, 0),
    answer = :answer, error = :error,
    finished_ms = CASE WHEN :state <> 'queued' THEN :now END
WHERE id = :id AND state = 'queued'
RETURNING webhook_id, subject;

-- The first of a subject that waited behind what ended.
-- name: delivery_release
UPDATE deliveries SET due_ms = :now
WHERE id = (SELECT id FROM deliveries INDEXED BY deliveries_in_order
            WHERE webhook_id = :webhook_id AND subject = :subject AND state = 'queued'
            ORDER BY id LIMIT 1)
  AND due_ms IS NULL;

-- All but the first of a subject wait.
-- name: delivery_hold
UPDATE deliveries INDEXED BY deliveries_in_order SET due_ms = NULL
WHERE webhook_id = :webhook_id AND subject = :subject AND state = 'queued' AND due_ms IS NOT NULL
  AND id > (SELECT min(id) FROM deliveries AS first INDEXED BY deliveries_in_order
            WHERE first.webhook_id = :webhook_id AND first.subject = :subject
              AND first.state = 'queued');

-- name: delivery_again
UPDATE deliveries SET state = 'queued', due_ms = NULL, attempts = 0, finished_ms = NULL
WHERE id = :id AND webhook_id = :webhook_id
RETURNING webhook_id, subject;

-- Waiting for an endpoint that is disabled, for too long.
-- name: delivery_expire
UPDATE deliveries SET state = 'failed', due_ms = NULL, finished_ms = :now,
    error = 'the endpoint was disabled for longer than webhook_keep_days'
WHERE state = 'queued' AND created_ms < :before
  AND webhook_id IN (SELECT id FROM webhooks WHERE enabled = 0);

-- name: delivery_trim_old
DELETE FROM deliveries WHERE id IN
    (SELECT id FROM deliveries WHERE state <> 'queued' AND finished_ms < :before
     ORDER BY finished_ms LIMIT :limit);

-- name: delivery_trim_many
DELETE FROM deliveries WHERE id IN
    (SELECT id FROM deliveries WHERE state <> 'queued' ORDER BY finished_ms DESC, id DESC
     LIMIT :limit OFFSET :most);

-- name: model_before
SELECT state, revision FROM models WHERE name = :name;
-- name: hook_select
SELECT name, document, secret, created_ms, updated_ms FROM hooks WHERE name = :name;

-- name: hook_list
SELECT name, document, secret, created_ms, updated_ms
FROM hooks WHERE name > coalesce(:after, '') ORDER BY name LIMIT :limit;

-- name: hook_count
SELECT count(*) FROM hooks;

-- name: hook_insert
INSERT INTO hooks (name, document, secret, created_ms, updated_ms)
VALUES (:name, :document, :secret, :now, :now);

-- name: hook_update
UPDATE hooks SET document = :document, secret = coalesce(:secret, secret), updated_ms = :now
WHERE name = :name;

-- name: hook_delete
DELETE FROM hooks WHERE name = :name RETURNING name;

-- name: hook_delivery_newest_id
SELECT max(id) FROM hook_deliveries;

-- name: hook_delivery_same
SELECT id FROM hook_deliveries WHERE hook = :hook AND key = :key;

-- The same told by the other way, webhook or poll, not before :since.
-- name: hook_delivery_told
SELECT id FROM hook_deliveries
WHERE hook = :hook AND subject = :subject AND origin <> :origin AND created_ms >= :since
ORDER BY id DESC LIMIT 1;

-- name: hook_delivery_insert
INSERT INTO hook_deliveries (id, hook, key, subject, delivery, origin, state, rule, reason,
                             excerpt, work, next_ms, created_ms, finished_ms)
VALUES (:id, :hook, :key, :subject, :delivery, :origin, :state, :rule, :reason, :excerpt, :work,
        :now, :now, CASE WHEN :state IN ('ignored', 'failed') THEN :now END);

-- Keeps the log short: the oldest of those that ended.
-- name: hook_delivery_trim
DELETE FROM hook_deliveries WHERE id IN
    (SELECT id FROM hook_deliveries INDEXED BY hook_deliveries_list
     WHERE hook = :hook AND state IN ('done', 'ignored', 'failed') ORDER BY id DESC
     LIMIT -1 OFFSET :most);

-- name: hook_delivery_select
SELECT d.id, d.hook, d.delivery, d.origin, d.state, d.rule, d.job_id, d.fetch_id, d.reason,
       d.excerpt, d.work, d.attempts, d.created_ms, d.finished_ms, r.state, r.model, r.version,
       r.error
FROM hook_deliveries AS d LEFT JOIN hook_registrations AS r ON r.job_id = d.job_id
WHERE d.id = :id;

-- name: hook_delivery_list
SELECT d.id, d.hook, d.delivery, d.origin, d.state, d.rule, d.job_id, d.fetch_id, d.reason,
       d.excerpt, d.work, d.attempts, d.created_ms, d.finished_ms, r.state, r.model, r.version,
       r.error
FROM hook_deliveries AS d LEFT JOIN hook_registrations AS r ON r.job_id = d.job_id
WHERE d.hook = :hook AND d.id < coalesce(:before, '~') ORDER BY d.id DESC LIMIT :limit;

-- name: hook_delivery_due
SELECT d.id, d.hook, d.delivery, d.origin, d.state, d.rule, d.job_id, d.fetch_id, d.reason,
       d.excerpt, d.work, d.attempts, d.created_ms, d.finished_ms, NULL, NULL, NULL, NULL
FROM hook_deliveries AS d
WHERE d.state IN ('pending', 'waiting') AND d.next_ms <= :now ORDER BY d.next_ms, d.id LIMIT 1;

-- name: hook_delivery_next
SELECT min(next_ms) FROM hook_deliveries WHERE state IN ('pending', 'waiting');

-- name: hook_delivery_move
UPDATE hook_deliveries SET
    state = :state, job_id = coalesce(:job, job_id), fetch_id = coalesce(:fetch, fetch_id),
    reason = :reason, attempts = attempts + :attempt, next_ms = :next,
    work = CASE WHEN :state IN ('pending', 'waiting') THEN work END,
    finished_ms = CASE WHEN :state IN ('pending', 'waiting') THEN NULL ELSE :now END
WHERE id = :id AND state IN ('pending', 'waiting');

-- name: hook_poll_select
SELECT seen, checked_ms, due_ms, error FROM hook_polls WHERE hook = :hook AND source = :source;

-- name: hook_poll_put
INSERT INTO hook_polls (hook, source, seen, checked_ms, due_ms, error)
SELECT name, :source, :seen, :now, :now + :interval, :error FROM hooks WHERE name = :hook
ON CONFLICT (hook, source) DO UPDATE SET
    seen = coalesce(excluded.seen, seen), checked_ms = excluded.checked_ms,
    due_ms = excluded.due_ms, error = excluded.error;

-- name: hook_poll_hurry
UPDATE hook_polls SET due_ms = 0 WHERE hook = :hook;

-- name: hook_registration_insert
INSERT INTO hook_registrations (job_id, hook, model, experiment, state, next_ms, created_ms,
                                updated_ms)
VALUES (:job, :hook, :model, :experiment, 'waiting', :now, :now, :now)
ON CONFLICT (job_id) DO NOTHING;

-- name: hook_registration_due
SELECT r.job_id, r.hook, r.model, r.experiment, r.attempts, j.name
FROM hook_registrations AS r JOIN jobs AS j ON j.id = r.job_id
WHERE r.state = 'waiting' AND r.next_ms <= :now AND j.state = 'succeeded'
ORDER BY r.next_ms LIMIT 1;

-- name: hook_registration_move
UPDATE hook_registrations SET state = :state, attempts = attempts + 1, next_ms = :next,
    version = :version, error = :error, updated_ms = :now
WHERE job_id = :job AND state = 'waiting';

-- Keeps the table short: the oldest of those that ended, and what waits for jobs that are gone.
-- name: hook_registration_trim
DELETE FROM hook_registrations
WHERE job_id NOT IN (SELECT id FROM jobs)
   OR job_id IN (SELECT job_id FROM hook_registrations WHERE state IN ('done', 'failed')
                 ORDER BY job_id DESC LIMIT -1 OFFSET :most);
-- name: token_newest_id
SELECT max(id) FROM tokens;

-- name: token_count
SELECT count(*) FROM tokens;

-- name: token_insert
INSERT INTO tokens (id, name, hash, scope, created_by, created_ms, expires_ms)
VALUES (:id, :name, :hash, :scope, :created_by, :now, nullif(:expires, 0));

-- name: token_select
SELECT id, name, hash, scope, created_by, created_ms, expires_ms, used_ms
FROM tokens WHERE id = :id;

-- name: token_list
SELECT id, name, hash, scope, created_by, created_ms, expires_ms, used_ms
FROM tokens WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit;

-- name: token_delete
DELETE FROM tokens WHERE id = :id RETURNING id;

-- name: token_used
UPDATE tokens SET used_ms = max(coalesce(used_ms, 0), :now) WHERE id = :id;

-- name: upload_insert
INSERT INTO uploads (id, name, client, bytes, files, state, created_ms, updated_ms)
VALUES (:id, :name, :client, :bytes, :files, 'open', :now, :now);

-- name: upload_named
SELECT id FROM uploads WHERE name = :name;

-- name: upload_count
SELECT count(*) FROM uploads WHERE state <> 'committed';

-- name: upload_total
SELECT coalesce(sum(bytes), 0) FROM uploads WHERE :client IS NULL OR client = :client;

-- name: upload_select
SELECT id, name, client, bytes, files, state, created_ms, updated_ms FROM uploads WHERE id = :id;

-- name: upload_list
SELECT id, name, client, bytes, files, state, created_ms, updated_ms FROM uploads
WHERE id < coalesce(:before, '~') ORDER BY id DESC LIMIT :limit;

-- name: upload_move
UPDATE uploads SET state = :state, updated_ms = :now WHERE id = :id RETURNING id;

-- name: upload_delete
DELETE FROM uploads WHERE id = :id RETURNING id;

-- An unfinished job that names the model, in whatever revision.
-- name: upload_model_used
SELECT jobs.id
FROM jobs JOIN (SELECT job_id, CASE WHEN json_valid(specification) THEN specification ELSE '{}' END
                               AS text FROM job_specifications) AS wanted ON wanted.job_id = jobs.id
WHERE jobs.state IN ('queued', 'running')
  AND (json_extract(wanted.text, '$.base') = :name
       OR substr(json_extract(wanted.text, '$.base'), 1, length(:name) + 1) = :name || '@'
       OR EXISTS (SELECT 1 FROM json_each(wanted.text, '$.tasks') AS task
                  WHERE CASE task.type WHEN 'object' THEN
                        json_extract(task.value, '$.model') = :name
                        OR substr(json_extract(task.value, '$.model'), 1, length(:name) + 1)
                           = :name || '@' END))
LIMIT 1;

-- text: bakeoff_row
bakeoffs.id, bakeoffs.name, bakeoffs.request, bakeoffs.state, bakeoffs.sized, bakeoffs.scored,
       bakeoffs.model_bytes, bakeoffs.cancel_requested, bakeoffs.error_status,
       bakeoffs.error_message, bakeoffs.created_ms, bakeoffs.updated_ms, bakeoffs.finished_ms,
       (SELECT count(*) FROM bakeoff_members WHERE bakeoff_id = bakeoffs.id),
       (SELECT count(*) FROM bakeoff_members WHERE bakeoff_id = bakeoffs.id
                                               AND bakeoff_members.state IS NOT NULL)

-- name: bakeoff_newest_id
SELECT max(id) FROM bakeoffs;

-- name: bakeoff_by_idempotency_key
SELECT id, body_digest FROM bakeoffs WHERE idempotency_key = :idempotency_key;

-- name: bakeoff_insert
INSERT INTO bakeoffs (id, name, request, state, scored, model_bytes, idempotency_key, body_digest,
                      created_ms, updated_ms)
VALUES (:id, :name, :request, 'queued', :scored, :model_bytes, :idempotency_key, :body_digest, :now,
        :now);

-- name: bakeoff_insert_member
INSERT INTO bakeoff_members (bakeoff_id, number, role, label, method, options, job_id, state,
                             error_status, error_message)
VALUES (:id, (SELECT count(*) FROM bakeoff_members WHERE bakeoff_id = :id), :role, :label, :method,
        :options, :job_id,
        CASE WHEN :role = 'base' THEN 'succeeded' WHEN :job_id IS NULL THEN 'refused' END,
        :error_status, :error_message);

-- name: bakeoff_select
SELECT {bakeoff_row} FROM bakeoffs WHERE id = :id;

-- name: bakeoff_list
SELECT {bakeoff_row} FROM bakeoffs
WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit;

-- name: bakeoff_unfinished
SELECT id FROM bakeoffs INDEXED BY bakeoffs_unfinished
WHERE state IN ('queued', 'running') AND id > :after ORDER BY id LIMIT :limit;

-- As it stands: of a job that has not ended what the job says.
-- name: bakeoff_member_list
SELECT m.number, m.role, m.label, m.method, m.options, m.job_id,
       coalesce(m.state, jobs.state, 'failed'), m.state IS NOT NULL, jobs.id IS NOT NULL,
       coalesce(jobs.progress, m.state IS NOT NULL), m.result_error, m.result_ratio, m.result_bytes,
       m.run_ms, m.error_status, m.error_message, coalesce(jobs.kept_bytes, 0)
FROM bakeoff_members AS m LEFT JOIN jobs ON jobs.id = m.job_id
WHERE m.bakeoff_id = :id ORDER BY m.number LIMIT :limit;

-- name: bakeoff_score_list
SELECT number, task, score, cosine, length, error, run_ms FROM bakeoff_scores
WHERE bakeoff_id = :id ORDER BY number, task LIMIT :limit;

-- name: bakeoff_record
UPDATE bakeoff_members AS m SET
    (state, result_error, result_ratio, result_bytes, run_ms, error_status, error_message) =
    (SELECT jobs.state, jobs.result_error, jobs.result_ratio, jobs.result_bytes,
            jobs.finished_ms - jobs.started_ms, jobs.error_status, jobs.error_message
     FROM jobs WHERE jobs.id = m.job_id)
WHERE m.bakeoff_id = :id AND m.state IS NULL
  AND (SELECT state FROM jobs WHERE jobs.id = m.job_id) IN ('succeeded', 'failed', 'cancelled');

-- name: bakeoff_record_gone
UPDATE bakeoff_members AS m SET state = 'failed', error_status = 'not_found',
    error_message = 'its job was deleted before it ended here'
WHERE m.bakeoff_id = :id AND m.state IS NULL
  AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = m.job_id);

-- name: bakeoff_score_put
INSERT INTO bakeoff_scores (bakeoff_id, number, task, score, cosine, length, error, run_ms)
VALUES (:id, :number, :task, :score, :cosine, :length, :error, :run_ms)
ON CONFLICT (bakeoff_id, number, task) DO UPDATE SET
    score = excluded.score, cosine = excluded.cosine, length = excluded.length,
    error = excluded.error, run_ms = excluded.run_ms;

-- name: bakeoff_size
UPDATE bakeoffs SET sized = 1, updated_ms = :now
WHERE id = :id AND sized = 0 AND cancel_requested = 0 AND state IN ('queued', 'running')
RETURNING id;

-- name: bakeoff_move
UPDATE bakeoffs SET state = :to, error_status = :error_status, error_message = :error_message,
    updated_ms = :now,
    finished_ms = CASE WHEN :to IN ('succeeded', 'failed', 'cancelled') THEN :now END
WHERE id = :id AND state IN ('queued', 'running') AND state <> :to
RETURNING id;

-- name: bakeoff_request_cancel
UPDATE bakeoffs SET cancel_requested = 1, updated_ms = :now
WHERE id = :id AND state IN ('queued', 'running')
RETURNING id;

-- name: bakeoff_delete
DELETE FROM bakeoffs WHERE id = :id AND state IN ('succeeded', 'failed', 'cancelled')
RETURNING id;

-- name: bakeoff_job_unfinished
SELECT id FROM jobs WHERE id IN (SELECT job_id FROM bakeoff_members WHERE bakeoff_id = :id)
  AND (state = 'queued' OR (state = 'running' AND cancel_requested = 0))
ORDER BY id LIMIT 1;

-- Keeps the table short: the oldest of those that ended.
-- name: bakeoff_trim
DELETE FROM bakeoffs WHERE id IN
    (SELECT id FROM bakeoffs WHERE finished_ms IS NOT NULL ORDER BY id DESC
     LIMIT -1 OFFSET :most);
