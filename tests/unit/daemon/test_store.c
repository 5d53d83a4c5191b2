/* SPDX-License-Identifier: Apache-2.0 */
/* The store: acceptance, claims, moves, events, exports, refusal of foreign databases. */
#define STORE_SQL_QUERIES
#include "daemon/store/store.h"
#include "daemon/store/writer.h"
#include "src/base/file.h"
#include "store_sql.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

typedef struct fixture {
    char directory[64];
    store *store;
} fixture;

static int setup(void **state)
{
    fixture *made = calloc(1, sizeof *made);
    didi_error error = {0};
    assert_non_null(made);
    snprintf(made->directory, sizeof made->directory, "/tmp/didid-store-XXXXXX");
    assert_non_null(mkdtemp(made->directory));
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_OK);
    *state = made;
    return 0;
}

static int teardown(void **state)
{
    fixture *made = *state;
    didi_error error = {0};
    store_close(made->store);
    file_remove_tree(AT_FDCWD, made->directory, &error);
    free(made);
    return 0;
}

static void submit(store *records, int priority, char ret_id[ID_BYTES])
{
    const store_submission submission = {.name = "n",
                                         .base = "base",
                                         .specification = "{}",
                                         .labels = "{\"team\":\"a\"}",
                                         .priority = priority};
    store_submit_outcome outcome = STORE_SUBMIT_KEY_REUSED;
    didi_error error = {0};
    assert_int_equal(store_job_submit(records, &submission, ret_id, &outcome, &error), DIDI_OK);
    assert_int_equal(outcome, STORE_SUBMIT_CREATED);
}

static void boot(store *records, const char *boot_id, size_t expected)
{
    didi_error error = {0};
    size_t count = 99;
    assert_int_equal(store_boot(records, boot_id, &count, &error), DIDI_OK);
    assert_int_equal(count, expected);
}

static const char boot_a[] = "0000000000000000000000000a", boot_b[] = "0000000000000000000000000b";

static void test_claims_by_priority_then_age(void **state)
{
    fixture *made = *state;
    char ids[3][ID_BYTES];
    const int order[] = {1, 0, 2};
    didi_error error = {0};
    boot(made->store, boot_a, 0);
    submit(made->store, 0, ids[0]);
    submit(made->store, 5, ids[1]);
    submit(made->store, 0, ids[2]);
    assert_true(strcmp(ids[0], ids[1]) < 0 && strcmp(ids[1], ids[2]) < 0);
    for (size_t i = 0; i < 3; i++) {
        store_job job = {0};
        bool found = false;
        assert_int_equal(store_job_claim(made->store, INT_MIN, &job, &found, &error), DIDI_OK);
        assert_true(found);
        assert_string_equal(job.id, ids[order[i]]);
        assert_int_equal(job.state, JOB_RUNNING);
        assert_int_equal(job.attempt, 1);
        store_job_clear(&job);
    }
    store_job none = {0};
    bool found = true;
    assert_int_equal(store_job_claim(made->store, INT_MIN, &none, &found, &error), DIDI_OK);
    assert_false(found);
}

static void claim(store *records, store_job *ret_job)
{
    didi_error error = {0};
    bool found = false;
    assert_int_equal(store_job_claim(records, INT_MIN, ret_job, &found, &error), DIDI_OK);
    assert_true(found);
}

static void test_late_writes_match_no_row(void **state)
{
    fixture *made = *state;
    char id[ID_BYTES];
    store_job job = {0};
    didi_error error = {0};
    boot(made->store, boot_a, 0);
    submit(made->store, 0, id);
    claim(made->store, &job);
    store_job_clear(&job);
    boot(made->store, boot_b, 1);
    claim(made->store, &job);
    assert_int_equal(job.attempt, 2);
    assert_int_equal(store_job_finish(made->store, id, 1, JOB_SUCCEEDED, NULL, &error),
                     DIDI_CONFLICT);
    assert_int_equal(store_job_finish(made->store, id, 2, JOB_SUCCEEDED, NULL, &error), DIDI_OK);
    assert_int_equal(store_job_finish(made->store, id, 2, JOB_FAILED, NULL, &error), DIDI_CONFLICT);
    store_job_clear(&job);
    assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_OK);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    assert_true(job.progress == 1.0);
    store_job_clear(&job);
}

static void test_idempotency(void **state)
{
    fixture *made = *state;
    store_submission submission = {.name = "",
                                   .base = "b",
                                   .specification = "{}",
                                   .labels = "{}",
                                   .idempotency_key = "k",
                                   .body_digest = "d1"};
    char first[ID_BYTES];
    char again[ID_BYTES];
    store_submit_outcome outcome = STORE_SUBMIT_KEY_REUSED;
    didi_error error = {0};
    assert_int_equal(store_job_submit(made->store, &submission, first, &outcome, &error), DIDI_OK);
    assert_int_equal(outcome, STORE_SUBMIT_CREATED);
    assert_int_equal(store_job_submit(made->store, &submission, again, &outcome, &error), DIDI_OK);
    assert_int_equal(outcome, STORE_SUBMIT_REPLAYED);
    assert_string_equal(first, again);
    submission.body_digest = "d2";
    assert_int_equal(store_job_submit(made->store, &submission, again, &outcome, &error), DIDI_OK);
    assert_int_equal(outcome, STORE_SUBMIT_KEY_REUSED);
    submission.idempotency_key = NULL;
    submission.active_max = 1;
    assert_int_equal(store_job_submit(made->store, &submission, again, &outcome, &error),
                     DIDI_CONFLICT);
}

static job_state state_of(store *records, const char *id)
{
    store_job job = {0};
    didi_error error = {0};
    assert_int_equal(store_job_get(records, id, &job, &error), DIDI_OK);
    job_state state = job.state;
    store_job_clear(&job);
    return state;
}

static void test_cancel_retry_delete(void **state)
{
    fixture *made = *state;
    char id[ID_BYTES];
    store_job job = {0};
    didi_error error = {0};
    const didi_error why = {.status = DIDI_DISK_FULL, .message = "no room", .subject = "work"};
    boot(made->store, boot_a, 0);
    submit(made->store, 0, id);
    assert_int_equal(store_job_cancel(made->store, id, &error), DIDI_OK);
    assert_int_equal(state_of(made->store, id), JOB_CANCELLED);
    assert_int_equal(store_job_cancel(made->store, id, &error), DIDI_CONFLICT);
    assert_int_equal(store_job_retry(made->store, id, 0, &error), DIDI_OK);
    claim(made->store, &job);
    store_job_clear(&job);
    assert_int_equal(store_job_cancel(made->store, id, &error), DIDI_OK);
    assert_int_equal(state_of(made->store, id), JOB_RUNNING);
    assert_int_equal(store_job_delete(made->store, id, &error), DIDI_CONFLICT);
    assert_int_equal(store_job_finish(made->store, id, 1, JOB_FAILED, &why, &error), DIDI_OK);
    assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_OK);
    assert_string_equal(job.error_status, "disk_full");
    assert_string_equal(job.error_message, "no room");
    store_job_clear(&job);
    assert_int_equal(store_job_delete(made->store, id, &error), DIDI_OK);
    assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_NOT_FOUND);
    assert_int_equal(store_job_delete(made->store, id, &error), DIDI_NOT_FOUND);
}

static void test_events_number_without_holes_and_stop_at_the_limit(void **state)
{
    fixture *made = *state;
    char id[ID_BYTES];
    store_job job = {0};
    store_event *events = NULL;
    size_t count = 0;
    int64_t expected = 1;
    didi_error error = {0};
    boot(made->store, boot_a, 0);
    submit(made->store, 0, id);
    claim(made->store, &job);
    store_job_clear(&job);
    for (uint64_t i = 0; i < 6000; i++) {
        const store_event event = {.kind = "point",
                                   .stage = "refine",
                                   .step = i,
                                   .loss = NAN,
                                   .ratio = 1.5,
                                   .relative_error = NAN,
                                   .ratio_target = NAN,
                                   .seconds = 1};
        store_event_post(made->store, id, 1, &event);
        if (i % 500 == 0)
            assert_int_equal(store_check(made->store, &error), DIDI_OK);
    }
    assert_int_equal(store_job_finish(made->store, id, 1, JOB_CANCELLED, NULL, &error), DIDI_OK);
    for (int64_t after = 0;; after = expected - 1) {
        assert_int_equal(store_event_list(made->store, id, after, 1000, &events, &count, &error),
                         DIDI_OK);
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(events[i].number, expected++);
            if (strcmp(events[i].kind, "point") == 0) {
                assert_true(isnan(events[i].loss));
                assert_true(events[i].ratio == 1.5);
            }
        }
        store_events_free(events, count);
    }
    store_events_free(events, count);
    assert_true(expected > 1000 && expected <= STORE_EVENTS_PER_JOB_MAX + 1);
}

static void test_list_pages_and_filters(void **state)
{
    fixture *made = *state;
    char ids[5][ID_BYTES];
    store_job *jobs = NULL;
    size_t count = 0;
    bool more = false;
    didi_error error = {0};
    store_job_filter filter = {.label_key = "team", .label_value = "a"};
    const job_state running = JOB_RUNNING;
    for (size_t i = 0; i < 5; i++)
        submit(made->store, 0, ids[i]);
    assert_int_equal(store_job_list(made->store, &filter, 3, &jobs, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 3);
    assert_true(more);
    assert_string_equal(jobs[0].id, ids[4]);
    filter.before_id = ids[2];
    store_jobs_free(jobs, count);
    assert_int_equal(store_job_list(made->store, &filter, 3, &jobs, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 2);
    assert_false(more);
    store_jobs_free(jobs, count);
    filter.label_value = "b";
    assert_int_equal(store_job_list(made->store, &filter, 3, &jobs, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 0);
    store_jobs_free(jobs, count);
    filter = (store_job_filter){.state = &running};
    assert_int_equal(store_job_list(made->store, &filter, 3, &jobs, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 0);
    store_jobs_free(jobs, count);
}

static void test_exports(void **state)
{
    fixture *made = *state;
    char id[ID_BYTES];
    const char *const tasks[] = {"b", "a"};
    store_job job = {0};
    store_export one = {0};
    store_export *all = NULL;
    size_t count = 0;
    bool found = false;
    didi_error error = {0};
    boot(made->store, boot_a, 0);
    submit(made->store, 0, id);
    assert_int_equal(store_export_request(made->store, id, "full", 0, tasks, 2, &error),
                     DIDI_CONFLICT);
    claim(made->store, &job);
    store_job_clear(&job);
    assert_int_equal(store_job_finish(made->store, id, 1, JOB_SUCCEEDED, NULL, &error), DIDI_OK);
    assert_int_equal(store_export_request(made->store, id, "full", 0, tasks, 2, &error), DIDI_OK);
    assert_int_equal(store_export_request(made->store, id, "full", 0, tasks, 2, &error), DIDI_OK);
    assert_int_equal(store_export_list(made->store, id, &all, &count, &error), DIDI_OK);
    assert_int_equal(count, 2);
    assert_string_equal(all[0].task, "a");
    store_exports_free(all, count);
    assert_int_equal(store_export_claim(made->store, &one, &found, &error), DIDI_OK);
    assert_true(found);
    assert_string_equal(one.task, "b");
    assert_int_equal(store_job_delete(made->store, id, &error), DIDI_CONFLICT);
    boot(made->store, boot_b, 0);
    assert_int_equal(store_export_claim(made->store, &one, &found, &error), DIDI_OK);
    assert_string_equal(one.task, "b");
    assert_int_equal(store_export_finish(made->store, one.id, EXPORT_SUCCEEDED, 7, NULL, &error),
                     DIDI_OK);
    assert_int_equal(store_job_delete(made->store, id, &error), DIDI_OK);
}

/* Claims the oldest export; ends it well unless `id` is wanted. */
static uint64_t claim_export(store *from, char *ret_id)
{
    store_export one = {0};
    bool found = false;
    didi_error error = {0};
    assert_int_equal(store_export_claim(from, &one, &found, &error), DIDI_OK);
    assert_true(found);
    if (ret_id != NULL)
        memcpy(ret_id, one.id, sizeof one.id);
    else
        assert_int_equal(store_export_finish(from, one.id, EXPORT_SUCCEEDED, 7, NULL, &error),
                         DIDI_OK);
    return one.max_rank;
}

static void another_rank_is_exported_again(void **state)
{
    fixture *made = *state;
    const char *const tasks[] = {"a"};
    char id[ID_BYTES];
    char running[ID_BYTES];
    store_job job = {0};
    store_export *all = NULL;
    size_t count = 0;
    didi_error error = {0};
    store *from = made->store;
    boot(from, boot_a, 0);
    submit(from, 0, id);
    claim(from, &job);
    store_job_clear(&job);
    assert_int_equal(store_job_finish(from, id, 1, JOB_SUCCEEDED, NULL, &error), DIDI_OK);
    assert_int_equal(store_export_request(from, id, "peft", 64, tasks, 1, &error), DIDI_OK);
    assert_int_equal(claim_export(from, NULL), 64);
    /* the same is left as it is, another rank is not; a queued one takes the last rank */
    assert_int_equal(store_export_request(from, id, "peft", 64, tasks, 1, &error), DIDI_OK);
    assert_int_equal(store_export_list(from, id, &all, &count, &error), DIDI_OK);
    assert_int_equal(all[0].state, EXPORT_SUCCEEDED);
    store_exports_free(all, count);
    assert_int_equal(store_export_request(from, id, "peft", 0, tasks, 1, &error), DIDI_OK);
    assert_int_equal(store_export_request(from, id, "peft", 32, tasks, 1, &error), DIDI_OK);
    assert_int_equal(claim_export(from, running), 32);
    assert_int_equal(store_export_request(from, id, "peft", 32, tasks, 1, &error), DIDI_OK);
    assert_int_equal(store_export_request(from, id, "peft", 16, tasks, 1, &error), DIDI_CONFLICT);
    assert_non_null(strstr(error.message, "max_rank"));
    /* formats stand side by side */
    assert_int_equal(store_export_request(from, id, "peft-exact", 5, tasks, 1, &error), DIDI_OK);
    assert_int_equal(store_export_list(from, id, &all, &count, &error), DIDI_OK);
    assert_int_equal(count, 2);
    store_exports_free(all, count);
}

static void *submit_many(void *context)
{
    char id[ID_BYTES];
    for (int i = 0; i < 50; i++)
        submit(context, 0, id);
    return NULL;
}

static void test_threads(void **state)
{
    fixture *made = *state;
    pthread_t threads[4];
    store_job_filter queued = {.state = &(job_state){JOB_QUEUED}};
    store_job *jobs = NULL;
    size_t count = 0;
    bool more = true;
    didi_error error = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, made->store), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(store_job_list(made->store, &queued, 10, &jobs, &count, &more, &error),
                         DIDI_OK);
        store_jobs_free(jobs, count);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(store_job_list(made->store, &queued, 500, &jobs, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 200);
    store_jobs_free(jobs, count);
}

static void change_database(const fixture *made, const char *sql)
{
    char path[128];
    sqlite3 *connection = NULL;
    snprintf(path, sizeof path, "%s/didid.db", made->directory);
    assert_int_equal(sqlite3_open(path, &connection), SQLITE_OK);
    assert_int_equal(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(connection);
}

static int version_of(const fixture *made)
{
    char path[128];
    sqlite3 *connection = NULL;
    sqlite3_stmt *statement = NULL;
    snprintf(path, sizeof path, "%s/didid.db", made->directory);
    assert_int_equal(sqlite3_open(path, &connection), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(connection, "PRAGMA user_version", -1, &statement, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int version = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(connection);
    return version;
}

/* Or a row rebuilt from the id would tell another time. */
static void test_ids_tell_when_jobs_were_made(void **state)
{
    fixture *made = *state;
    didi_error error = {0};
    for (int i = 0; i < 100; i++) {
        store_job job = {0};
        char id[ID_BYTES];
        submit(made->store, 0, id);
        assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_OK);
        assert_int_equal(job.created_ms, id_milliseconds(id));
        store_job_clear(&job);
    }
}

static void test_newer_or_foreign_database_is_refused(void **state)
{
    fixture *made = *state;
    didi_error error = {0};
    char id[ID_BYTES];
    char newest[64];
    submit(made->store, 0, id);
    store_close(made->store);
    made->store = NULL;
    (void)snprintf(newest, sizeof newest, "PRAGMA user_version = %d", version_of(made));
    change_database(made, "PRAGMA user_version = 999");
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_CONFLICT);
    assert_non_null(strstr(error.message, "999"));
    change_database(made, "PRAGMA user_version = -1");
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_CONFLICT);
    change_database(made, "PRAGMA user_version = 0");
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_CONFLICT);
    change_database(made, newest);
    change_database(made, "PRAGMA application_id = 5");
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_CONFLICT);
    change_database(made, "PRAGMA application_id = 1684628585");
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_OK);
    store_job job = {0};
    assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_OK);
    store_job_clear(&job);
}

static void fetches_end_or_are_queued_again(void **state)
{
    fixture *made = *state;
    didi_error error = {0};
    char first[ID_BYTES];
    char second[ID_BYTES];
    char again[ID_BYTES];
    bool found = false;
    store_fetch row = {0};
    assert_int_equal(store_fetch_request(made->store, "a", "hf:a", first, &error), DIDI_OK);
    assert_int_equal(store_fetch_request(made->store, "a", "hf:a", again, &error), DIDI_OK);
    assert_string_equal(first, again);
    assert_int_equal(store_fetch_request(made->store, "b", "hf:b", second, &error), DIDI_OK);
    assert_int_equal(store_fetch_claim(made->store, &row, &found, &error), DIDI_OK);
    assert_true(found);
    assert_string_equal(row.id, first);
    store_fetch_clear(&row);
    assert_int_equal(store_fetch_progress(made->store, first, 3, 7, &error), DIDI_OK);
    assert_int_equal(store_fetch_boot(made->store, &error), DIDI_OK);
    assert_int_equal(store_fetch_claim(made->store, &row, &found, &error), DIDI_OK);
    assert_string_equal(row.id, first);
    store_fetch_clear(&row);
    const didi_error why = {.status = DIDI_IO, .message = "why"};
    assert_int_equal(store_fetch_finish(made->store, first, FETCH_FAILED, &why, &error), DIDI_OK);
    assert_int_equal(store_fetch_get(made->store, first, &row, &error), DIDI_OK);
    assert_int_equal(row.state, FETCH_FAILED);
    assert_int_equal(row.bytes_done, 3);
    assert_string_equal(row.error_message, "why");
    store_fetch_clear(&row);
    assert_int_equal(store_fetch_request(made->store, "a", "hf:a", again, &error), DIDI_OK);
    assert_string_not_equal(first, again);
    store_fetch *rows = NULL;
    size_t count = 0;
    bool more = false;
    assert_int_equal(store_fetch_list(made->store, NULL, 2, &rows, &count, &more, &error), DIDI_OK);
    assert_int_equal(count, 2);
    assert_true(more);
    assert_string_equal(rows[0].id, again);
    assert_string_equal(rows[1].id, second);
    store_fetches_free(rows, count);
    assert_int_equal(store_fetch_get(made->store, "none", &row, &error), DIDI_NOT_FOUND);
}

static void test_models(void **state)
{
    fixture *made = *state;
    char x[] = "b/x";
    char a[] = "a";
    char root[] = "/r";
    char one[] = "1";
    char reason[] = "bad";
    const store_model rows[2] = {
        {.name = x, .root = root, .revision = one, .state = MODEL_READY, .bytes = 10},
        {.name = a, .root = root, .revision = one, .state = MODEL_BROKEN, .reason = reason},
    };
    store_model *list = NULL;
    size_t count = 0;
    bool more = true;
    didi_error error = {0};
    assert_int_equal(store_model_replace(made->store, rows, 2, &error), DIDI_OK);
    assert_int_equal(store_model_list(made->store, NULL, 10, &list, &count, &more, &error),
                     DIDI_OK);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].name, "a");
    assert_string_equal(list[0].reason, "bad");
    store_models_free(list, count);
    assert_int_equal(store_model_replace(made->store, rows, 1, &error), DIDI_OK);
    store_model model = {0};
    assert_int_equal(store_model_get(made->store, "a", &model, &error), DIDI_NOT_FOUND);
    assert_int_equal(store_model_get(made->store, "b/x", &model, &error), DIDI_OK);
    assert_int_equal(model.bytes, 10);
    store_model_clear(&model);
}

static void kept_spectra_are_dropped_oldest_first(void **state)
{
    store *records = ((fixture *)*state)->store;
    char ids[3][ID_BYTES];
    char found_id[ID_BYTES] = {0};
    char child[ID_BYTES];
    store_job job = {0};
    didi_error error = {0};
    bool found = true, needed = false;
    store_submit_outcome outcome = STORE_SUBMIT_CREATED;
    store_submission submission = {.name = "n", .base = "b", .specification = "{}", .labels = "{}"};
    for (int i = 0; i < 3; i++) {
        submit(records, 0, ids[i]);
        assert_int_equal(store_job_claim(records, INT_MIN, &job, &found, &error), DIDI_OK);
        assert_int_equal(store_job_keep(records, ids[i], 2, 100, &error), DIDI_CONFLICT);
        assert_int_equal(store_job_keep(records, ids[i], 1, 100, &error), DIDI_OK);
        assert_int_equal(store_job_finish(records, ids[i], 1, JOB_SUCCEEDED, NULL, &error),
                         DIDI_OK);
        store_job_clear(&job);
    }
    submission.from_job = ids[0];
    assert_int_equal(store_job_submit(records, &submission, child, &outcome, &error), DIDI_OK);
    assert_int_equal(store_job_get(records, child, &job, &error), DIDI_OK);
    assert_string_equal(job.from_job, ids[0]);
    store_job_clear(&job);
    assert_int_equal(store_kept_shrink(records, 300, found_id, &found, &error), DIDI_OK);
    assert_false(found);
    /* The oldest is in use. */
    assert_int_equal(store_kept_shrink(records, 299, found_id, &found, &error), DIDI_OK);
    assert_true(found);
    assert_string_equal(found_id, ids[1]);
    submission.from_job = ids[1];
    assert_int_equal(store_job_submit(records, &submission, found_id, &outcome, &error),
                     DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "/from_job");
    assert_int_equal(store_job_delete(records, ids[0], &error), DIDI_OK);
    assert_int_equal(store_kept_is_needed(records, ids[0], &needed, &error), DIDI_OK);
    assert_true(needed);
    assert_int_equal(store_job_cancel(records, child, &error), DIDI_OK);
    assert_int_equal(store_kept_is_needed(records, ids[0], &needed, &error), DIDI_OK);
    assert_false(needed);
    assert_int_equal(store_kept_forget(records, ids[2], &error), DIDI_OK);
    assert_int_equal(store_kept_shrink(records, 0, found_id, &found, &error), DIDI_OK);
    assert_false(found);
}

/* An attempt that died between the move of its spectra and the row's word of them is made again. */
static void spectra_of_an_unfinished_job_are_needed(void **state)
{
    store *records = ((fixture *)*state)->store;
    char id[ID_BYTES];
    didi_error error = {0};
    bool needed = false;
    submit(records, 0, id);
    assert_int_equal(store_kept_is_needed(records, id, &needed, &error), DIDI_OK);
    assert_true(needed);
    assert_int_equal(store_job_cancel(records, id, &error), DIDI_OK);
    assert_int_equal(store_kept_is_needed(records, id, &needed, &error), DIDI_OK);
    assert_false(needed);
}

/* The writer stops at `first` until whoever waits lets it go on. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool reached, open;
} gate;

static int wait_at_gate(database *writer, void *argument, store_changes *changes, didi_error *error)
{
    gate *at = *(gate **)argument;
    (void)writer;
    (void)changes;
    (void)error;
    pthread_mutex_lock(&at->lock);
    at->reached = true;
    pthread_cond_broadcast(&at->moved);
    while (!at->open)
        pthread_cond_wait(&at->moved, &at->lock);
    pthread_mutex_unlock(&at->lock);
    return DIDI_OK;
}

/* As SQLite does by itself when it is out of memory or the disk is full. */
static int lose_transaction(database *writer, void *argument, store_changes *changes,
                            didi_error *error)
{
    (void)argument;
    (void)changes;
    assert_int_equal(database_run(writer, QUERY_TRANSACTION_ROLLBACK, NULL, error), DIDI_OK);
    return didi_fail(error, DIDI_NO_MEMORY, "didid.db", "out of memory");
}

static int rename_jobs(database *writer, void *argument, store_changes *changes, didi_error *error)
{
    (void)argument;
    (void)changes;
    (void)error;
    assert_int_equal(
        sqlite3_exec(writer->connection, "UPDATE jobs SET name = 'renamed'", NULL, NULL, NULL),
        SQLITE_OK);
    return DIDI_OK;
}

/* Later requests of the batch must not run on their own, outside any transaction: what is told to
 * have failed would be done. */
static void what_follows_a_lost_transaction_is_not_done(void **state)
{
    fixture *made = *state;
    gate at = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    gate **handed = malloc(sizeof(gate *));
    char id[ID_BYTES];
    store_job job = {0};
    didi_error error = {0};
    submit(made->store, 0, id);
    assert_non_null(handed);
    *handed = &at;
    store_post(made->store, wait_at_gate, handed, false);
    pthread_mutex_lock(&at.lock);
    while (!at.reached)
        pthread_cond_wait(&at.moved, &at.lock);
    pthread_mutex_unlock(&at.lock);
    store_post(made->store, lose_transaction, NULL, false); /* one batch with the next */
    store_post(made->store, rename_jobs, NULL, false);
    pthread_mutex_lock(&at.lock);
    at.open = true;
    pthread_cond_broadcast(&at.moved);
    pthread_mutex_unlock(&at.lock);
    (void)store_write(made->store, NULL, NULL, &error); /* fails when it is of that batch too */
    assert_int_equal(store_job_get(made->store, id, &job, &error), DIDI_OK);
    assert_string_equal(job.name, "n");
    store_job_clear(&job);
}

/* A column that a migration moved is told here, not by the first who runs the query. */
static void every_query_fits_the_schema(void **state)
{
    fixture *made = *state;
    char path[128];
    sqlite3 *connection = NULL;
    snprintf(path, sizeof path, "%s/didid.db", made->directory);
    assert_int_equal(sqlite3_open_v2(path, &connection, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    for (size_t i = 0; i < QUERY_COUNT; i++) {
        sqlite3_stmt *statement = NULL;
        if (sqlite3_prepare_v2(connection, store_query_texts[i], -1, &statement, NULL) != SQLITE_OK)
            fail_msg("%s: %s", sqlite3_errmsg(connection), store_query_texts[i]);
        sqlite3_finalize(statement);
    }
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_claims_by_priority_then_age),
        STORE_TEST(test_late_writes_match_no_row),
        STORE_TEST(test_idempotency),
        STORE_TEST(test_cancel_retry_delete),
        STORE_TEST(test_events_number_without_holes_and_stop_at_the_limit),
        STORE_TEST(test_list_pages_and_filters),
        STORE_TEST(test_exports),
        STORE_TEST(another_rank_is_exported_again),
        STORE_TEST(kept_spectra_are_dropped_oldest_first),
        STORE_TEST(spectra_of_an_unfinished_job_are_needed),
        STORE_TEST(test_threads),
        STORE_TEST(fetches_end_or_are_queued_again),
        STORE_TEST(test_newer_or_foreign_database_is_refused),
        STORE_TEST(test_ids_tell_when_jobs_were_made),
        STORE_TEST(test_models),
        STORE_TEST(what_follows_a_lost_transaction_is_not_done),
        STORE_TEST(every_query_fits_the_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
