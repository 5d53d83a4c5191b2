/* SPDX-License-Identifier: Apache-2.0 */
/* order.json, and the small files by which tasks tell of themselves. */
#include "daemon/worker/order.h"

#include "src/base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ORDER_FORMAT = 1,
    ORDER_BYTES_MAX = 64 << 20,
    DONE_BYTES_MAX = 32 << 20,
    DONE_LINE_BYTES = 128,
    HOST_BYTES_MAX = 256,
    CORES_MAX = 4096,
};

void worker_task_file(size_t task, const char *kind, char ret_name[WORKER_TASK_NAME_BYTES])
{
    (void)snprintf(ret_name, WORKER_TASK_NAME_BYTES, "task-%zu.%s", task, kind);
}

/* ---- written by the owner ---- */

static json_t *texts_json(const char *const *texts, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count && list != NULL; i++)
        if (json_array_append_new(list, json_string(texts[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *tasks_json(const worker_order *from)
{
    json_t *all = json_array();
    const uint64_t *item = from->items;
    for (size_t t = 0; t < from->task_count; t++) {
        json_t *list = json_array();
        for (size_t i = 0; i < from->task_counts[t]; i++)
            if (json_array_append_new(list, json_integer((json_int_t)*item++)) != 0)
                goto failed;
        if (json_array_append_new(all, list) == 0)
            continue;
        list = NULL; /* taken, whatever came of it */
    failed:
        json_decref(list);
        json_decref(all);
        return NULL;
    }
    return all;
}

int worker_order_write(int directory_fd, const worker_order *from, didi_error *error)
{
    didi_blas_info blas = {0};
    const char *coretype = getenv("OPENBLAS_CORETYPE");
    assert(from->task_count > 0 && from->task_count <= WORKER_TASKS_MAX && from->cores > 0);
    didi_blas_describe(&blas);
    json_t *document =
        json_pack("{s:i, s:s, s:s, s:s, s:s*, s:s, s:o, s:s, s:s*, s:s*, s:I, s:I, s:I, s:I, s:o}",
                  "format", ORDER_FORMAT, "version", didi_version(), "kernel", blas.kernel, "blas",
                  blas.version, "coretype", coretype, "specification", from->specification,
                  "models", texts_json(from->models, from->model_count), "work", from->work,
                  "package", from->package, "reuse", from->reuse, "memory_limit",
                  (json_int_t)from->memory_limit, "cores", (json_int_t)from->cores, "round",
                  (json_int_t)from->round, "row", (json_int_t)from->row, "tasks", tasks_json(from));
    char *text = document != NULL ? json_dumps(document, JSON_COMPACT) : NULL;
    int status = text != NULL
                     ? file_write_durable(directory_fd, "order.json", text, strlen(text), error)
                     : didi_fail(error, DIDI_NO_MEMORY, "order.json", "out of memory");
    free(text);
    json_decref(document);
    return status;
}

/* ---- read by workers ---- */

static int refuse(const char *what, didi_error *error)
{
    return didi_fail(error, DIDI_FORMAT, "order.json", "%s", what);
}

static int take_models(work_order *self, const json_t *models, didi_error *error)
{
    size_t count = json_array_size(models);
    self->models = memory_zeroed(count, sizeof *self->models);
    if (self->models == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "order.json", "out of memory");
    for (size_t i = 0; i < count; i++) {
        self->models[i] = json_string_value(json_array_get(models, i));
        if (self->models[i] == NULL)
            return refuse("a directory of models is no text", error);
    }
    self->model_count = count;
    return count > 0 ? DIDI_OK : refuse("it has no directory of models", error);
}

static int take_tasks(work_order *self, const json_t *tasks, didi_error *error)
{
    size_t items = 0;
    size_t count = json_array_size(tasks);
    if (count == 0 || count > WORKER_TASKS_MAX)
        return refuse("it has no tasks, or too many", error);
    for (size_t t = 0; t < count; t++)
        items += smaller(json_array_size(json_array_get(tasks, t)), WORKER_ITEMS_MAX);
    if (items > WORKER_ITEMS_MAX)
        return refuse("it has too many items", error);
    self->items = memory_zeroed(items, sizeof *self->items);
    self->first = memory_zeroed(count + 1, sizeof *self->first);
    if (self->items == NULL || self->first == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "order.json", "out of memory");
    for (size_t t = 0; t < count; t++) {
        const json_t *list = json_array_get(tasks, t);
        size_t at = self->first[t];
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *number = json_array_get(list, i);
            if (!json_is_integer(number) || json_integer_value(number) < 0)
                return refuse("an item is no number", error);
            self->items[at++] = (uint64_t)json_integer_value(number);
        }
        self->first[t + 1] = at;
    }
    self->task_count = count;
    return DIDI_OK;
}

static int take(work_order *self, didi_error *error)
{
    json_int_t memory = 0;
    json_int_t cores = 0;
    json_int_t round = 0;
    json_int_t row = 0;
    json_error_t reason;
    int format = 0;
    if (json_unpack_ex(self->document, &reason, 0, "{s:i}", "format", &format) != 0 ||
        format != ORDER_FORMAT)
        return refuse("it is not an order of this version of didid", error);
    if (json_unpack_ex(self->document, &reason, 0,
                       "{s:s, s:s, s:s, s?s, s:s, s:s, s?s, s?s, s:I, s:I, s:I, s:I}", "version",
                       &self->version, "kernel", &self->kernel, "blas", &self->blas, "coretype",
                       &self->coretype, "specification", &self->specification, "work", &self->work,
                       "package", &self->package, "reuse", &self->reuse, "memory_limit", &memory,
                       "cores", &cores, "round", &round, "row", &row) != 0)
        return refuse(reason.text, error);
    if (memory < 0 || cores < 1 || cores > CORES_MAX || round < 0 || row < 0)
        return refuse("a number is out of range", error);
    self->memory_limit = (uint64_t)memory;
    self->cores = (size_t)cores;
    self->place = (didi_place){(uint64_t)round, (uint64_t)row, 0};
    int status = take_models(self, json_object_get(self->document, "models"), error);
    if (status == DIDI_OK)
        status = take_tasks(self, json_object_get(self->document, "tasks"), error);
    return status;
}

int order_read(int directory_fd, work_order *ret_order, didi_error *error)
{
    work_order self = {0};
    char *text = NULL;
    size_t bytes = 0;
    json_error_t reason;
    bool no_memory = false;
    int status = file_read_text(directory_fd, "order.json", ORDER_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    self.document = json_load(text, bytes, JSON_REJECT_DUPLICATES, &reason, &no_memory);
    free(text);
    if (self.document == NULL)
        return no_memory ? didi_fail(error, DIDI_NO_MEMORY, "order.json", "out of memory")
                         : refuse(reason.text, error);
    status = take(&self, error);
    if (status == DIDI_OK)
        *ret_order = self;
    else
        order_clear(&self);
    return status;
}

void order_clear(work_order *self)
{
    free(self->models);
    free(self->items);
    free(self->first);
    json_decref(self->document);
    *self = (work_order){0};
}

/* ---- what tasks tell ---- */

static bool read_line(const char *text, size_t length, worker_line *ret_line)
{
    char line[DONE_LINE_BYTES];
    uint64_t numbers[5];
    char *next = line;
    if (length >= sizeof line || strspn(text, "0123456789 ") != length)
        return false;
    memcpy(line, text, length);
    line[length] = '\0';
    for (size_t i = 0; i < 5; i++) {
        const char *start = next;
        numbers[i] = strtoull(start, &next, 10);
        if (next == start)
            return false;
    }
    *ret_line = (worker_line){numbers[0], {numbers[1], numbers[2], numbers[3], numbers[4]}};
    return *next == '\0';
}

int worker_read_done(int directory_fd, size_t task,
                     void (*found)(void *context, const worker_line *line), void *context,
                     didi_error *error)
{
    char name[WORKER_TASK_NAME_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    worker_task_file(task, "done", name);
    int status = file_read_text(directory_fd, name, DONE_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status == DIDI_NO_MEMORY ? status : DIDI_OK;
    for (const char *at = text; at[strcspn(at, "\n")] != '\0'; at += strcspn(at, "\n") + 1) {
        worker_line line;
        if (read_line(at, strcspn(at, "\n"), &line))
            found(context, &line);
    }
    free(text);
    return DIDI_OK;
}

void worker_read_host(int directory_fd, size_t task, char *ret_host, size_t size)
{
    char name[WORKER_TASK_NAME_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    assert(size > 0);
    ret_host[0] = '\0';
    worker_task_file(task, "host", name);
    if (file_read_text(directory_fd, name, HOST_BYTES_MAX, &text, &bytes, NULL) != DIDI_OK)
        return;
    size_t length =
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_");
    (void)snprintf(ret_host, size, "%.*s", (int)length, text);
    free(text);
}

int worker_order_tasks(int directory_fd, const char *work, const didi_place *of, bool *ret_ours,
                       worker_tasks *ret_tasks, didi_error *error)
{
    work_order left = {0};
    didi_blas_info blas = {0};
    int status = order_read(directory_fd, &left, error);
    if (status != DIDI_OK)
        return status;
    didi_blas_describe(&blas);
    *ret_ours = strcmp(left.version, didi_version()) == 0 &&
                strcmp(left.kernel, blas.kernel) == 0 && strcmp(left.blas, blas.version) == 0 &&
                strcmp(left.work, work) == 0 && left.place.round == of->round &&
                left.place.row == of->row;
    *ret_tasks = (worker_tasks){left.items, left.first, left.task_count};
    left.items = NULL;
    left.first = NULL;
    order_clear(&left);
    return DIDI_OK;
}
