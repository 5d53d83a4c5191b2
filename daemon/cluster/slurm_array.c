/* SPDX-License-Identifier: Apache-2.0 */
/* The executor slurm: an order as an array of jobs, or several where there are more tasks than one
 * array may have. Task I has the index I - K * 10^digits in the array of its chunk K, so that the
 * log of the index is that of the task: "task-1%3a.log" for the tasks from 1000 on. */
#include "daemon/cluster/slurm.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char array_script[] = "#!/bin/sh\n"
                                   "first=$1\n"
                                   "shift\n"
                                   "exec \"$@\" --task $((first + SLURM_ARRAY_TASK_ID))\n";

static size_t power_of(size_t digits)
{
    size_t power = 1;
    for (size_t i = 0; i < digits; i++)
        power *= 10;
    return power;
}

static int array_open(cluster *self, didi_error *error)
{
    slurm *opened = NULL;
    int status = slurm_open(self, &opened, error);
    self->own = opened;
    return status;
}

static void array_close(cluster *self)
{
    slurm_close(self->own);
}

static size_t array_tasks_max(cluster *self)
{
    return (size_t)smaller(CLUSTER_TASKS_MAX, SLURM_CHUNKS_MAX * power_of(slurm_digits(self->own)));
}

/* ---- submission ---- */

static int compare_numbers(const void *a, const void *b)
{
    const size_t left = *(const size_t *)a;
    const size_t right = *(const size_t *)b;
    return (left > right) - (left < right);
}

/* "0-4,7" of ascending numbers, less `first`. Caller frees; NULL when out of memory. */
static char *list_of(const size_t *numbers, size_t count, size_t first)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    for (size_t i = 0, end = 0; i < count; i = end) {
        for (end = i + 1; end < count && numbers[end] == numbers[end - 1] + 1;)
            end++;
        fprintf(text_stream_file(stream), "%s%zu", i > 0 ? "," : "", numbers[i] - first);
        if (end > i + 1)
            fprintf(text_stream_file(stream), "-%zu", numbers[end - 1] - first);
    }
    return text_stream_close(stream, NULL);
}

/* Caller frees; NULL when out of memory. */
static char *log_of(const char *directory, size_t chunk, size_t digits)
{
    char *escaped = slurm_escape(directory);
    char *path = NULL;
    if (escaped != NULL && chunk == 0)
        path = memory_format("%s/task-%%a.log", escaped);
    else if (escaped != NULL)
        path = memory_format("%s/task-%zu%%%zua.log", escaped, chunk, digits);
    free(escaped);
    return path;
}

/* A chunk's name among jobs; the first has the order's own. */
static void name_of(const char *order, size_t digits, size_t chunk,
                    char ret_name[CLUSTER_NAME_BYTES + 8])
{
    if (chunk == 0)
        snprintf(ret_name, CLUSTER_NAME_BYTES + 8, "%s", order);
    else
        snprintf(ret_name, CLUSTER_NAME_BYTES + 8, "%s.%zu.%zu", order, digits % 10, chunk % 10);
}

static int submit_chunk(cluster *self, const cluster_order *order, const size_t *numbers,
                        size_t count, slurm_handle *handle, didi_error *error)
{
    char name[CLUSTER_NAME_BYTES + 8];
    tool_words arguments = {0};
    const size_t chunk = numbers[0] / power_of(handle->digits);
    const size_t first = chunk * power_of(handle->digits);
    char *list = list_of(numbers, count, first);
    char *output = log_of(order->directory, chunk, handle->digits);
    int status = DIDI_OK;
    name_of(order->name, handle->digits, chunk, name);
    tool_add(&arguments, "%zu", first);
    tool_add(&arguments, "%s", order->worker);
    tool_add(&arguments, "worker");
    tool_add(&arguments, "%s", order->directory);
    const slurm_job job = {.name = name,
                           .array = list,
                           .output = output,
                           .directory = order->directory,
                           .tasks = 1,
                           .cores = order->cores,
                           .memory_bytes = order->memory_bytes,
                           .script = array_script,
                           .arguments = &arguments};
    if (list == NULL || output == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    else
        status = slurm_submit(self->own, &job, handle->chunks[handle->count].id, error);
    if (status == DIDI_OK)
        handle->chunks[handle->count++].number = chunk;
    free(list);
    free(output);
    tool_words_clear(&arguments);
    return status;
}

static int cancel_chunks(cluster *self, const slurm_handle *handle, didi_error *error)
{
    const char *ids[SLURM_CHUNKS_MAX];
    for (size_t i = 0; i < handle->count; i++)
        ids[i] = handle->chunks[i].id;
    return handle->count > 0 ? slurm_cancel(self->own, ids, handle->count, error) : DIDI_OK;
}

static int check_submission(const cluster_order *order, const size_t *numbers, size_t power,
                            didi_error *error)
{
    if (power < 10)
        return didi_fail(error, DIDI_CLUSTER, NULL,
                         "MaxArraySize of Slurm is too small for arrays of jobs");
    if (numbers[order->tasks - 1] >= SLURM_CHUNKS_MAX * power)
        return didi_fail(error, DIDI_CLUSTER, NULL,
                         "MaxArraySize of Slurm is too small for the task %zu",
                         numbers[order->tasks - 1]);
    return DIDI_OK;
}

static int array_submit(cluster *self, const cluster_order *order,
                        char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    slurm_handle handle = {.digits = slurm_digits(self->own)};
    const size_t power = power_of(handle.digits);
    didi_error ignored = {0};
    size_t *numbers = memory_zeroed(order->tasks, sizeof *numbers);
    if (numbers == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    memcpy(numbers, order->numbers, order->tasks * sizeof *numbers);
    qsort(numbers, order->tasks, sizeof *numbers, compare_numbers);
    int status = check_submission(order, numbers, power, error);
    for (size_t i = 0, end = 0; i < order->tasks && status == DIDI_OK; i = end) {
        for (end = i + 1; end < order->tasks && numbers[end] / power == numbers[i] / power;)
            end++;
        status = submit_chunk(self, order, numbers + i, end - i, &handle, error);
    }
    if (status == DIDI_OK)
        slurm_handle_print(&handle, ret_handle);
    else
        cancel_chunks(self, &handle, &ignored); /* what stays does no harm */
    free(numbers);
    return status;
}

/* ---- finding ---- */

typedef struct search {
    const char *name;
    slurm_handle handle;
} search;

static int found_job(void *context, const char *name, const char *id, didi_error *error)
{
    search *self = context;
    char known[CLUSTER_NAME_BYTES + 8];
    slurm_handle *handle = &self->handle;
    (void)error;
    for (size_t digits = 1; digits <= 4; digits++)
        for (size_t chunk = 0; chunk < SLURM_CHUNKS_MAX; chunk++) {
            size_t at = 0;
            name_of(self->name, digits, chunk, known);
            if (strcmp(known, name) != 0)
                continue;
            while (at < handle->count && handle->chunks[at].number != chunk)
                at++;
            if (at == handle->count) {
                handle->chunks[handle->count++].number = chunk;
                memset(handle->chunks[at].id, 0, SLURM_ID_BYTES);
            }
            handle->digits = chunk > 0 || handle->digits == 0 ? digits : handle->digits;
            if (strtoul(id, NULL, 10) > strtoul(handle->chunks[at].id, NULL, 10))
                snprintf(handle->chunks[at].id, SLURM_ID_BYTES, "%.11s", id); /* the last one */
            return DIDI_OK;
        }
    return DIDI_OK;
}

/* All names that jobs of the order can have, with commas. NULL when out of memory. */
static char *names_of(const char *order)
{
    char name[CLUSTER_NAME_BYTES + 8];
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    fputs(order, text_stream_file(stream));
    for (size_t digits = 1; digits <= 4; digits++)
        for (size_t chunk = 1; chunk < SLURM_CHUNKS_MAX; chunk++) {
            name_of(order, digits, chunk, name);
            fprintf(text_stream_file(stream), ",%s", name);
        }
    return text_stream_close(stream, NULL);
}

static int array_find(cluster *self, const cluster_order *order, bool *ret_found,
                      char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    search found = {.name = order->name};
    char *names = names_of(order->name);
    if (names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = slurm_list(self->own, names, found_job, &found, error);
    free(names);
    if (status != DIDI_OK)
        return status;
    *ret_found = found.handle.count > 0;
    if (*ret_found)
        slurm_handle_print(&found.handle, ret_handle);
    return DIDI_OK;
}

/* ---- states ---- */

typedef struct looking {
    const slurm_handle *handle;
    size_t power;
    size_t *places; /* of the task of a number, one more; 0: no task of the order */
    cluster_task *tasks;
} looking;

static int look_at(void *context, const char *id, const char *index, const cluster_task *task,
                   didi_error *error)
{
    const looking *self = context;
    size_t number = 0;
    (void)error;
    for (size_t i = 0; i < self->handle->count; i++) {
        if (strcmp(self->handle->chunks[i].id, id) != 0 || !tool_read_number(index, &number))
            continue;
        number += self->handle->chunks[i].number * self->power;
        if (number < CLUSTER_TASKS_MAX && self->places[number] > 0)
            self->tasks[self->places[number] - 1] = *task;
    }
    return DIDI_OK;
}

static int read_handle(const char *text, slurm_handle *ret_handle, didi_error *error)
{
    return slurm_handle_read(text, ret_handle)
               ? DIDI_OK
               : didi_fail(error, DIDI_CLUSTER, NULL, "'%s' is no handle of Slurm's jobs", text);
}

static int array_look(cluster *self, const cluster_order *order, const char *text,
                      cluster_task *ret_tasks, didi_error *error)
{
    slurm_handle handle;
    char ids[SLURM_CHUNKS_MAX * SLURM_ID_BYTES] = "";
    size_t used = 0;
    int status = read_handle(text, &handle, error);
    if (status != DIDI_OK)
        return status;
    looking it = {.handle = &handle, .power = power_of(handle.digits), .tasks = ret_tasks};
    it.places = memory_zeroed(CLUSTER_TASKS_MAX, sizeof *it.places);
    if (it.places == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    for (size_t i = 0; i < order->tasks; i++) {
        assert(order->numbers[i] < CLUSTER_TASKS_MAX);
        it.places[order->numbers[i]] = i + 1;
    }
    for (size_t i = 0; i < handle.count; i++)
        used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%s", i > 0 ? "," : "",
                                 handle.chunks[i].id);
    status = slurm_look(self->own, ids, look_at, &it, error);
    free(it.places);
    return status;
}

static int array_cancel(cluster *self, const cluster_order *order, const char *text,
                        didi_error *error)
{
    slurm_handle handle;
    int status = read_handle(text, &handle, error);
    (void)order;
    return status == DIDI_OK ? cancel_chunks(self, &handle, error) : status;
}

const executor_table executor_slurm = {.name = "slurm",
                                       .open = array_open,
                                       .close = array_close,
                                       .tasks_max = array_tasks_max,
                                       .submit = array_submit,
                                       .find = array_find,
                                       .look = array_look,
                                       .cancel = array_cancel};
