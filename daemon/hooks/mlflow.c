/* SPDX-License-Identifier: Apache-2.0 */
/* Results told to MLflow, by its REST API 2.0: a registered model, a run with figures, a version
 * whose source is the artifacts' URL, or the run. Each step first looks whether an earlier attempt
 * did it: run and version carry the job's id as tag. */
#include "daemon/hooks/hooks_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGISTER_ATTEMPTS_MAX = 60,
    REGISTER_WAIT_MILLISECONDS = 10000, /* doubled each time, up to an hour */
    REGISTER_DOUBLINGS_MAX = 9,
    METRICS_MAX = 1000, /* in one request, as MLflow takes them */
};

#define MLFLOW_API "/api/2.0/mlflow/"
#define MLFLOW_TAG "didid.job"

typedef struct registering {
    hooks *self;
    const store_registration *row;
    char *run, *experiment, *version;
} registering;

static int fail_memory(didi_error *error)
{
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to register a result");
}

/* Takes the body. */
static int mlflow_post(const registering *of, const char *path, json_t *body, json_t **ret_answer,
                       didi_error *error)
{
    if (body == NULL)
        return fail_memory(error);
    return poll_ask(of->self->mlflow, of->self->settings->mlflow_uri, path, body, ret_answer,
                    error);
}

/* GET with one parameter. */
static int mlflow_get(const registering *of, const char *path, const char *parameter,
                      const char *value, json_t **ret_answer, didi_error *error)
{
    char *escaped = poll_escape(value);
    char *target = escaped != NULL ? memory_format("%s?%s=%s", path, parameter, escaped) : NULL;
    int status = target != NULL ? poll_ask(of->self->mlflow, of->self->settings->mlflow_uri, target,
                                           NULL, ret_answer, error)
                                : fail_memory(error);
    free(target);
    free(escaped);
    return status;
}

/* Copies `key` of `holder` of the answer, and drops the answer. */
static int take_text(json_t *answer, const char *holder, const char *key, char **ret_text,
                     didi_error *error)
{
    const json_t *object = json_object_get(answer, holder);
    if (json_is_array(object))
        object = json_array_get(object, 0);
    const char *text = json_string_value(json_object_get(object, key));
    char *copy = text != NULL ? memory_string(text) : NULL;
    int status = text == NULL   ? didi_fail(error, DIDI_FORMAT, key, "the answer has no %s", key)
                 : copy == NULL ? fail_memory(error)
                                : DIDI_OK;
    json_decref(answer);
    if (status == DIDI_OK)
        *ret_text = copy;
    return status;
}

static int ensure_model(const registering *of, didi_error *error)
{
    json_t *answer = NULL;
    const char *name = of->row->model;
    int status = mlflow_get(of, MLFLOW_API "registered-models/get", "name", name, &answer, error);
    if (status == DIDI_NOT_FOUND)
        status = mlflow_post(of, MLFLOW_API "registered-models/create",
                             json_pack("{s:s}", "name", name), &answer, error);
    json_decref(answer);
    return status;
}

static int find_version(registering *of, didi_error *error)
{
    json_t *answer = NULL;
    char filter[512];
    (void)snprintf(filter, sizeof filter, "name='%s' and tags.`" MLFLOW_TAG "`='%s'",
                   of->row->model, of->row->job_id);
    int status =
        mlflow_get(of, MLFLOW_API "model-versions/search", "filter", filter, &answer, error);
    if (status != DIDI_OK)
        return status;
    if (json_array_size(json_object_get(answer, "model_versions")) > 0)
        return take_text(answer, "model_versions", "version", &of->version, error);
    json_decref(answer);
    return DIDI_OK;
}

static int ensure_experiment(registering *of, didi_error *error)
{
    json_t *answer = NULL;
    const char *name = of->row->experiment;
    if (name == NULL) {
        of->experiment = memory_string("0"); /* the one that every server has */
        return of->experiment != NULL ? DIDI_OK : fail_memory(error);
    }
    int status = mlflow_get(of, MLFLOW_API "experiments/get-by-name", "experiment_name", name,
                            &answer, error);
    if (status == DIDI_OK)
        return take_text(answer, "experiment", "experiment_id", &of->experiment, error);
    if (status != DIDI_NOT_FOUND)
        return status;
    status = mlflow_post(of, MLFLOW_API "experiments/create", json_pack("{s:s}", "name", name),
                         &answer, error);
    if (status != DIDI_OK)
        return status;
    const char *id = json_string_value(json_object_get(answer, "experiment_id"));
    of->experiment = id != NULL ? memory_string(id) : NULL;
    json_decref(answer);
    return of->experiment != NULL ? DIDI_OK
                                  : didi_fail(error, DIDI_FORMAT, NULL, "no experiment_id came");
}

/* The run, as "info" of what is made or found. */
static int ensure_run(registering *of, didi_error *error)
{
    json_t *answer = NULL;
    char filter[128];
    (void)snprintf(filter, sizeof filter, "tags.`" MLFLOW_TAG "` = '%s'", of->row->job_id);
    int status = mlflow_post(of, MLFLOW_API "runs/search",
                             json_pack("{s:[s], s:s, s:i}", "experiment_ids", of->experiment,
                                       "filter", filter, "max_results", 1),
                             &answer, error);
    const json_t *found = json_array_get(json_object_get(answer, "runs"), 0);
    json_t *info = json_incref(json_object_get(found, "info"));
    json_decref(answer);
    if (status == DIDI_OK && info == NULL) {
        answer = NULL;
        status = mlflow_post(of, MLFLOW_API "runs/create",
                             json_pack("{s:s, s:s, s:I, s:[{s:s, s:s}]}", "experiment_id",
                                       of->experiment, "run_name", of->row->job_id, "start_time",
                                       (json_int_t)clock_now_ms(), "tags", "key", MLFLOW_TAG,
                                       "value", of->row->job_id),
                             &answer, error);
        info = json_incref(json_object_get(json_object_get(answer, "run"), "info"));
        json_decref(answer);
    }
    if (status != DIDI_OK)
        return status;
    json_t *holder = json_pack("{s:o}", "info", info);
    return holder != NULL ? take_text(holder, "info", "run_id", &of->run, error)
                          : didi_fail(error, DIDI_FORMAT, NULL, "the answer has no run");
}

/* Numbers of nested objects, as "error.per_task.x". */
static void metrics_add(json_t *into, const char *prefix, json_t *value)
{
    char name[250];
    const char *key;
    json_t *one;
    if (json_is_number(value) && json_array_size(into) < METRICS_MAX)
        json_array_append_new(into, json_pack("{s:s, s:f, s:I, s:i}", "key", prefix, "value",
                                              json_number_value(value), "timestamp",
                                              (json_int_t)clock_now_ms(), "step", 0));
    json_object_foreach(value, key, one)
    {
        (void)snprintf(name, sizeof name, "%s.%s", prefix, key);
        metrics_add(into, name, one);
    }
}

static json_t *figures_metrics(json_t *figures)
{
    json_t *metrics = json_array();
    const char *key;
    json_t *one;
    json_object_foreach(figures, key, one)
    {
        metrics_add(metrics, key, one);
    }
    return metrics;
}

static int log_figures(const registering *of, const json_t *metrics, didi_error *error)
{
    json_t *answer = NULL;
    int status =
        mlflow_post(of, MLFLOW_API "runs/log-batch",
                    json_pack("{s:s, s:O, s:[{s:s, s:s}]}", "run_id", of->run, "metrics", metrics,
                              "tags", "key", "didid.name", "value", of->row->job_name),
                    &answer, error);
    json_decref(answer);
    answer = NULL;
    if (status == DIDI_OK)
        status = mlflow_post(of, MLFLOW_API "runs/update",
                             json_pack("{s:s, s:s, s:I}", "run_id", of->run, "status", "FINISHED",
                                       "end_time", (json_int_t)clock_now_ms()),
                             &answer, error);
    json_decref(answer);
    return status;
}

/* What a version carries: the job, where its artifacts are, the figures. */
static json_t *version_tags(const registering *of, const json_t *metrics, const char *url)
{
    json_t *tags = json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}]", "key", MLFLOW_TAG, "value",
                             of->row->job_id, "key", "didid.hook", "value", of->row->hook, "key",
                             "didid.artifacts", "value", url);
    for (size_t i = 0; i < json_array_size(metrics); i++) {
        const json_t *point = json_array_get(metrics, i);
        char text[32];
        (void)snprintf(text, sizeof text, "%.6g",
                       json_number_value(json_object_get(point, "value")));
        json_array_append_new(
            tags, json_pack("{s:O, s:s}", "key", json_object_get(point, "key"), "value", text));
    }
    return tags;
}

static int post_version(registering *of, const json_t *tags, const char *source, didi_error *error)
{
    json_t *answer = NULL;
    int status = mlflow_post(of, MLFLOW_API "model-versions/create",
                             json_pack("{s:s, s:s, s:s, s:O}", "name", of->row->model, "source",
                                       source, "run_id", of->run, "tags", tags),
                             &answer, error);
    return status == DIDI_OK ? take_text(answer, "model_version", "version", &of->version, error)
                             : status;
}

/* Servers take URLs of other hosts as source only where they were told to; others get the run as
 * source, and have the URL in a tag. */
static int create_version(registering *of, const json_t *metrics, didi_error *error)
{
    const char *base = of->self->settings->public_url;
    size_t length = strlen(base);
    while (length > 0 && base[length - 1] == '/')
        length--;
    char *url = memory_format("%.*s/v1/jobs/%s/artifacts", (int)length, base, of->row->job_id);
    char *run = memory_format("runs:/%s/didid", of->run);
    json_t *tags = url != NULL ? version_tags(of, metrics, url) : NULL;
    int status =
        run != NULL && tags != NULL ? post_version(of, tags, url, error) : fail_memory(error);
    if (status == DIDI_INVALID)
        status = post_version(of, tags, run, error);
    json_decref(tags);
    free(run);
    free(url);
    return status;
}

static int register_result(registering *of, didi_error *error)
{
    json_t *figures = of->self->service.figures(of->self->service.context, of->row->job_id);
    json_t *metrics = figures_metrics(figures);
    json_decref(figures);
    int status = metrics != NULL ? ensure_model(of, error) : fail_memory(error);
    if (status == DIDI_OK)
        status = find_version(of, error);
    if (status == DIDI_OK && of->version == NULL) {
        status = ensure_experiment(of, error);
        if (status == DIDI_OK)
            status = ensure_run(of, error);
        if (status == DIDI_OK)
            status = log_figures(of, metrics, error);
        if (status == DIDI_OK)
            status = create_version(of, metrics, error);
    }
    json_decref(metrics);
    return status;
}

/* False when it cannot be recorded. */
static bool register_one(hooks *self, const store_registration *row)
{
    registering of = {.self = self, .row = row};
    didi_error error = {0};
    int doublings =
        row->attempts < REGISTER_DOUBLINGS_MAX ? (int)row->attempts : REGISTER_DOUBLINGS_MAX;
    int64_t wait = (int64_t)REGISTER_WAIT_MILLISECONDS << doublings;
    int status = register_result(&of, &error);
    bool recorded = status != DIDI_CANCELLED;
    if (recorded) {
        didi_error unwritten = {0};
        bool last = row->attempts + 1 >= REGISTER_ATTEMPTS_MAX;
        log_emit(status == DIDI_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "registration",
                 LOG_TEXT("hook", row->hook), LOG_TEXT("job", row->job_id),
                 LOG_TEXT("model", row->model), LOG_TEXT("version", of.version),
                 LOG_TEXT("error", status != DIDI_OK ? error.message : NULL));
        if (store_registration_move(self->records, row->job_id, of.version,
                                    status != DIDI_OK ? error.message : NULL, last ? 0 : wait,
                                    &unwritten) != DIDI_OK) {
            recorded = false;
            log_emit(LOG_LEVEL_ERROR, "cannot record a registration", LOG_TEXT("job", row->job_id),
                     LOG_TEXT("error", unwritten.message));
        }
    }
    free(of.run);
    free(of.experiment);
    free(of.version);
    return recorded;
}

void register_due(hooks *self)
{
    bool found = self->mlflow != NULL;
    while (found && !atomic_load(&self->stopping)) {
        store_registration row = {0};
        didi_error error = {0};
        found = false;
        if (store_registration_due(self->records, &row, &found, &error) == DIDI_OK && found)
            found = register_one(self, &row);
        store_registration_clear(&row);
    }
}
