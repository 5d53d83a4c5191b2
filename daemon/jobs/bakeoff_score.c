/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of bake-offs, or what tells without data: a task of a member each, on a pool thread,
 * written when it is there; what a crash interrupts is done again. */
#include "daemon/base/base.h"
#include "daemon/jobs/bakeoff_internal.h"
#include "daemon/jobs/judge.h"
#include "daemon/jobs/storage.h"
#include "src/base/base.h"

#include <assert.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char folder[] = "scoring";

enum { SCORINGS_MAX = 64 };

/* A score that is missing. */
typedef struct scoring {
    struct scoring *next;
    scheduler *scheduler;
    char bakeoff[ID_BYTES], job[ID_BYTES]; /* no job: the base */
    uint64_t number;                       /* of the member */
    char *base, *task, *split;             /* `split` may be NULL */
    char *model;                           /* the fine-tune: measured without a scorer, else NULL */
    bool first;                            /* of the member's tasks */
    atomic_bool cancelled;
    unsigned place; /* below the folder */
    int status;
    double score;
    proxies measured;
    didi_error why;
} scoring;

struct scorings {
    const scorer *scorer; /* NULL: none */
    int state_fd, folder_fd;
    char *path; /* of the folder */
    scoring *wanted, *running;
    size_t wanted_count, running_count;
    unsigned places;
};

static void scoring_free(scoring *self)
{
    free(self->base);
    free(self->task);
    free(self->split);
    free(self->model);
    free(self);
}

int scorings_create(scheduler *owner, int state_fd, didi_error *error)
{
    struct scorings *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->state_fd = state_fd;
    self->folder_fd = -1;
    owner->scorings = self;
    return file_remove_tree(state_fd, folder, error); /* of a process that is gone */
}

int scheduler_set_scorer(scheduler *owner, const scorer *used, didi_error *error)
{
    struct scorings *self = owner->scorings;
    assert(self->scorer == NULL);
    if (used == NULL)
        return DIDI_OK;
    self->path = memory_format("%s/%s", owner->config->state_dir, folder);
    if (self->path == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->scorer = used;
    return file_open_directory(self->state_fd, folder, 1, &self->folder_fd, error);
}

static void forget_wanted(struct scorings *self)
{
    while (self->wanted != NULL) {
        scoring *first = self->wanted;
        self->wanted = first->next;
        scoring_free(first);
    }
    self->wanted_count = 0;
}

void scorings_free(scheduler *owner)
{
    struct scorings *self = owner->scorings;
    if (self == NULL)
        return;
    assert(self->running == NULL);
    forget_wanted(self);
    file_close(self->folder_fd);
    free(self->path);
    free(self);
    owner->scorings = NULL;
}

bool scorings_possible(const scheduler *owner)
{
    return owner->scorings->scorer != NULL;
}

bool scorings_run(const scheduler *owner)
{
    return owner->scorings->running != NULL;
}

/* ---- what is missing ---- */

static int want(scheduler *owner, const bakeoff_view *view, size_t member, size_t task,
                didi_error *error)
{
    struct scorings *self = owner->scorings;
    const store_member *one = &view->members[member];
    const json_t *tasks = json_object_get(view->request, "tasks");
    const char *split = json_string_value(json_object_get(view->request, "split"));
    scoring *made = memory_zeroed(1, sizeof *made);
    if (made == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    made->scheduler = owner;
    memcpy(made->bakeoff, view->row.id, ID_BYTES);
    memcpy(made->job, one->job_id, ID_BYTES);
    made->number = one->number;
    made->first = task == 0;
    made->base = memory_string(json_string_value(json_object_get(view->request, "base")));
    made->task =
        memory_string(json_string_value(json_object_get(json_array_get(tasks, task), "name")));
    made->split = split != NULL ? memory_string(split) : NULL;
    const json_t *model = json_object_get(json_array_get(tasks, task), "model");
    made->model = view->row.scored ? NULL : memory_string(json_string_value(model));
    if (made->base == NULL || made->task == NULL || (split != NULL && made->split == NULL) ||
        (!view->row.scored && made->model == NULL)) {
        scoring_free(made);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    scoring **link = &self->wanted;
    const bool first = strcmp(one->method, REFERENCE_METHOD) == 0; /* others are told by these */
    while (*link != NULL && !first)
        link = &(*link)->next;
    made->next = *link;
    *link = made;
    self->wanted_count++;
    return DIDI_OK;
}

/* Where the operator has taken the scorer away there will be none. */
static int give_up(scheduler *owner, const bakeoff_view *view, size_t member, size_t task,
                   didi_error *error)
{
    const json_t *tasks = json_object_get(view->request, "tasks");
    char message[] = "no scorer is configured any more";
    char *name =
        memory_string(json_string_value(json_object_get(json_array_get(tasks, task), "name")));
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    const store_score none = {.number = view->members[member].number,
                              .task = name,
                              .score = NAN,
                              .cosine = NAN,
                              .length = NAN,
                              .error = message};
    int status = store_bakeoff_score(owner->store, view->row.id, &none, error);
    free(name);
    return status;
}

int scorings_want(scheduler *owner, const bakeoff_view *view, bool *ret_again, didi_error *error)
{
    size_t member = 0;
    size_t task = 0;
    int status = DIDI_OK;
    for (; status == DIDI_OK && owner->scorings->wanted_count < SCORINGS_MAX &&
           bakeoff_find_unscored(view, &member, &task);
         task++) {
        if (owner->scorings->scorer != NULL || !view->row.scored) {
            status = want(owner, view, member, task, error);
        } else {
            status = give_up(owner, view, member, task, error);
            *ret_again = true;
        }
    }
    return status;
}

/* ---- one score ---- */

static int is_cancelled(void *context)
{
    scoring *self = context;
    return atomic_load(&self->scheduler->stopping) || atomic_load(&self->cancelled);
}

static int score_in(scoring *self, int holder_fd, const char *holder, didi_error *error)
{
    const scheduler *owner = self->scheduler;
    judge order = {.scorer = owner->scorings->scorer,
                   .split = self->split,
                   .roots = registry_roots(owner->models),
                   .base = self->base,
                   .max_shard_bytes = owner->config->max_shard_bytes,
                   .artifact_fd = -1,
                   .holder_fd = holder_fd,
                   .holder = holder,
                   .cancelled = is_cancelled,
                   .context = self};
    if (self->job[0] == '\0')
        return judge_model(&order, self->base, self->task, &self->score, error);
    int status = storage_open_package(self->scheduler, self->job, true, &order.artifact_fd, error);
    if (status == DIDI_OK)
        status = judge_task(&order, self->task, self->first, &self->score, error);
    file_close(order.artifact_fd);
    return status;
}

/* Without a scorer: what tells without data. */
static int measure(scoring *self, didi_error *error)
{
    const score_models models = {self->base, self->model, self->task};
    int fd = -1;
    int status = storage_open_package(self->scheduler, self->job, true, &fd, error);
    if (status == DIDI_OK)
        status = score_measure(registry_roots(self->scheduler->models), fd, &models, is_cancelled,
                               self, &self->measured, error);
    file_close(fd);
    return status;
}

/* In a place of its own below the folder, which is gone afterwards. */
static int score(scoring *self, didi_error *error)
{
    const struct scorings *all = self->scheduler->scorings;
    char place[32];
    int fd = -1;
    didi_error ignored = {0};
    (void)snprintf(place, sizeof place, "%u", self->place);
    char *holder = memory_format("%s/%s", all->path, place);
    int status = holder != NULL ? file_open_directory(all->folder_fd, place, 1, &fd, error)
                                : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = score_in(self, fd, holder, error);
    file_close(fd);
    (void)file_remove_tree(all->folder_fd, place, &ignored);
    free(holder);
    return status;
}

/* On a pool thread. */
static void score_work(void *context)
{
    scoring *self = context;
    const double began = clock_seconds();
    didi_error error = {0};
    self->score = self->measured.cosine = self->measured.length = NAN;
    self->status = is_cancelled(self)    ? DIDI_CANCELLED
                   : self->model != NULL ? measure(self, &self->why)
                                         : score(self, &self->why);
    if (self->status == DIDI_CANCELLED)
        return;
    const bool known = self->status == DIDI_OK;
    const store_score found = {.number = self->number,
                               .task = self->task,
                               .score = known ? self->score : NAN,
                               .cosine = known ? self->measured.cosine : NAN,
                               .length = known ? self->measured.length : NAN,
                               .error = known ? NULL : self->why.message,
                               .run_ms = (int64_t)((clock_seconds() - began) * 1000)};
    if (store_bakeoff_score(self->scheduler->store, self->bakeoff, &found, &error) != DIDI_OK)
        log_emit(LOG_LEVEL_ERROR, "cannot record a score; it will be made again",
                 LOG_TEXT("bakeoff", self->bakeoff), LOG_TEXT("error", error.message));
}

static void score_after(void *context)
{
    scoring *self = context;
    scheduler *owner = self->scheduler;
    scoring **link = &owner->scorings->running;
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    owner->scorings->running_count--;
    if (self->status != DIDI_OK && self->status != DIDI_CANCELLED)
        log_emit(LOG_LEVEL_WARNING, "a member of a bake-off has no score",
                 LOG_TEXT("bakeoff", self->bakeoff), LOG_TEXT("task", self->task),
                 LOG_TEXT("error", self->why.message));
    scoring_free(self);
    owner->look = true;
    owner->advance(owner);
}

static bool is_running(const struct scorings *self, const scoring *wanted)
{
    for (const scoring *one = self->running; one != NULL; one = one->next)
        if (one->number == wanted->number && strcmp(one->bakeoff, wanted->bakeoff) == 0 &&
            strcmp(one->task, wanted->task) == 0)
            return true;
    return false;
}

/* Merges go on beside scorers; when there are none, these have all threads. */
static size_t scorings_room(const scheduler *owner)
{
    const size_t workers = owner->config->workers;
    return owner->attempt_count == 0 || workers < 2 ? workers : workers / 2;
}

void scorings_start(scheduler *owner)
{
    struct scorings *self = owner->scorings;
    scoring **link = &self->wanted;
    const size_t room = scorings_room(owner);
    while (*link != NULL && self->running_count < room && !atomic_load(&owner->stopping) &&
           !atomic_load(&owner->disk_low)) {
        didi_error error = {0};
        scoring *one = *link;
        if (is_running(self, one)) {
            link = &one->next;
            continue;
        }
        one->place = self->places;
        if (pool_task(owner->pool, score_work, score_after, one, &error) != DIDI_OK)
            break;
        self->places++;
        *link = one->next;
        one->next = self->running;
        self->running = one;
        self->running_count++;
    }
    forget_wanted(self);
}

void scorings_check_cancel(scheduler *owner)
{
    for (scoring *one = owner->scorings->running; one != NULL; one = one->next) {
        store_bakeoff row = {0};
        didi_error error = {0};
        int status = store_bakeoff_get(owner->store, one->bakeoff, &row, &error);
        if (status == DIDI_NOT_FOUND || (status == DIDI_OK && row.cancel_requested))
            atomic_store(&one->cancelled, true);
        store_bakeoff_clear(&row);
    }
}
