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

static judge judge_of(const scoring *self)
{
    return (judge){.scorer = self->scorer,
                   .split = self->split,
                   .roots = self->roots,
                   .base = self->specification->base,
                   .max_shard_bytes = self->max_shard_bytes,
                   .artifact_fd = self->artifact_fd,
                   .holder_fd = self->holder_fd,
                   .holder = self->holder,
                   .cancelled = self->cancelled,
                   .context = self->context};
}

/* ---- all tasks ---- */

/* What cannot be measured of `what` is not known, and a line says why; the status that stays. */
static int pardon(const scoring *self, const char *what, int status, int pardoned,
                  didi_error *error)
{
    char line[SCORING_LINE_BYTES + DIDI_ERROR_SUBJECT_BYTES_MAX + DIDI_ERROR_MESSAGE_BYTES_MAX];
    if (status != pardoned)
        return status;
    snprintf(line, sizeof line, "note: %s: no %s: %s", error->subject, what, error->message);
    display_say(self->display, line);
    *error = (didi_error){0};
    return DIDI_OK;
}

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static double number_or_nan(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Base and fine-tune on a task: they are the same whatever is merged. */
static int score_references(const scoring *self, const specification_task *task, didi_error *error)
{
    double base = NAN;
    double own = NAN;
    if (json_object_get(self->known, task->name) != NULL)
        return DIDI_OK;
    const judge order = judge_of(self);
    int status = judge_model(&order, order.base, task->name, &base, error);
    status = pardon(self, "score of the base", status, DIDI_SCORER, error);
    if (status == DIDI_OK) {
        status = judge_model(&order, task->model, task->name, &own, error);
        status = pardon(self, "score of the fine-tune", status, DIDI_MISMATCH, error);
    }
    if (status != DIDI_OK)
        return status;
    json_t *row = json_pack("{s:o,s:o}", "base", number_or_null(base), "own", number_or_null(own));
    return row != NULL && json_object_set_new(self->known, task->name, row) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static int score_task(const scoring *self, size_t index, const json_t *errors, json_t *rows,
                      didi_error *error)
{
    const specification_task *task = &self->specification->tasks[index];
    double score = NAN;
    char line[SCORING_LINE_BYTES];
    snprintf(line, sizeof line, "scoring %s (%zu of %zu)", task->name, index + 1,
             self->specification->task_count);
    display_say(self->display, line);
    const judge order = judge_of(self);
    int status = judge_task(&order, task->name, index == 0, &score, error);
    if (status == DIDI_OK)
        status = score_references(self, task, error);
    if (status != DIDI_OK)
        return status;
    const json_t *known = json_object_get(self->known, task->name);
    double own = number_or_nan(json_object_get(known, "own"));
    json_t *row = json_pack("{s:s,s:o,s:o,s:O,s:O,s:o}", "task", task->name, "error",
                            number_or_null(number_or_nan(json_object_get(errors, task->name))),
                            "score", number_or_null(score), "base", json_object_get(known, "base"),
                            "own", json_object_get(known, "own"), "kept",
                            number_or_null(own > 0 ? score / own : NAN));
    return row != NULL && json_array_append_new(rows, row) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

/* Mean of a member over the tasks; NaN unless all have it. */
static double mean_of(const json_t *rows, const char *key)
{
    double sum = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        sum += number_or_nan(json_object_get(json_array_get(rows, i), key));
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

/* ---- without data ---- */

static json_t *proxies_json(const proxies *found)
{
    return json_pack("{s:o,s:o,s:o,s:s?,s:o}", "cosine", number_or_null(found->cosine), "length",
                     number_or_null(found->length), "error", number_or_null(found->error), "worst",
                     found->worst[0] != '\0' ? found->worst : NULL, "worst_error",
                     number_or_null(found->worst_error));
}

int scoring_measure(const scoring *self, json_t **ret_proxies, didi_error *error)
{
    json_t *rows = json_object();
    int status = rows != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    for (size_t i = 0; status == DIDI_OK && i < self->specification->task_count; i++) {
        const specification_task *task = &self->specification->tasks[i];
        const score_models models = {self->specification->base, task->model, task->name};
        proxies found = {.cosine = NAN, .length = NAN, .error = NAN, .worst_error = NAN};
        status = score_measure(self->roots, self->artifact_fd, &models, self->cancelled,
                               self->context, &found, error);
        status = pardon(self, "figures", status, DIDI_MISMATCH, error);
        if (status == DIDI_OK && json_object_set_new(rows, task->name, proxies_json(&found)) != 0)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    if (status == DIDI_OK)
        *ret_proxies = rows;
    else
        json_decref(rows);
    return status;
}

int scoring_add_tuned(json_t *scores, json_t *tuned, didi_error *error)
{
    json_t *split = json_object_get(tuned, "split");
    bool same = split != NULL && json_equal(split, json_object_get(scores, "split"));
    return tuned != NULL && json_object_set_new(scores, "tuned", tuned) == 0 &&
                   json_object_set_new(scores, "tuned_on_this_split", json_boolean(same)) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
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

/* What was tuned on what, and what the table below is of. */
static void print_tuned(const json_t *scores)
{
    const json_t *tuned = json_object_get(scores, "tuned");
    const json_t *values = json_object_get(tuned, "values");
    bool same = json_is_true(json_object_get(scores, "tuned_on_this_split"));
    if (tuned == NULL)
        return;
    printf("tuned %s on %s:", json_string_value(json_object_get(tuned, "option")),
           json_string_value(json_object_get(tuned, "split")));
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *row = json_array_get(values, i);
        const json_t *value = json_object_get(row, "value");
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
        const char *mark = json_equal(value, json_object_get(tuned, "chosen")) ? " (chosen)" : "";
        bool kept = json_is_number(json_object_get(row, "kept"));
        printf("%s %s %s %.4f%s", i > 0 ? "," : "", text != NULL ? text : "?",
               kept ? "keeps" : "scores",
               json_number_value(json_object_get(row, kept ? "kept" : "score")), mark);
        free(text);
    }
    printf("\nscores on %s%s\n", json_string_value(json_object_get(scores, "split")),
           same ? " (tuned on this split)" : "");
}

static int name_width(const json_t *rows)
{
    int width = 6;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int length = (int)json_string_length(json_object_get(json_array_get(rows, i), "task"));
        width = length > width ? length : width;
    }
    return width;
}

static void print_scores(const json_t *scores)
{
    const json_t *rows = json_object_get(scores, "tasks");
    const json_t *worst = json_object_get(scores, "worst");
    int width = name_width(rows);
    print_tuned(scores);
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

static void print_proxies(json_t *rows)
{
    static const char *const keys[] = {"cosine", "length", "error", "worst_error"};
    const char *task = NULL;
    json_t *row = NULL;
    int width = 6;
    json_object_foreach(rows, task, row) width =
        (int)strlen(task) > width ? (int)strlen(task) : width;
    printf("%-*s %9s %9s %9s %9s  %s\n", width, "task", "cosine", "length", "error", "worst",
           "worst tensor");
    json_object_foreach(rows, task, row)
    {
        const char *worst = json_string_value(json_object_get(row, "worst"));
        char text[PROXIES_TENSOR_BYTES];
        text_copy_printable(text, sizeof text, worst != NULL ? worst : "-");
        printf("%-*s", width, task);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            print_cell(json_object_get(row, keys[i]));
        printf("  %s\n", text);
    }
}

void scoring_print(json_t *scores)
{
    json_t *measured = json_object_get(scores, "proxies");
    if (json_object_get(scores, "tasks") != NULL)
        print_scores(scores);
    if (measured != NULL)
        print_proxies(measured);
}
