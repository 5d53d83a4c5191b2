/* SPDX-License-Identifier: Apache-2.0 */
/* Bake-offs: rows of one transaction, what ends where, and what is next by the rows alone. */
#include "daemon/jobs/bakeoff_plan.h"
#include "daemon/store/store.h"
#include "src/base/base.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define REQUEST "{\"tasks\":[{\"name\":\"a\"},{\"name\":\"b\"}],\"sizes\":null}"

typedef struct fixture {
    char directory[64];
    store *store;
    char id[ID_BYTES];
} fixture;

#define GOOD                                                                                       \
    {                                                                                              \
        .name = "n", .base = "base", .specification = "{}", .labels = "{}"                         \
    }
static const didi_error needs = {.status = DIDI_INVALID, .message = "needs data"};
static const store_new_member members[] = {
    {.role = MEMBER_METHOD, .label = "one", .method = "average", .options = "{}", .job = GOOD},
    {.role = MEMBER_METHOD, .label = "two", .method = "cat", .options = "{}", .refused = &needs},
    {.role = MEMBER_SURVEY, .label = "three", .method = "didi", .options = "{}", .job = GOOD},
};
enum { MEMBERS = sizeof members / sizeof members[0] };

static int create(store *records, const store_new_member *rows, char ret_id[ID_BYTES],
                  didi_error *error)
{
    const store_new_bakeoff made = {.name = "bake",
                                    .request = REQUEST,
                                    .model_bytes = 1000,
                                    .members = rows,
                                    .member_count = MEMBERS};
    store_submit_outcome outcome;
    return store_bakeoff_create(records, &made, ret_id, &outcome, error);
}

static int setup(void **state)
{
    fixture *made = calloc(1, sizeof *made);
    didi_error error = {0};
    size_t count = 0;
    assert_non_null(made);
    snprintf(made->directory, sizeof made->directory, "/tmp/didid-bakeoffs-XXXXXX");
    assert_non_null(mkdtemp(made->directory));
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_OK);
    assert_int_equal(store_boot(made->store, "01h00000000000000000000000", &count, &error),
                     DIDI_OK);
    assert_int_equal(create(made->store, members, made->id, &error), DIDI_OK);
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

static size_t count_jobs(store *records)
{
    store_job *jobs = NULL;
    size_t count = 0;
    didi_error error = {0};
    const store_job_filter all = {0};
    assert_int_equal(store_job_list(records, &all, 100, &jobs, &count, NULL, &error), DIDI_OK);
    store_jobs_free(jobs, count);
    return count;
}

static bakeoff_view read_view(fixture *self)
{
    bakeoff_view view = {0};
    didi_error error = {0};
    assert_int_equal(store_bakeoff_get(self->store, self->id, &view.row, &error), DIDI_OK);
    assert_int_equal(
        store_bakeoff_members(self->store, self->id, &view.members, &view.member_count, &error),
        DIDI_OK);
    assert_int_equal(
        store_bakeoff_scores(self->store, self->id, &view.scores, &view.score_count, &error),
        DIDI_OK);
    view.request = json_load_own(view.row.request);
    return view;
}

static void free_view(bakeoff_view *view)
{
    store_bakeoff_clear(&view->row);
    store_members_free(view->members, view->member_count);
    store_scores_free(view->scores, view->score_count);
    json_decref(view->request);
}

static void end_next_job(store *records, double ratio)
{
    const store_result result = {.error = 0.5, .ratio = ratio, .bytes = (uint64_t)(ratio * 1000)};
    store_job job = {0};
    bool found = false;
    didi_error error = {0};
    assert_int_equal(store_job_claim(records, -100, &job, &found, &error), DIDI_OK);
    assert_true(found);
    assert_int_equal(store_job_succeed(records, job.id, job.attempt, &result, &error), DIDI_OK);
    store_job_clear(&job);
}

static void members_are_jobs_of_one_transaction(void **state)
{
    fixture *self = *state;
    bakeoff_view view = read_view(self);
    assert_int_equal(view.member_count, MEMBERS);
    assert_int_equal(count_jobs(self->store), 2);
    assert_string_equal(view.members[0].state, "queued");
    assert_string_equal(view.members[1].state, "refused");
    assert_string_equal(view.members[1].error_message, "needs data");
    assert_true(view.members[1].ended);
    store_job job = {0};
    didi_error error = {0};
    assert_int_equal(store_job_get(self->store, view.members[0].job_id, &job, &error), DIDI_OK);
    assert_string_equal(job.bakeoff, self->id);
    store_job_clear(&job);
    free_view(&view);
}

static void a_member_that_is_not_accepted_leaves_nothing(void **state)
{
    fixture *self = *state;
    store_new_member rows[MEMBERS];
    store_bakeoff *listed = NULL;
    size_t count = 0;
    char id[ID_BYTES];
    didi_error error = {0};
    memcpy(rows, members, sizeof rows);
    rows[2].job.active_max = 3; /* two are there, and one of its own */
    assert_int_equal(create(self->store, rows, id, &error), DIDI_CONFLICT);
    assert_string_equal(error.subject, "queued_jobs_max");
    assert_int_equal(count_jobs(self->store), 2);
    assert_int_equal(store_bakeoff_list(self->store, NULL, 10, &listed, &count, NULL, &error),
                     DIDI_OK);
    assert_int_equal(count, 1);
    store_bakeoffs_free(listed, count);
}

static void didi_gets_its_sizes_once_and_from_what_is_kept(void **state)
{
    fixture *self = *state;
    didi_error error = {0};
    store_new_member own = {
        .role = MEMBER_DIDI, .label = "didi", .method = "didi", .options = "{}", .job = GOOD};
    own.job.from_job = "01h00000000000000000000000"; /* is not there */
    assert_int_equal(store_bakeoff_size(self->store, self->id, &own, 1, &error), DIDI_NOT_FOUND);
    assert_int_equal(count_jobs(self->store), 2);
    own.job.from_job = NULL;
    assert_int_equal(store_bakeoff_size(self->store, self->id, &own, 1, &error), DIDI_OK);
    assert_int_equal(store_bakeoff_size(self->store, self->id, &own, 1, &error), DIDI_CONFLICT);
    assert_int_equal(count_jobs(self->store), 3);
}

static void what_is_next_is_told_by_the_rows(void **state)
{
    fixture *self = *state;
    didi_error error = {0};
    bakeoff_view view = read_view(self);
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_WAIT);
    free_view(&view);
    end_next_job(self->store, 1.5);
    end_next_job(self->store, 1.0);
    view = read_view(self);
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_WAIT); /* nothing was recorded */
    free_view(&view);
    assert_int_equal(store_bakeoff_record(self->store, self->id, &error), DIDI_OK);
    view = read_view(self);
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_SIZE);
    bakeoff_size sizes[LIMIT_BAKEOFF_SIZES];
    assert_int_equal(bakeoff_sizes(&view, sizes), 1);
    assert_int_equal(sizes[0].bytes, 1500);
    assert_false(bakeoff_is_done_with(&view, &view.members[0])); /* two scores are missing */
    assert_false(bakeoff_is_done_with(&view, &view.members[1])); /* it has no job */
    assert_false(bakeoff_is_done_with(&view, &view.members[2])); /* the survey is started from */
    assert_true(view.members[0].result.error > 0.49 && view.members[0].run_ms >= 0);
    free_view(&view);
    assert_int_equal(store_bakeoff_size(self->store, self->id, NULL, 0, &error), DIDI_OK);
    view = read_view(self);
    assert_true(bakeoff_is_done_with(&view, &view.members[2]));
    size_t member = 0;
    size_t task = 0;
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_WAIT);
    assert_true(bakeoff_find_unscored(&view, &member, &task));
    assert_int_equal(member, 0);
    free_view(&view);
    for (task = 0; task < 2; task++) {
        char name[2] = {(char)('a' + task), '\0'};
        const store_score score = {
            .number = 0, .task = name, .score = NAN, .cosine = 0.25, .length = 2};
        assert_int_equal(store_bakeoff_score(self->store, self->id, &score, &error), DIDI_OK);
    }
    view = read_view(self);
    assert_int_equal(view.score_count, 2);
    assert_true(bakeoff_is_done_with(&view, &view.members[0]));
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_END);
    free_view(&view);
}

static void a_job_that_was_deleted_is_a_failure(void **state)
{
    fixture *self = *state;
    didi_error error = {0};
    bakeoff_view view = read_view(self);
    end_next_job(self->store, 1.0);
    assert_int_equal(store_job_delete(self->store, view.members[0].job_id, &error), DIDI_OK);
    free_view(&view);
    assert_int_equal(store_bakeoff_record(self->store, self->id, &error), DIDI_OK);
    view = read_view(self);
    assert_string_equal(view.members[0].state, "failed");
    assert_false(view.members[0].has_job);
    free_view(&view);
}

static void sizes_are_not_nearly_alike(void **state)
{
    store_member rows[5] = {0};
    const double ratios[] = {1.04, 2.3, 1.0, 0.5, 1.06};
    bakeoff_size sizes[LIMIT_BAKEOFF_SIZES];
    bakeoff_view view = {.members = rows, .member_count = 5, .request = json_object()};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        rows[i].ended = true;
        rows[i].result.ratio = ratios[i];
        rows[i].result.bytes = (uint64_t)(1000 * ratios[i]);
        snprintf(rows[i].state, sizeof rows[i].state, "succeeded");
    }
    assert_int_equal(bakeoff_sizes(&view, sizes), 3);
    assert_int_equal(sizes[0].bytes, 500);
    assert_int_equal(sizes[1].bytes, 1000);
    assert_int_equal(sizes[2].bytes, 1060);
    json_object_set_new(view.request, "sizes", json_pack("[f, f]", 0.75, 0.74));
    view.row.model_bytes = 1000;
    assert_int_equal(bakeoff_sizes(&view, sizes), 2);
    assert_int_equal(sizes[0].bytes, 740);
    json_decref(view.request);
}

static void cancelling_reaches_every_job(void **state)
{
    fixture *self = *state;
    store_job job = {0};
    bool found = false;
    didi_error error = {0};
    assert_int_equal(store_job_claim(self->store, -100, &job, &found, &error), DIDI_OK);
    assert_int_equal(store_bakeoff_delete(self->store, self->id, &error), DIDI_CONFLICT);
    assert_int_equal(store_bakeoff_cancel(self->store, self->id, &error), DIDI_OK);
    bakeoff_view view = read_view(self);
    assert_true(view.row.cancel_requested);
    assert_string_equal(view.members[0].state, "running");
    assert_string_equal(view.members[2].state, "cancelled");
    free_view(&view);
    assert_int_equal(
        store_job_finish(self->store, job.id, job.attempt, JOB_CANCELLED, NULL, &error), DIDI_OK);
    assert_int_equal(store_bakeoff_record(self->store, self->id, &error), DIDI_OK);
    view = read_view(self);
    assert_int_equal(bakeoff_decide(&view), BAKEOFF_END);
    free_view(&view);
    assert_int_equal(store_bakeoff_move(self->store, self->id, JOB_CANCELLED, NULL, &error),
                     DIDI_OK);
    assert_int_equal(store_bakeoff_cancel(self->store, self->id, &error), DIDI_CONFLICT);
    assert_int_equal(store_bakeoff_delete(self->store, self->id, &error), DIDI_OK);
    assert_int_equal(store_bakeoff_delete(self->store, self->id, &error), DIDI_NOT_FOUND);
    store_job_clear(&job);
}

static void jobs_of_an_unfinished_one_do_not_expire(void **state)
{
    fixture *self = *state;
    char id[ID_BYTES];
    bool found = false;
    didi_error error = {0};
    end_next_job(self->store, 1.0);
    assert_int_equal(store_job_to_expire(self->store, INT64_MAX, 0, id, &found, &error), DIDI_OK);
    assert_false(found);
    assert_int_equal(store_bakeoff_move(self->store, self->id, JOB_FAILED, &needs, &error),
                     DIDI_OK);
    assert_int_equal(store_job_to_expire(self->store, INT64_MAX, 0, id, &found, &error), DIDI_OK);
    assert_true(found);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(members_are_jobs_of_one_transaction),
        ROW(a_member_that_is_not_accepted_leaves_nothing),
        ROW(didi_gets_its_sizes_once_and_from_what_is_kept),
        ROW(what_is_next_is_told_by_the_rows),
        ROW(a_job_that_was_deleted_is_a_failure),
        cmocka_unit_test(sizes_are_not_nearly_alike),
        ROW(cancelling_reaches_every_job),
        ROW(jobs_of_an_unfinished_one_do_not_expire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
