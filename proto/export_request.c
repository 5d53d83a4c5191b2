/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of a request for exports. */
#include "proto/export_request.h"

#include "proto/document.h"
#include "proto/field.h"
#include "proto/limits.h"
#include "proto/names.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_words[] = {"full", NULL};

#define FORMAT_NAME(id, word, folder) word,
#define FORMAT_FOLDER(id, word, folder) folder,
static const char *const format_names[] = {EXPORT_FORMAT_TABLE(FORMAT_NAME)};
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

export_format export_format_find(const char *word)
{
    return (export_format)text_find(format_names, EXPORT_FORMAT_COUNT, word);
}

typedef struct export_request_members {
    int format;
    export_request request;
} export_request_members;

static int export_task_read(export_request *request, json_t *value, const char *pointer,
                            didi_error *error)
{
    const json_field element = {.key = "task",
                                .offset = request->task_count * sizeof *request->tasks,
                                .check = name_is_task,
                                .expected = "the name of a task"};
    int status = field_text_read(&element, value, request->tasks, pointer, error);
    if (status != DIDI_OK)
        return status;
    for (size_t earlier = 0; earlier < request->task_count; earlier++) {
        if (strcmp(request->tasks[earlier], request->tasks[request->task_count]) == 0)
            return didi_fail(error, DIDI_INVALID, pointer, "task \"%s\" is there twice",
                             request->tasks[earlier]);
    }
    return DIDI_OK;
}

static int export_tasks_read(const json_field *field, json_t *value, void *object,
                             const char *pointer, didi_error *error)
{
    export_request *request = &((export_request_members *)object)->request;
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    size_t count = json_array_size(value);
    if (!json_is_array(value))
        return didi_fail(error, DIDI_INVALID, pointer, "%s must be an array, not %s", field->key,
                         field_type_name(value));
    if (count == 0 || count > LIMIT_TASKS) {
        return didi_fail(error, DIDI_INVALID, pointer, "%zu tasks; it must be 1 to %d", count,
                         LIMIT_TASKS);
    }
    request->tasks = memory_zeroed(count + 1, sizeof *request->tasks);
    if (request->tasks == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for %zu tasks", count);
    for (size_t task = 0; task < count; task++) {
        field_pointer_index(child, pointer, task);
        int status = export_task_read(request, json_array_get(value, task), child, error);
        if (status != DIDI_OK)
            return status;
        request->task_count++;
    }
    return DIDI_OK;
}

static const json_field export_fields[] = {
    {.key = "format",
     FIELD_CHOICE,
     .offset = offsetof(export_request_members, format),
     .required = true,
     .words = format_words},
    {.key = "tasks", .read = export_tasks_read},
    {.key = NULL},
};

int export_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         export_request *ret_request, didi_error *error)
{
    export_request_members members = {0};
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes_max, &document, error);
    if (status != DIDI_OK)
        return status;
    status = field_read_all(export_fields, document, &members, "", error);
    json_decref(document);
    if (status != DIDI_OK)
        export_request_clear(&members.request);
    else
        *ret_request = members.request;
    return status;
}

void export_request_clear(export_request *request)
{
    /* The list ends with NULL, also when reading stopped halfway. */
    for (size_t task = 0; request->tasks != NULL && request->tasks[task] != NULL; task++)
        free(request->tasks[task]);
    free(request->tasks);
    *request = (export_request){0};
}
