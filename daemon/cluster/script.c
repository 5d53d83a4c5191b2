/* SPDX-License-Identifier: Apache-2.0 */
/* The executor command: three commands of the operator's. A handle is kept beside the order as
 * soon as it is known, so that the order is found after a death in between. */
#include "daemon/cluster/executor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCRIPT_EXIT_LATER = 75 /* EX_TEMPFAIL */, SCRIPT_STATUS_MAX = 255 };

typedef struct script {
    command submit, status, cancel;
} script;

static int script_open(cluster *self, didi_error *error)
{
    const config *settings = self->settings;
    script *own = memory_zeroed(1, sizeof *own);
    if (own == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->own = own;
    const struct {
        const char *text, *setting;
        command *to;
    } all[] = {{settings->command_submit, "command_submit", &own->submit},
               {settings->command_status, "command_status", &own->status},
               {settings->command_cancel, "command_cancel", &own->cancel}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int status =
            all[i].text == NULL
                ? didi_fail(error, DIDI_INVALID, all[i].setting, "%s is not set", all[i].setting)
                : executor_command_read(all[i].text, all[i].setting, all[i].to, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static void script_close(cluster *self)
{
    script *own = self->own;
    if (own == NULL)
        return;
    command_clear(&own->submit);
    command_clear(&own->status);
    command_clear(&own->cancel);
    free(own);
}

static size_t script_tasks_max(cluster *self)
{
    (void)self;
    return CLUSTER_TASKS_MAX;
}

/* ---- running ---- */

/* `handle` may be NULL. Errors: those of tool_run, and what exit codes say. */
static int run(cluster *self, const command *of, const char *what, const char *handle,
               const char *input, tool_answer *ret_answer, didi_error *error)
{
    tool_words words = {0};
    const tool_call call = {.what = what,
                            .program = of->program,
                            .words = &words,
                            .environment = &self->environment,
                            .input = input,
                            .seconds = self->settings->cluster_command_seconds};
    tool_add_command(&words, of);
    if (handle != NULL)
        tool_add(&words, "%s", handle);
    int status = tool_run(&call, ret_answer, error);
    tool_words_clear(&words);
    if (status == DIDI_OK && ret_answer->code != 0) {
        int failure = ret_answer->code == SCRIPT_EXIT_LATER ? DIDI_UNAVAILABLE : DIDI_CLUSTER;
        status = didi_fail(error, failure, NULL, "%s ended with exit code %d%s", what,
                           ret_answer->code, ret_answer->lines);
        tool_answer_clear(ret_answer);
    }
    return status;
}

/* ---- submission ---- */

/* The order as JSON. Caller frees; NULL when out of memory. */
static char *order_print(const cluster_order *order)
{
    json_t *tasks = json_array();
    int failed = tasks == NULL;
    for (size_t i = 0; i < order->tasks && !failed; i++)
        failed = json_array_append_new(tasks, json_integer((json_int_t)order->numbers[i]));
    json_t *document =
        json_pack("{s:s, s:s, s:s, s:[s,s,s,s], s:o, s:I, s:I}", "name", order->name, "directory",
                  order->directory, "worker", order->worker, "command", order->worker, "worker",
                  order->directory, "--task", "tasks", tasks, "cores", (json_int_t)order->cores,
                  "memory_bytes", (json_int_t)smaller(order->memory_bytes, INT64_MAX));
    char *text = document != NULL && !failed ? json_dumps(document, JSON_INDENT(1)) : NULL;
    json_decref(document);
    return text;
}

static char *note_of(const cluster_order *order)
{
    return memory_format("%s/%s.handle", order->directory, order->name);
}

static int note_write(const cluster_order *order, const char *handle, didi_error *error)
{
    char name[CLUSTER_NAME_BYTES + 8];
    int fd = open(order->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, order->directory, "cannot open");
    snprintf(name, sizeof name, "%s.handle", order->name);
    int status = file_write_durable(fd, name, handle, strlen(handle), error);
    close(fd);
    return status;
}

static int script_submit(cluster *self, const cluster_order *order,
                         char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    const script *own = self->own;
    tool_answer answer = {0};
    char *text = order_print(order);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = run(self, &own->submit, "command_submit", NULL, text, &answer, error);
    free(text);
    if (status != DIDI_OK)
        return status;
    const char *handle = text_trim(answer.output);
    if (tool_is_handle(handle))
        status = note_write(order, handle, error);
    else
        status = didi_fail(error, DIDI_CLUSTER, NULL,
                           "command_submit printed no handle (one line of A-Z, a-z, 0-9, '.', '_', "
                           "':' and '-'): %.100s",
                           handle);
    if (status == DIDI_OK)
        snprintf(ret_handle, CLUSTER_HANDLE_BYTES, "%s", handle);
    tool_answer_clear(&answer);
    return status;
}

static int script_find(cluster *self, const cluster_order *order, bool *ret_found,
                       char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    char *path = note_of(order);
    char *text = NULL;
    size_t bytes = 0;
    (void)self;
    if (path == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = file_read_text(AT_FDCWD, path, CLUSTER_HANDLE_BYTES - 1, &text, &bytes, error);
    free(path);
    if (status == DIDI_OK && (strlen(text) != bytes || !tool_is_handle(text)))
        status = didi_fail(error, DIDI_CLUSTER, order->name, "the handle that was kept is damaged");
    if (status == DIDI_OK)
        snprintf(ret_handle, CLUSTER_HANDLE_BYTES, "%s", text);
    free(text);
    if (status != DIDI_OK && status != DIDI_NOT_FOUND)
        return status == DIDI_FORMAT ? DIDI_CLUSTER : status;
    *ret_found = status == DIDI_OK;
    return DIDI_OK;
}

/* ---- states ---- */

static const char *const state_words[] = {
    [CLUSTER_WAITING] = "waiting", [CLUSTER_RUNNING] = "running", [CLUSTER_ENDED] = "ended",
    [CLUSTER_FAILED] = "failed",   [CLUSTER_KILLED] = "killed",   [CLUSTER_UNKNOWN] = "unknown"};
enum { STATE_COUNT = sizeof state_words / sizeof *state_words };

/* "I STATE [STATUS] [REASON]": a number behind the state is a status where it failed. */
static bool read_line(char *line, size_t *ret_number, cluster_task *ret_task)
{
    char *rest = NULL;
    const char *number = strtok_r(line, " \t", &rest);
    const char *state = strtok_r(NULL, " \t", &rest);
    size_t status = 0;
    if (number == NULL || state == NULL || !tool_read_number(number, ret_number))
        return false;
    size_t found = text_find(state_words, STATE_COUNT, state);
    if (found == STATE_COUNT)
        return false;
    *ret_task = (cluster_task){.state = (cluster_state)found};
    if (found == CLUSTER_FAILED) {
        const char *code = strtok_r(NULL, " \t", &rest);
        if (code == NULL || !tool_read_number(code, &status) || status == 0 ||
            status > SCRIPT_STATUS_MAX)
            return false;
        ret_task->status = (int)status;
    }
    if (rest != NULL)
        tool_reason(ret_task, "%s", text_trim(rest));
    return true;
}

static int read_states(char *text, const cluster_order *order, cluster_task *ret_tasks,
                       didi_error *error)
{
    char *rest = text;
    for (char *line = tool_next_line(&rest); line != NULL; line = tool_next_line(&rest)) {
        char shown[64];
        size_t number = 0;
        size_t at = 0;
        cluster_task task;
        snprintf(shown, sizeof shown, "%s", line);
        if (text_trim(line)[0] == '\0')
            continue;
        if (!read_line(line, &number, &task))
            return didi_fail(error, DIDI_CLUSTER, NULL,
                             "command_status printed something else than 'I STATE [STATUS] "
                             "[reason]': %s",
                             shown);
        while (at < order->tasks && order->numbers[at] != number)
            at++;
        if (at < order->tasks)
            ret_tasks[at] = task;
    }
    return DIDI_OK;
}

static int script_look(cluster *self, const cluster_order *order, const char *handle,
                       cluster_task *ret_tasks, didi_error *error)
{
    const script *own = self->own;
    tool_answer answer = {0};
    int status = run(self, &own->status, "command_status", handle, NULL, &answer, error);
    if (status != DIDI_OK)
        return status;
    status = read_states(answer.output, order, ret_tasks, error);
    tool_answer_clear(&answer);
    return status;
}

static int script_cancel(cluster *self, const cluster_order *order, const char *handle,
                         didi_error *error)
{
    const script *own = self->own;
    tool_answer answer = {0};
    (void)order;
    int status = run(self, &own->cancel, "command_cancel", handle, NULL, &answer, error);
    if (status == DIDI_OK)
        tool_answer_clear(&answer);
    return status;
}

const executor_table executor_command = {.name = "command",
                                         .whole_environment = true,
                                         .open = script_open,
                                         .close = script_close,
                                         .tasks_max = script_tasks_max,
                                         .submit = script_submit,
                                         .find = script_find,
                                         .look = script_look,
                                         .cancel = script_cancel};
