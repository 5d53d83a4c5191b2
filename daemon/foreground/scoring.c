/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of a merge in the foreground: one model at a time lies on disk. */
#include "daemon/foreground/scoring.h"

#include "daemon/jobs/jobs.h"
#include "src/package/package.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCORING_LINE_BYTES = 256 };

/* ---- one model ---- */

/* Scores the model below the holder; it is removed, also after a failure. */
static int score_model(const scoring *self, const char *place, const char *task, double *ret_score,
                       didi_error *error)
{
    didi_error ignored = {0};
    char *path = memory_format("%s/%s", self->holder, place);
    int status = path != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    const score_request request = {.directory = path, .task = task, .split = self->split};
    if (status == DIDI_OK)
        status =
            scorer_run(self->scorer, &request, self->cancelled, self->context, ret_score, error);
    int removed = file_remove_tree(self->holder_fd, place, status == DIDI_OK ? error : &ignored);
    free(path);
    return status == DIDI_OK ? removed : status;
}

static int score_copy(const scoring *self, const char *model, const char *task, double *ret_score,
                      didi_error *error)
{
    int status = score_copy_model(self->roots, model, self->holder_fd, "scored", self->cancelled,
                                  self->context, error);
    didi_error ignored = {0};
    if (status == DIDI_OK)
        return score_model(self, "scored", task, ret_score, error);
    file_remove_tree(self->holder_fd, "scored", &ignored);
    return status;
}

static int score_served(const scoring *self, const char *task, bool first, double *ret_score,
                        didi_error *error)
{
    const export_kind kind = {.format = EXPORT_FORMAT_FULL};
    const didi_export order = {.artifact_fd = self->artifact_fd,
                               .output_fd = self->holder_fd,
                               .task_fd = -1,
                               .base_label = self->specification->base,
                               .task = task,
                               .max_shard_bytes = self->max_shard_bytes,
                               .verify_base = first,
                               .cancelled = self->cancelled,
                               .context = self->context};
    int status = export_task(self->roots, kind, order, NULL, error);
    char *place = memory_format("%s/%s", export_format_folder(EXPORT_FORMAT_FULL), task);
    if (status == DIDI_OK && place == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = score_model(self, place, task, ret_score, error);
    free(place);
    return status;
}

/* ---- all tasks ---- */

/* A model that cannot be scored has none, and a line says why; `status` is what came of it. */
static int pardon(const scoring *self, int status, int pardoned, double *score, didi_error *error)
{
    char line[SCORING_LINE_BYTES + DIDI_ERROR_SUBJECT_BYTES_MAX + DIDI_ERROR_MESSAGE_BYTES_MAX];
    if (status != pardoned || status == DIDI_OK)
        return status;
    snprintf(line, sizeof line, "note: no score of %s: %s", error->subject, error->message);
    display_say(self->display, line);
    *error = (didi_error){0};
    *score = NAN;
    return DIDI_OK;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static int score_task(const scoring *self, size_t index, const json_t *errors, json_t *rows,
                      didi_error *error)
{
    const char *task = self->specification->tasks[index].name;
    const json_t *relative = json_object_get(errors, task);
    double score = NAN;
    double base = NAN;
    double own = NAN;
    char line[SCORING_LINE_BYTES];
    snprintf(line, sizeof line, "scoring %s (%zu of %zu)", task, index + 1,
             self->specification->task_count);
    display_say(self->display, line);
    int status = score_served(self, task, index == 0, &score, error);
    if (status == DIDI_OK)
        status = pardon(self, score_copy(self, self->specification->base, task, &base, error),
                        DIDI_SCORER, &base, error);
    if (status == DIDI_OK)
        status = pardon(
            self, score_copy(self, self->specification->tasks[index].model, task, &own, error),
            DIDI_MISMATCH, &own, error);
    if (status != DIDI_OK)
        return status;
    json_t *row =
        json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "task", task, "error",
                  number_or_null(json_is_number(relative) ? json_number_value(relative) : NAN),
                  "score", number_or_null(score), "base", number_or_null(base), "own",
                  number_or_null(own), "kept", number_or_null(own > 0 ? score / own : NAN));
    return row != NULL && json_array_append_new(rows, row) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

/* Mean of a member over the tasks; NaN unless all have it. */
static double mean_of(const json_t *rows, const char *key)
{
    double sum = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *value = json_object_get(json_array_get(rows, i), key);
        sum += json_is_number(value) ? json_number_value(value) : NAN;
    }
    return sum / (double)json_array_size(rows);
}

static const json_t *worst_of(const json_t *rows)
{
    const json_t *worst = NULL;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *kept = json_object_get(row, "kept");
        if (json_is_number(kept) &&
            (worst == NULL ||
             json_number_value(kept) < json_number_value(json_object_get(worst, "kept"))))
            worst = row;
    }
    return worst;
}

static json_t *scores_make(const scoring *self, json_t *rows)
{
    const json_t *worst = worst_of(rows);
    json_t *least = worst == NULL ? json_null()
                                  : json_pack("{s:O,s:O}", "task", json_object_get(worst, "task"),
                                              "kept", json_object_get(worst, "kept"));
    return json_pack("{s:s,s:s?,s:O,s:{s:o,s:o},s:o}", "scorer", self->command, "split",
                     self->split, "tasks", rows, "mean", "score",
                     number_or_null(mean_of(rows, "score")), "kept",
                     number_or_null(mean_of(rows, "kept")), "worst", least);
}

int scoring_run(const scoring *self, json_t **ret_scores, didi_error *error)
{
    json_t *manifest = NULL;
    json_t *rows = json_array();
    int status = manifest_file_read(self->artifact_fd, &manifest, error);
    if (status == DIDI_OK && rows == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    const json_t *errors = json_object_get(json_object_get(manifest, "error"), "per_task");
    for (size_t i = 0; status == DIDI_OK && i < self->specification->task_count; i++)
        status = score_task(self, i, errors, rows, error);
    if (status == DIDI_OK) {
        *ret_scores = scores_make(self, rows);
        if (*ret_scores == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    json_decref(rows);
    json_decref(manifest);
    return status;
}

int scoring_write(int artifact_fd, const json_t *scores, didi_error *error)
{
    char *text = json_dumps(scores, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = file_write_durable(artifact_fd, "scores.json", text, strlen(text), error);
    free(text);
    return status;
}

/* ---- the table ---- */

static void print_cell(const json_t *value)
{
    if (json_is_number(value))
        printf(" %9.4f", json_number_value(value));
    else
        printf(" %9s", "-");
}

static void print_row(const char *name, int width, const json_t *row)
{
    static const char *const keys[] = {"error", "score", "base", "own", "kept"};
    printf("%-*s", width, name);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        print_cell(json_object_get(row, keys[i]));
    printf("\n");
}

void scoring_print(const json_t *scores)
{
    const json_t *rows = json_object_get(scores, "tasks");
    const json_t *worst = json_object_get(scores, "worst");
    int width = 6;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *name = json_object_get(json_array_get(rows, i), "task");
        int length = (int)json_string_length(name);
        width = length > width ? length : width;
    }
    printf("%-*s %9s %9s %9s %9s %9s\n", width, "task", "error", "score", "base", "fine-tune",
           "kept");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        print_row(json_string_value(json_object_get(row, "task")), width, row);
    }
    print_row("mean", width, json_object_get(scores, "mean"));
    if (json_is_object(worst))
        printf("worst: %s, which keeps %.4f\n", json_string_value(json_object_get(worst, "task")),
               json_number_value(json_object_get(worst, "kept")));
}
