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
    bool scoring;   /* has begun */
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

static int open_merge(foreground *self, didi_error *error)
{
    const config *settings = &self->given->config;
    const didi_merge_hooks hooks = {.context = self->display, .event = display_event};
    inputs *opened = NULL;
    int status = model_roots_open((const char *const *)settings->models, settings->model_count,
                                  &self->roots, error);
    if (status == DIDI_OK)
        status = inputs_create(self->roots, self->specification, &opened, error);
    if (status == DIDI_OK)
        status = open_reuse(self, error);
    if (status == DIDI_OK) {
        const inputs_places all = {.work_fd = self->places.work_fd,
                                   .output_fd = self->places.holder_fd,
                                   .volatile_work = true,
                                   .keep_work = self->given->keep != NULL,
                                   .reuse_fd = self->places.reuse_fd,
                                   .package_fd = self->package_fd,
                                   .comparison_fd = self->comparison_fd};
        status = inputs_open_merge(opened, settings, &all, &hooks, &self->merge, error);
    }
    inputs_free(opened);
    return status;
}

static int open_scorer(foreground *self, didi_error *error)
{
    const config *given = &self->given->config;
    if (given->scorer != NULL && self->specification->survey)
        return didi_fail(error, DIDI_INVALID, "/survey",
                         "a survey has nothing to score; leave --score out");
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

/* On a pool thread. */
static void score_work(void *context)
{
    foreground *self = context;
    scoring order = {.scorer = self->scorer,
                     .command = self->given->config.scorer,
                     .split = self->given->split,
                     .roots = self->roots,
                     .specification = self->specification,
                     .max_shard_bytes = self->given->config.max_shard_bytes,
                     .artifact_fd = -1,
                     .holder_fd = self->places.holder_fd,
                     .holder = self->places.holder,
                     .display = self->display,
                     .cancelled = is_interrupted,
                     .context = self};
    self->status = file_open_directory(self->places.holder_fd, "artifacts", 0, &order.artifact_fd,
                                       &self->error);
    if (self->status == DIDI_OK)
        self->status = scoring_run(&order, &self->scores, &self->error);
    if (self->status == DIDI_OK)
        self->status = scoring_write(order.artifact_fd, self->scores, &self->error);
    file_close(order.artifact_fd);
}

static void foreground_done(void *context)
{
    foreground *self = context;
    if (pool_in_flight(self->pool) > 0)
        return;
    if (self->scorer != NULL && !self->scoring && self->status == DIDI_OK) {
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

static void merge_finished(void *context)
{
    foreground *self = context;
    self->status = didi_merge_result(self->merge, &self->error);
    didi_merge_close(self->merge);
    self->merge = NULL;
    if (self->status == DIDI_OK && self->given->keep != NULL)
        self->status = places_keep(&self->places, self->given->keep, &self->error);
    if (self->status == DIDI_OK && self->given->export != NULL) {
        display_say(self->display, self->given->exported.format == EXPORT_FORMAT_FULL
                                       ? "exporting full models"
                                       : "exporting adapters");
        start_exports(self);
    }
    foreground_done(self);
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
    foreground self = {
        .given = given, .places = PLACES_NONE, .package_fd = -1, .comparison_fd = -1};
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
