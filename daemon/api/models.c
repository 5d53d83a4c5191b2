/* SPDX-License-Identifier: Apache-2.0 */
/* Models: list, show, rescan. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <stdio.h>
#include <string.h>

static json_t *model_json(const store_model *model)
{
    return json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:s?, s:o, s:o}", "name",
                     model->name, "kind", model->is_adapter != 0 ? "adapter" : "checkpoint",
                     "state", model_state_name(model->state), "reason", model->reason, "bytes",
                     (json_int_t)model->bytes, "file_count", (json_int_t)model->file_count,
                     "tensor_count", (json_int_t)model->tensor_count, "parameters",
                     (json_int_t)model->parameters, "revision", model->revision, "registered_at",
                     clock_json(model->registered_ms), "updated_at", clock_json(model->updated_ms));
}

/* ---- lists, and how models stand to a base ---- */

/* A page ends early where more would have to be read for it: the rest is asked for by the next. */
enum {
    FITS_READ_MOST = 64, /* models */
    FITS_READ_MS = 400,
};

typedef struct models_page {
    store_model *rows;
    size_t count;
    bool more;
    store_model base; /* no name: none was asked for */
} models_page;

static json_t *fit_json(const model_fit *fit)
{
    const didi_fit *seen = &fit->figures;
    return json_pack("{s:b, s:s?, s:I, s:I, s:I, s:f}", "fits", fit->fits, "reason", fit->reason,
                     "matched", (json_int_t)seen->matched, "missing", (json_int_t)seen->missing,
                     "own", (json_int_t)seen->own, "share", seen->share);
}

static int model_fit_find(api *self, const store_model *base, const store_model *model,
                          json_t **ret_value, bool *ret_read, didi_error *error)
{
    model_fit found = {0};
    int status = DIDI_OK;
    *ret_read = false;
    if (strcmp(base->name, model->name) == 0)
        found.reason = memory_string("it is the base");
    else if (model->state != MODEL_READY)
        found.reason = memory_format("it is broken: %s", model->reason);
    else
        status = model_fits_find(self->fits, base, model, &found, ret_read, error);
    if (status == DIDI_OK)
        *ret_value = fit_json(&found);
    model_fit_clear(&found);
    return status;
}

/* Appends what the page says; the page ends after *ret_count models. */
static int page_fill(api *self, const models_page *page, json_t *data, size_t *ret_count,
                     didi_error *error)
{
    const int64_t began = clock_monotonic_ms();
    int status = DIDI_OK;
    size_t read = 0;
    size_t i = 0;
    for (; i < page->count && status == DIDI_OK; i++) {
        json_t *row = model_json(&page->rows[i]);
        json_t *fit = NULL;
        bool fresh = false;
        if (read >= FITS_READ_MOST || (read > 0 && clock_monotonic_ms() - began > FITS_READ_MS)) {
            json_decref(row);
            break;
        }
        if (page->base.name != NULL)
            status = model_fit_find(self, &page->base, &page->rows[i], &fit, &fresh, error);
        if (fit != NULL)
            json_object_set_new(row, "fit", fit);
        read += fresh;
        json_array_append_new(data, row);
    }
    *ret_count = i;
    return status;
}

/* The base that models are to be compared with, if one was named. False: a reply was made. */
static bool page_base(api *self, http_request *request, store_model *ret_base)
{
    const char *name = http_query(request, "base");
    didi_error error = {0};
    if (name == NULL)
        return true;
    if (!name_is_model(name) || registry_find(self->models, name, ret_base, &error) != DIDI_OK) {
        if (error.status != DIDI_OK && error.status != DIDI_NOT_FOUND)
            http_reply_error(request, problem_from_status(error.status), &error);
        else
            (void)http_refuse_parameter(request, "base", "base must be the name of a model");
        return false;
    }
    if (ret_base->state == MODEL_READY && ret_base->is_adapter == 0)
        return true;
    return http_refuse_parameter(request, "base",
                                 ret_base->is_adapter != 0
                                     ? "base is an adapter; name the model it was made for"
                                     : "base is a broken model");
}

void api_models_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    models_page page = {0};
    size_t limit = 0;
    size_t shown = 0;
    const char *after = NULL;
    json_t *data = NULL;
    if (!api_page_asked(request, name_is_model, "after must be a model's name", &after, &limit))
        return;
    if (!page_base(self, request, &page.base)) {
        store_model_clear(&page.base);
        return;
    }
    int status =
        store_model_list(self->records, after, limit, &page.rows, &page.count, &page.more, &error);
    if (status == DIDI_OK) {
        data = json_array();
        status = page_fill(self, &page, data, &shown, &error);
    }
    const bool more = page.more || shown < page.count;
    if (status == DIDI_OK) {
        http_reply_json(request, 200,
                        api_page(data, more, more ? page.rows[shown - 1].name : NULL));
    } else {
        json_decref(data);
        http_reply_error(request, problem_from_status(status), &error);
    }
    store_models_free(page.rows, page.count);
    store_model_clear(&page.base);
}

void api_models_rescan(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    size_t ready = 0;
    size_t broken = 0;
    if (registry_rescan(self->models, &ready, &broken, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    http_reply_json(
        request, 200,
        json_pack("{s:I, s:I}", "ready", (json_int_t)ready, "broken", (json_int_t)broken));
}

static int model_tensor_add(void *context, const registry_tensor *tensor)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < tensor->dimensions; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return json_array_append_new(context,
                                 json_pack("{s:s, s:s, s:o, s:I, s:s}", "name", tensor->name,
                                           "dtype", tensor->dtype, "shape", shape, "bytes",
                                           (json_int_t)tensor->bytes, "file", tensor->file)) == 0
               ? DIDI_OK
               : DIDI_NO_MEMORY;
}

void api_models_get(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 0);
    char detail[512];
    didi_error error = {0};
    store_model model;
    if (!name_is_model(name) ||
        registry_find(self->models, name, &model, &error) == DIDI_NOT_FOUND) {
        snprintf(detail, sizeof detail, "no model has the name \"%.400s\"", name);
        http_reply_problem(
            request,
            &(http_problem){.type = PROBLEM_UNKNOWN_MODEL, .detail = detail, .subject = name});
        return;
    }
    if (error.status != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    json_t *tensors = json_array();
    json_t *value = model_json(&model);
    int status = model.state != MODEL_READY ? DIDI_OK
                                            : registry_tensors(self->models, model.name,
                                                               model_tensor_add, tensors, &error);
    if (status == DIDI_OK) {
        json_object_set_new(value, "tensors", tensors);
        http_reply_json(request, 200, value);
    } else {
        json_decref(tensors);
        json_decref(value);
        http_reply_error(request, problem_from_status(status), &error);
    }
    store_model_clear(&model);
}
