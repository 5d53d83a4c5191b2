/* SPDX-License-Identifier: Apache-2.0 */
/* Models: list, show, rescan. */
#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>

static json_t *model_json(const store_model *model)
{
    return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I, s:I, s:s?, s:o, s:o}", "name", model->name,
                     "state", model_state_name(model->state), "reason", model->reason, "bytes",
                     (json_int_t)model->bytes, "file_count", (json_int_t)model->file_count,
                     "tensor_count", (json_int_t)model->tensor_count, "parameters",
                     (json_int_t)model->parameters, "revision", model->revision, "registered_at",
                     api_time(model->registered_ms), "updated_at", api_time(model->updated_ms));
}

void api_models_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_model *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_model, "after must be a model's name", &after, &limit))
        return;
    if (store_model_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        http_reply_error(request, problem_from_status(error.status), &error);
        return;
    }
    json_t *data = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(data, model_json(&rows[i]));
    http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].name : NULL));
    store_models_free(rows, count);
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
