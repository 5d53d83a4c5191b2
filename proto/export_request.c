/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of a request for exports. */
#include "proto/export_request.h"

#include "proto/document.h"
#include "proto/field.h"
#include "proto/limits.h"
#include "proto/names.h"
#include "src/base/base.h"

#include <assert.h>

#define FORMAT_NAME(id, word, folder) word,
#define FORMAT_FOLDER(id, word, folder) folder,
static const char *const format_names[] = {EXPORT_FORMAT_TABLE(FORMAT_NAME) NULL};
static const char *const format_folders[] = {EXPORT_FORMAT_TABLE(FORMAT_FOLDER)};

const char *export_format_name(export_format format)
{
    assert((unsigned)format < EXPORT_FORMAT_COUNT);
    return format_names[format];
}

const char *export_format_folder(export_format format)
{
    assert((unsigned)format < EXPORT_FORMAT_COUNT);
    return format_folders[format];
}

const char *const *export_format_files(export_format format)
{
    static const char *const model[] = {"model.safetensors", NULL};
    static const char *const adapter[] = {"adapter_model.safetensors", "README.md",
                                          "adapter_config.json", "export.json", NULL};
    static const char *const router[] = {"router.safetensors", NULL};
    if (format == EXPORT_FORMAT_ROUTER)
        return router;
    return format == EXPORT_FORMAT_FULL ? model : adapter;
}

export_format export_format_find(const char *word)
{
    return (export_format)text_find(format_names, EXPORT_FORMAT_COUNT, word);
}

/* If there is a list, at least one, and none twice. */
static int check_tasks(const field_texts *tasks, didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    if (tasks->texts != NULL && tasks->count == 0)
        return didi_fail(error, DIDI_INVALID, "/tasks", "0 tasks; it must be 1 to %d", LIMIT_TASKS);
    for (size_t task = 1; task < tasks->count; task++) {
        if (text_find((const char *const *)tasks->texts, task, tasks->texts[task]) < task) {
            field_pointer_index(pointer, "/tasks", task);
            return didi_fail(error, DIDI_INVALID, pointer, "task \"%s\" is there twice",
                             tasks->texts[task]);
        }
    }
    return DIDI_OK;
}

static int check_rank(const export_request *request, didi_error *error)
{
    if (request->max_rank == 0)
        return DIDI_OK;
    if (request->format == EXPORT_FORMAT_FULL)
        return didi_fail(error, DIDI_INVALID, "/max_rank", "a full model has no rank");
    if (request->format == EXPORT_FORMAT_PEFT && request->max_rank < LIMIT_EXPORT_RANK_PORTABLE)
        return didi_fail(error, DIDI_INVALID, "/max_rank", "format peft takes %d or more",
                         LIMIT_EXPORT_RANK_PORTABLE);
    return DIDI_OK;
}

static const json_field export_fields[] = {
    {.key = "format",
     FIELD_CHOICE(format_names),
     .offset = offsetof(export_request, format),
     .required = true},
    {.key = "max_rank",
     FIELD_INTEGER(1, LIMIT_EXPORT_RANK),
     .offset = offsetof(export_request, max_rank)},
    {.key = "tasks",
     FIELD_LIST(LIMIT_TASKS, name_is_task, "the name of a task"),
     .offset = offsetof(export_request, tasks)},
    {.key = NULL},
};

int export_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         export_request *ret_request, didi_error *error)
{
    export_request request = {0};
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes_max, &document, error);
    if (status != DIDI_OK)
        return status;
    status = field_read_all(export_fields, document, &request, "", error);
    json_decref(document);
    if (status == DIDI_OK)
        status = check_tasks(&request.tasks, error);
    if (status == DIDI_OK)
        status = check_rank(&request, error);
    if (status != DIDI_OK)
        export_request_clear(&request);
    else
        *ret_request = request;
    return status;
}

void export_request_clear(export_request *request)
{
    field_texts_clear(&request->tasks);
}
