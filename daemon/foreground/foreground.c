/* SPDX-License-Identifier: Apache-2.0 */
/* A merge in the foreground.
 *
 * All files are made in a hidden directory beside the output; one rename at the end publishes
 * artifacts and exports together. */
#include "daemon/foreground/foreground.h"

#include "daemon/base/base.h"
#include "daemon/foreground/arguments.h"
#include "daemon/foreground/display.h"
#include "daemon/foreground/extend.h"
#include "daemon/foreground/places.h"
#include "daemon/foreground/scoring.h"
#include "daemon/foreground/tuning.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "src/base/base.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FOREGROUND_EXIT_FAILED = 1,
    FOREGROUND_EXIT_INTERRUPTED = 130,
    FOREGROUND_DRAW_MILLISECONDS = 100,
};

typedef struct foreground {
    const arguments *given;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t signals[2];
    model_roots *roots;
    specification *specification;
    pool *pool;
    display *display;
    didi_merge *merge;
    scorer *scorer; /* NULL: none */
    json_t *scores; /* of the merge; NULL: not scored */
    json_t *known;  /* of base and fine-tunes on --split */
    bool scoring;   /* has begun */
    tuning *tuning; /* NULL: none */
    size_t tried;   /* of its values, those that have their scores */
    places places;
    int package_fd, comparison_fd; /* to extend, and to compare with */
    atomic_bool interrupted;
    int status;
    didi_error error;
} foreground;

/* One task, exported. */
typedef struct foreground_export {
    foreground *foreground;
    size_t task;
    int status;
    didi_error error;
} foreground_export;

/* ---- preparing ---- */

static int read_specification(foreground *self, didi_error *error)
{
    const char *path = self->given->specification_path;
    char *text = NULL;
    size_t bytes = 0;
    if (self->given->package != NULL)
        return extend_read(self->given, &self->package_fd, &self->comparison_fd,
                           &self->specification, error);
    int status = file_read_text(AT_FDCWD, path, LIMIT_BODY_BYTES, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    json_t *document = NULL;
    status = document_parse_named(path, text, bytes, LIMIT_BODY_BYTES, &document, error);
    if (status == DIDI_OK)
        status = specification_read(document, 0, &self->specification, error);
    json_decref(document);
    if (status != DIDI_OK)
        didi_error_wrap(error, "%s", path);
    else if (self->specification->survey && self->given->export != NULL)
        status = didi_fail(error, DIDI_INVALID, "/survey",
                           "a survey has nothing to export; leave --export out");
    free(text);
    return status;
}

static int open_reuse(foreground *self, didi_error *error)
{
    if (self->specification->from_job != NULL)
        return didi_fail(
            error, DIDI_INVALID, "/from_job",
            "jobs are the daemon's; use --reuse DIR with a directory that --keep made");
    return self->given->reuse != NULL ? places_open_reuse(&self->places, self->given->reuse, error)
                                      : DIDI_OK;
}

static int open_models(foreground *self, didi_error *error)
{
    const config *settings = &self->given->config;
    int status = model_roots_open((const char *const *)settings->models, settings->model_count,
                                  &self->roots, error);
    return status == DIDI_OK ? open_reuse(self, error) : status;
}

/* Opens the merge of the specification at `places`; only looks at it where there are none. */
static int open_at(foreground *self, const inputs_places *at, didi_merge **ret_merge,
                   didi_error *error)
{
    const didi_merge_hooks hooks = {.context = self->display, .event = display_event};
    inputs *opened = NULL;
    int status = inputs_create(self->roots, self->specification, &opened, error);
    if (status == DIDI_OK)
        status = inputs_open_merge(opened, &self->given->config, at,
                                   at->work_fd >= 0 ? &hooks : NULL, ret_merge, error);
    inputs_free(opened);
    return status;
}

static int open_merge(foreground *self, didi_error *error)
{
    const inputs_places all = {.work_fd = self->places.work_fd,
                               .output_fd = self->places.holder_fd,
                               .volatile_work = true,
                               .keep_work = self->given->keep != NULL,
                               .reuse_fd = self->places.reuse_fd,
                               .package_fd = self->package_fd,
                               .comparison_fd = self->comparison_fd};
    return open_at(self, &all, &self->merge, error);
}

/* ---- tuning: a merge a value; the best so far lies as "best" in the hidden directory ---- */

/* Puts a value into the specification, and says which where it cannot be used. */
static int try_value(foreground *self, size_t index, const inputs_places *at,
                     didi_merge **ret_merge, didi_error *error)
{
    char name[TUNING_TEXT_BYTES];
    int status = tuning_apply(self->tuning, index, self->specification, error);
    if (status == DIDI_OK)
        status = open_at(self, at, ret_merge, error);
    tuning_name(self->tuning, index, name);
    if (status != DIDI_OK)
        didi_error_wrap(error, "--tune %s", name);
    return status;
}

/* All values before the first merge; the first is left in force. */
static int check_tuning(foreground *self, didi_error *error)
{
    const inputs_places nowhere = INPUTS_NOWHERE;
    int status = DIDI_OK;
    for (size_t i = 0; status == DIDI_OK && i < tuning_count(self->tuning); i++) {
        didi_merge *merge = NULL;
        status = try_value(self, i, &nowhere, &merge, error);
        didi_merge_close(merge);
    }
    return status == DIDI_OK ? tuning_apply(self->tuning, 0, self->specification, error) : status;
}

static int open_tuning(foreground *self, didi_error *error)
{
    if (self->given->tune == NULL)
        return DIDI_OK;
    int status = tuning_read(self->given->tune, &self->tuning, error);
    return status == DIDI_OK ? check_tuning(self, error) : status;
}

static int open_scorer(foreground *self, didi_error *error)
{
    const config *given = &self->given->config;
    if ((given->scorer != NULL || self->given->proxies) && self->specification->survey)
        return didi_fail(error, DIDI_INVALID, "/survey",
                         "a survey has nothing to score; leave --score and --proxies out");
    return scorer_open_configured(given, &self->scorer, error);
}

/* ---- running ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    foreground *self = handle->data;
    (void)number;
    if (atomic_exchange(&self->interrupted, true))
        _exit(FOREGROUND_EXIT_INTERRUPTED); /* the hidden directory stays behind */
    display_say(self->display, "interrupted; stopping (again to stop at once)");
    if (self->merge != NULL)
        didi_merge_cancel(self->merge);
    pool_pump(self->pool);
}

static void on_draw(uv_timer_t *handle)
{
    foreground *self = handle->data;
    didi_stage stage = DIDI_STAGE_DIGEST;
    if (self->merge == NULL)
        return;
    double progress = didi_merge_progress(self->merge, &stage);
    display_draw(self->display, stage, progress);
    pool_pump(self->pool);
}

static int is_interrupted(void *context)
{
    const foreground *self = context;
    return atomic_load(&self->interrupted);
}

/* On a pool thread. */
static void export_work(void *context)
{
    foreground_export *self = context;
    foreground *owner = self->foreground;
    const specification *wanted = owner->specification;
    int fd = -1;
    self->status = file_open_directory(owner->places.holder_fd, "artifacts", 0, &fd, &self->error);
    if (self->status != DIDI_OK)
        return;
    const didi_export order = {.artifact_fd = fd,
                               .output_fd = fd,
                               .task_fd = -1,
                               .base_label = wanted->base,
                               .task = wanted->tasks[self->task].name,
                               .max_shard_bytes = owner->given->config.max_shard_bytes,
                               .verify_base = self->task == 0,
                               .cancelled = is_interrupted,
                               .context = owner};
    self->status = export_task(owner->roots, owner->given->exported, order, NULL, &self->error);
    close(fd);
}

/* Of the artifacts in place; the caller closes artifact_fd, also after a failure. */
static int scoring_open(foreground *self, const char *split, scoring *ret_order)
{
    *ret_order = (scoring){.scorer = self->scorer,
                           .command = self->given->config.scorer,
                           .split = split,
                           .roots = self->roots,
                           .specification = self->specification,
                           .max_shard_bytes = self->given->config.max_shard_bytes,
                           .artifact_fd = -1,
                           .holder_fd = self->places.holder_fd,
                           .holder = self->places.holder,
                           .display = self->display,
                           .cancelled = is_interrupted,
                           .context = self};
    return file_open_directory(self->places.holder_fd, "artifacts", 0, &ret_order->artifact_fd,
                               &self->error);
}

/* On a pool thread: what is merged, on a split; `known` is of that split. */
static int score_artifacts(foreground *self, const char *split, json_t *known, json_t **ret_scores)
{
    scoring order;
    int status = scoring_open(self, split, &order);
    order.known = known;
    if (status == DIDI_OK && known == NULL)
        status = didi_fail(&self->error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = scoring_run(&order, ret_scores, &self->error);
    file_close(order.artifact_fd);
    return status;
}

/* What was tuned has its scores, unless others are to be reported. */
static int score_result(foreground *self)
{
    const arguments *given = self->given;
    json_t *known = json_object();
    int status = DIDI_OK;
    if (self->scorer == NULL)
        self->scores = json_object();
    else if (self->tuning != NULL && given->report_split == NULL)
        self->scores = json_incref(tuning_scores(self->tuning));
    else
        status = score_artifacts(self, self->tuning != NULL ? given->report_split : given->split,
                                 known, &self->scores);
    if (status == DIDI_OK && self->tuning != NULL)
        status =
            scoring_add_tuned(self->scores, tuning_json(self->tuning, given->split), &self->error);
    json_decref(known);
    return status;
}

/* On a pool thread. */
static void score_work(void *context)
{
    foreground *self = context;
    didi_error *error = &self->error;
    json_t *measured = NULL;
    scoring order = {.artifact_fd = -1};
    int status = score_result(self);
    if (status == DIDI_OK)
        status = scoring_open(self, NULL, &order);
    if (status == DIDI_OK && self->given->proxies) {
        status = scoring_measure(&order, &measured, error);
        if (status == DIDI_OK && json_object_set_new(self->scores, "proxies", measured) != 0)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    if (status == DIDI_OK)
        status = scoring_write(order.artifact_fd, self->scores, error);
    file_close(order.artifact_fd);
    self->status = status;
}

static void foreground_done(void *context)
{
    foreground *self = context;
    if (pool_in_flight(self->pool) > 0)
        return;
    bool wanted = self->scorer != NULL || self->given->proxies;
    if (wanted && !self->scoring && self->status == DIDI_OK) {
        self->scoring = true;
        self->status = pool_task(self->pool, score_work, foreground_done, self, &self->error);
        if (self->status == DIDI_OK)
            return;
    }
    pool_close_handles(&self->loop);
}

static void export_after(void *context)
{
    foreground_export *self = context;
    foreground *owner = self->foreground;
    if (self->status != DIDI_OK && owner->status == DIDI_OK) {
        owner->status = self->status;
        owner->error = self->error;
    }
    free(self);
    foreground_done(owner);
}

static void start_exports(foreground *self)
{
    for (size_t i = 0; i < self->specification->task_count && self->status == DIDI_OK; i++) {
        foreground_export *one = memory_zeroed(1, sizeof *one);
        if (one == NULL) {
            self->status = didi_fail(&self->error, DIDI_NO_MEMORY, NULL, "out of memory");
            break;
        }
        one->foreground = self;
        one->task = i;
        self->status = pool_task(self->pool, export_work, export_after, one, &self->error);
        if (self->status != DIDI_OK)
            free(one);
    }
}

/* The artifacts are in place. */
static void deliver(foreground *self)
{
    if (self->status == DIDI_OK && self->given->keep != NULL)
        self->status = places_keep(&self->places, self->given->keep, &self->error);
    if (self->status == DIDI_OK && self->given->export != NULL) {
        static const char *const said[EXPORT_FORMAT_COUNT] = {
            [EXPORT_FORMAT_FULL] = "exporting full models",
            [EXPORT_FORMAT_PEFT] = "exporting adapters",
            [EXPORT_FORMAT_PEFT_EXACT] = "exporting adapters",
            [EXPORT_FORMAT_ROUTER] = "exporting routers"};
        display_say(self->display, said[self->given->exported.format]);
        start_exports(self);
    }
    foreground_done(self);
}

/* On a pool thread: the merge at a value, whose artifacts stay if they are the best. */
static void tune_work(void *context)
{
    foreground *self = context;
    int holder = self->places.holder_fd;
    json_t *scores = NULL;
    char name[TUNING_TEXT_BYTES];
    char line[TUNING_TEXT_BYTES + 64];
    tuning_name(self->tuning, self->tried, name);
    snprintf(line, sizeof line, "tuning: %s (%zu of %zu)", name, self->tried + 1,
             tuning_count(self->tuning));
    display_say(self->display, line);
    self->status = score_artifacts(self, self->given->split, self->known, &scores);
    if (self->status == DIDI_OK) {
        bool best = tuning_note(self->tuning, self->tried, scores);
        self->status = file_remove_tree(holder, best ? "best" : "artifacts", &self->error);
        if (self->status == DIDI_OK && best)
            self->status = file_rename(holder, "artifacts", holder, "best", &self->error);
    }
    json_decref(scores);
}

static int next_merge(foreground *self, didi_error *error);

static void tune_after(void *context)
{
    foreground *self = context;
    int holder = self->places.holder_fd;
    didi_error *error = &self->error;
    self->tried++;
    if (self->status == DIDI_OK && self->tried < tuning_count(self->tuning)) {
        self->status = next_merge(self, error);
        if (self->status == DIDI_OK)
            return;
    }
    if (self->status == DIDI_OK)
        self->status =
            tuning_apply(self->tuning, tuning_best(self->tuning), self->specification, error);
    if (self->status == DIDI_OK)
        self->status = file_rename(holder, "best", holder, "artifacts", error);
    deliver(self);
}

static void merge_finished(void *context)
{
    foreground *self = context;
    self->status = didi_merge_result(self->merge, &self->error);
    didi_merge_close(self->merge);
    self->merge = NULL;
    if (self->status == DIDI_OK && self->tuning != NULL)
        self->status = pool_task(self->pool, tune_work, tune_after, self, &self->error);
    if (self->status != DIDI_OK || self->tuning == NULL)
        deliver(self);
}

/* Merges at the next value of what is tuned. */
static int next_merge(foreground *self, didi_error *error)
{
    if (atomic_load(&self->interrupted))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    int status = tuning_apply(self->tuning, self->tried, self->specification, error);
    if (status == DIDI_OK)
        status = open_merge(self, error);
    if (status == DIDI_OK)
        status = pool_add(self->pool, self->merge, 0, merge_finished, self, error);
    if (status == DIDI_OK)
        pool_pump(self->pool);
    return status;
}

/* From before the hidden directory is there, so that none leaves it; they take effect in the loop.
 */
static void hear_signals(foreground *self)
{
    const int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&self->loop, &self->signals[i]);
        self->signals[i].data = self;
        uv_signal_start(&self->signals[i], on_signal, numbers[i]);
    }
}

static int foreground_run(foreground *self)
{
    const config *settings = &self->given->config;
    didi_error *error = &self->error;
    int status =
        pool_create(&self->loop, settings->workers, settings->memory_limit, &self->pool, error);
    if (status == DIDI_OK)
        status = pool_add(self->pool, self->merge, 0, merge_finished, self, error);
    if (status != DIDI_OK)
        return status;
    uv_timer_init(&self->loop, &self->timer);
    self->timer.data = self;
    uv_timer_start(&self->timer, on_draw, FOREGROUND_DRAW_MILLISECONDS,
                   FOREGROUND_DRAW_MILLISECONDS);
    pool_pump(self->pool);
    uv_run(&self->loop, UV_RUN_DEFAULT);
    return self->status;
}

/* ---- start and end ---- */

static void foreground_clear(foreground *self)
{
    didi_merge_close(self->merge);
    specification_free(self->specification);
    model_roots_close(self->roots);
    scorer_close(self->scorer);
    tuning_free(self->tuning);
    json_decref(self->known);
    json_decref(self->scores);
    pool_free(self->pool);
    places_close(&self->places);
    pool_close_handles(&self->loop); /* after a failed start they are still open */
    uv_run(&self->loop, UV_RUN_DEFAULT);
    uv_loop_close(&self->loop);
    file_close(self->package_fd);
    file_close(self->comparison_fd);
    display_free(self->display);
}

/* One line; the subject goes before unless the message names it. */
static void print_failure(const didi_error *error)
{
    bool named = error->subject[0] == '\0' || strstr(error->message, error->subject) != NULL;
    fprintf(stderr, "didid run: %s%s%s [%s]\n", named ? "" : error->subject, named ? "" : ": ",
            error->message, didi_status_name(error->status));
}

static int foreground_merge(const arguments *given)
{
    foreground self = {.given = given,
                       .places = PLACES_NONE,
                       .package_fd = -1,
                       .comparison_fd = -1,
                       .known = json_object()};
    int64_t began_ms = clock_monotonic_ms();
    didi_error *error = &self.error;
    char threads[16];
    snprintf(threads, sizeof threads, "%zu", given->config.workers);
    setenv("UV_THREADPOOL_SIZE", threads, 1); /* read once, at the pool's first use */
    uv_loop_init(&self.loop);
    size_t workers = given->config.workers;
    int status = address_space_check(didi_blas_bytes(workers), workers, error);
    if (status == DIDI_OK)
        status = file_sha256_prepare(error);
    if (status == DIDI_OK)
        status = didi_blas_use_one_thread(error);
    if (status == DIDI_OK)
        status = didi_blas_reserve(workers, error);
    if (status == DIDI_OK)
        status = display_create(given->verbose, &self.display, error);
    if (status == DIDI_OK)
        status = read_specification(&self, error);
    if (status == DIDI_OK)
        status = open_scorer(&self, error);
    if (status == DIDI_OK)
        display_count(self.display, specification_counts_bytes(self.specification));
    hear_signals(&self);
    if (status == DIDI_OK)
        status = places_open(&self.places, given->out, error);
    if (status == DIDI_OK)
        status = open_models(&self, error);
    if (status == DIDI_OK)
        status = open_tuning(&self, error);
    if (status == DIDI_OK)
        status = open_merge(&self, error);
    if (status == DIDI_OK)
        status = foreground_run(&self);
    if (status == DIDI_OK)
        status = places_publish(&self.places, error);
    if (self.display != NULL)
        display_clear(self.display);
    if (status == DIDI_OK)
        display_summary(given->out, self.places.parent_fd, self.places.name,
                        (double)(clock_monotonic_ms() - began_ms) / 1000.0);
    else if (status == DIDI_CANCELLED && atomic_load(&self.interrupted))
        fputs("didid run: interrupted, nothing was written\n", stderr);
    else
        print_failure(error);
    if (status == DIDI_OK && self.scores != NULL)
        scoring_print(self.scores);
    bool interrupted = atomic_load(&self.interrupted) && status == DIDI_CANCELLED;
    foreground_clear(&self);
    if (interrupted)
        return FOREGROUND_EXIT_INTERRUPTED;
    return status == DIDI_OK ? 0 : FOREGROUND_EXIT_FAILED;
}

int foreground_main(int argc, char **argv)
{
    arguments given = {0};
    didi_error error = {0};
    int code = 0;
    if (config_init(&given.config, &error) != DIDI_OK) {
        fprintf(stderr, "didid run: %s\n", error.message);
        return FOREGROUND_EXIT_FAILED;
    }
    if (arguments_read(&given, argc, argv, &error) != DIDI_OK)
        code = options_refuse("didid run", &error);
    else if (given.help)
        arguments_print_usage(stdout);
    else
        code = foreground_merge(&given);
    config_clear(&given.config);
    return code;
}
