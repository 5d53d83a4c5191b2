/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator of bake-offs: on a pool thread it looks at the rows of those that have not ended,
 * and does what is next. It keeps nothing in memory, so that it goes on after a crash. */
#include "daemon/base/base.h"
#include "daemon/jobs/bakeoff_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MILLISECONDS = 5000, UNFINISHED_MAX = 256 };

struct bakery {
    atomic_bool open; /* some may not have ended */
    bool looking;     /* a pool thread looks at them */
    bool missed;      /* something ended meanwhile */
    bool again;       /* that thread did something others may wait for */
    int64_t next_ms;  /* when to look at them in any case */
};

/* ---- what came out of the rows ---- */

static void view_clear(bakeoff_view *self)
{
    store_bakeoff_clear(&self->row);
    json_decref(self->request);
    store_members_free(self->members, self->member_count);
    store_scores_free(self->scores, self->score_count);
}

static int view_read(scheduler *self, const char *id, bakeoff_view *ret_view, didi_error *error)
{
    bakeoff_view view = {0};
    int status = store_bakeoff_get(self->store, id, &view.row, error);
    if (status == DIDI_OK)
        status = store_bakeoff_members(self->store, id, &view.members, &view.member_count, error);
    if (status == DIDI_OK)
        status = store_bakeoff_scores(self->store, id, &view.scores, &view.score_count, error);
    if (status == DIDI_OK) {
        view.request = json_load_own(view.row.request);
        if (view.request == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a bake-off");
    }
    if (status != DIDI_OK)
        view_clear(&view);
    else
        *ret_view = view;
    return status;
}

/* ---- its steps ---- */

/* Whose job kept what didi found out; NULL: none did. */
static const char *find_survey(const bakeoff_view *view)
{
    for (size_t i = 0; i < view->member_count; i++)
        if (view->members[i].role == MEMBER_SURVEY && view->members[i].kept_bytes > 0)
            return view->members[i].job_id;
    return NULL;
}

static int add_sizes(scheduler *self, const bakeoff_view *view, const char *from_job,
                     didi_error *error)
{
    bakeoff_size sizes[LIMIT_BAKEOFF_SIZES];
    member_draft drafts[LIMIT_BAKEOFF_SIZES] = {0};
    store_new_member rows[LIMIT_BAKEOFF_SIZES] = {0};
    const size_t count = bakeoff_sizes(view, sizes);
    int status = DIDI_OK;
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        char label[64];
        (void)snprintf(label, sizeof label, SPECIFICATION_DEFAULT_METHOD " %.2fx", sizes[i].ratio);
        status = member_draft_read(
            &drafts[i], bakeoff_request_size(view->request, label, sizes[i].bytes, from_job),
            error);
        if (status != DIDI_OK)
            break;
        rows[i] = member_draft_row(&drafts[i], MEMBER_DIDI, "{}");
        rows[i].job.artifact_bytes = sizes[i].bytes;
        rows[i].job.artifact_bytes_max = self->config->artifact_bytes_max;
    }
    if (status == DIDI_OK)
        status = store_bakeoff_size(self->store, view->row.id, rows, count, error);
    for (size_t i = 0; i < count; i++)
        member_draft_clear(&drafts[i]);
    return status;
}

/* What the survey kept may have gone since. */
static int size_bakeoff(scheduler *self, const bakeoff_view *view, didi_error *error)
{
    const char *from_job = find_survey(view);
    int status = add_sizes(self, view, from_job, error);
    if (status == DIDI_NOT_FOUND && from_job != NULL)
        status = add_sizes(self, view, NULL, error);
    if (store_artifacts_over(error) && status == DIDI_CONFLICT)
        return store_bakeoff_move(self->store, view->row.id, JOB_FAILED, error, error);
    return status == DIDI_CONFLICT ? DIDI_OK : status; /* cancelled meanwhile */
}

/* Jobs that nothing needs go, unless they were asked to stay. True: some went. */
static bool drop_jobs(scheduler *self, const bakeoff_view *view)
{
    const bool keeps = json_is_true(json_object_get(view->request, "keep_artifacts"));
    bool any = false;
    for (size_t i = 0; i < view->member_count && !keeps; i++) {
        didi_error error = {0};
        const store_member *one = &view->members[i];
        if (bakeoff_is_done_with(view, one))
            any = scheduler_job_delete(self, one->job_id, &error) == DIDI_OK || any;
    }
    return any;
}

static int end_bakeoff(scheduler *self, const bakeoff_view *view, didi_error *error)
{
    didi_error why = {0};
    size_t succeeded = 0;
    const char *message = "";
    for (size_t i = 0; i < view->member_count; i++) {
        const store_member *one = &view->members[i];
        if (one->role == MEMBER_METHOD && strcmp(one->state, "succeeded") == 0)
            succeeded++;
        else if (one->role == MEMBER_METHOD && one->error_message != NULL)
            message = one->error_message;
    }
    if (!view->row.cancel_requested && succeeded == 0)
        didi_fail(&why, DIDI_INVALID, NULL, "no method gave a result: %s", message);
    const job_state state = view->row.cancel_requested ? JOB_CANCELLED
                            : why.status != DIDI_OK    ? JOB_FAILED
                                                       : JOB_SUCCEEDED;
    int status = store_bakeoff_move(self->store, view->row.id, state,
                                    why.status != DIDI_OK ? &why : NULL, error);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "bake-off ended", LOG_TEXT("bakeoff", view->row.id),
                 LOG_TEXT("outcome", job_state_name(state)));
    return status;
}

static bool has_begun(const bakeoff_view *view)
{
    bool begun = false;
    for (size_t i = 0; i < view->member_count; i++)
        begun =
            begun || (view->members[i].has_job && strcmp(view->members[i].state, "queued") != 0);
    return begun;
}

/* *ret_again: something was done that others may wait for. */
static int step_bakeoff(scheduler *self, const char *id, bool *ret_again, didi_error *error)
{
    bakeoff_view view = {0};
    int status = store_bakeoff_record(self->store, id, error);
    if (status == DIDI_OK)
        status = view_read(self, id, &view, error);
    if (status != DIDI_OK)
        return status;
    if (view.row.state == JOB_QUEUED && has_begun(&view))
        status = store_bakeoff_move(self->store, id, JOB_RUNNING, NULL, error);
    const bakeoff_next next = bakeoff_decide(&view);
    *ret_again = drop_jobs(self, &view) || next == BAKEOFF_SIZE;
    if (status == DIDI_OK)
        status = scorings_want(self, &view, ret_again, error);
    if (status == DIDI_OK && next == BAKEOFF_SIZE)
        status = size_bakeoff(self, &view, error);
    else if (status == DIDI_OK && next == BAKEOFF_END)
        status = end_bakeoff(self, &view, error);
    view_clear(&view);
    return status;
}

/* ---- looking ---- */

/* On a pool thread. */
static void look_work(void *context)
{
    scheduler *self = context;
    char(*ids)[ID_BYTES] = NULL;
    size_t count = 0;
    didi_error error = {0};
    atomic_store(&self->bakery->open, false);
    if (store_bakeoff_unfinished(self->store, "", UNFINISHED_MAX, &ids, &count, &error) != DIDI_OK)
        atomic_store(&self->bakery->open, true);
    for (size_t i = 0; i < count && !atomic_load(&self->stopping); i++) {
        bool again = false;
        didi_error why = {0};
        if (step_bakeoff(self, ids[i], &again, &why) != DIDI_OK)
            log_emit(LOG_LEVEL_ERROR, "a bake-off does not go on; will try again",
                     LOG_TEXT("bakeoff", ids[i]), LOG_TEXT("error", why.message));
        self->bakery->again = self->bakery->again || again;
        atomic_store(&self->bakery->open, true);
    }
    free(ids);
}

static void look_after(void *context)
{
    scheduler *self = context;
    self->bakery->looking = false;
    self->look = self->look || self->bakery->again;
    self->bakery->again = false;
    scorings_start(self);
    self->advance(self);
}

void bakery_look(scheduler *self)
{
    didi_error error = {0};
    if (self->bakery->looking) {
        self->bakery->missed = true;
        return;
    }
    if (!atomic_load(&self->bakery->open) || atomic_load(&self->stopping))
        return;
    self->bakery->missed = false;
    self->bakery->next_ms = clock_monotonic_ms() + LOOK_MILLISECONDS;
    self->bakery->looking = pool_task(self->pool, look_work, look_after, self, &error) == DIDI_OK;
}

void bakery_tick(scheduler *self)
{
    if (!self->bakery->looking &&
        (self->bakery->missed || clock_monotonic_ms() >= self->bakery->next_ms))
        bakery_look(self);
}

static void bakery_wake(scheduler *self)
{
    atomic_store(&self->bakery->open, true);
    scheduler_wake(self);
}

int bakery_create(scheduler *self, int state_fd, didi_error *error)
{
    self->bakery = memory_zeroed(1, sizeof *self->bakery);
    if (self->bakery == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    atomic_store(&self->bakery->open, true);
    return scorings_create(self, state_fd, error);
}

bool bakery_is_idle(const scheduler *self)
{
    return !self->bakery->looking && !scorings_run(self);
}

void bakery_free(scheduler *self)
{
    scorings_free(self);
    free(self->bakery);
    self->bakery = NULL;
}

/* ---- for the interface ---- */

int scheduler_bakeoff_cancel(scheduler *self, const char *id, didi_error *error)
{
    int status = store_bakeoff_cancel(self->store, id, error);
    if (status == DIDI_OK)
        bakery_wake(self);
    return status;
}

int scheduler_bakeoff_delete(scheduler *self, const char *id, didi_error *error)
{
    bakeoff_view view = {0};
    int status = view_read(self, id, &view, error);
    if (status != DIDI_OK)
        return status;
    const bool ended = view.row.finished_ms != 0;
    for (size_t i = 0; ended && i < view.member_count && status == DIDI_OK; i++)
        if (view.members[i].has_job)
            status = scheduler_job_delete(self, view.members[i].job_id, error);
    if (status == DIDI_OK)
        status = store_bakeoff_delete(self->store, id, error);
    view_clear(&view);
    return status;
}

int bakery_take(scheduler *self, const store_new_bakeoff *made, char ret_id[ID_BYTES],
                store_submit_outcome *ret_outcome, didi_error *error)
{
    int status = store_bakeoff_create(self->store, made, ret_id, ret_outcome, error);
    if (status == DIDI_OK)
        bakery_wake(self);
    return status;
}
