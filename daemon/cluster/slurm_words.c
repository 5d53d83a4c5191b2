/* SPDX-License-Identifier: Apache-2.0 */
/* What Slurm's words mean: states, exit codes, failures of its commands, our handles of its jobs.
 */
#include "daemon/cluster/slurm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLURM_SIGNAL_NO_OUTPUT = 53, /* what Slurm calls a task whose output could not be opened */
    SLURM_STATUS_NO_INPUT = 66,  /* the worker's codes: a file or directory is not there, */
    SLURM_STATUS_NO_MEMORY = 69, /* out of memory */
    SLURM_STATUS_TERMINATED = 128 + 15,
    SLURM_STATUS_NO_PROGRAM = 127,
    SLURM_STATUS_NOT_EXECUTABLE = 126,
};

/* Parts of what commands say where a later try may succeed (slurm_errno.c of 22.05). */
static const char *const passing[] = {
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "connection failure",
    "standby mode",
    "Zero Bytes were transmitted",
    "Message receive failure",
    "temporarily un",
    "Protocol authentication error",
    "Munge encode failed",
    "MaxSubmitJob",
    "Job submit limit",
    "cannot stat file",
    "Unable to resolve",
};

int slurm_judge(const char *said)
{
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (strcasestr(said, passing[i]) != NULL)
            return DIDI_UNAVAILABLE;
    return DIDI_CLUSTER;
}

/* ---- tasks ---- */

static const struct {
    const char *name;
    cluster_state state;
} states[] = {
    {"PENDING", CLUSTER_WAITING},      {"CONFIGURING", CLUSTER_WAITING},
    {"REQUEUED", CLUSTER_WAITING},     {"REQUEUE_FED", CLUSTER_WAITING},
    {"REQUEUE_HOLD", CLUSTER_WAITING}, {"RESV_DEL_HOLD", CLUSTER_WAITING},
    {"SPECIAL_EXIT", CLUSTER_WAITING}, {"RUNNING", CLUSTER_RUNNING},
    {"COMPLETING", CLUSTER_RUNNING},   {"SUSPENDED", CLUSTER_RUNNING},
    {"STOPPED", CLUSTER_RUNNING},      {"RESIZING", CLUSTER_RUNNING},
    {"SIGNALING", CLUSTER_RUNNING},    {"STAGE_OUT", CLUSTER_RUNNING},
    {"COMPLETED", CLUSTER_ENDED},      {"FAILED", CLUSTER_FAILED},
    {"TIMEOUT", CLUSTER_FAILED},       {"DEADLINE", CLUSTER_FAILED},
    {"OUT_OF_MEMORY", CLUSTER_FAILED}, {"CANCELLED", CLUSTER_KILLED},
    {"NODE_FAIL", CLUSTER_KILLED},     {"PREEMPTED", CLUSTER_KILLED},
    {"BOOT_FAIL", CLUSTER_KILLED},     {"LAUNCH_FAILED", CLUSTER_KILLED},
    {"RECONFIG_FAIL", CLUSTER_KILLED}, {"REVOKED", CLUSTER_KILLED},
};

/* A state of a later Slurm's is one that a task goes on from: nothing is lost by waiting. */
static cluster_state state_of(const char *name)
{
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(states[i].name, name) == 0)
            return states[i].state;
    return CLUSTER_WAITING;
}

/* "16896", a wait status as of 22.05, or "66:0", code and signal. */
static void read_exit_code(const char *text, int *ret_code, int *ret_signal)
{
    char *end = NULL;
    long first = strtol(text, &end, 10);
    *ret_code = (int)(first >> 8 & 0xff);
    *ret_signal = (int)(first & 0x7f);
    if (*end == ':') {
        *ret_code = (int)(first & 0xff);
        *ret_signal = (int)(strtol(end + 1, NULL, 10) & 0x7f);
    }
}

static void read_failure(const char *exit_code, const char *node, const char *reason,
                         cluster_task *task)
{
    int code = 0;
    int number = 0;
    read_exit_code(exit_code, &code, &number);
    task->status = number != 0 ? 128 + number : code;
    if (number == SLURM_SIGNAL_NO_OUTPUT) {
        task->status = SLURM_STATUS_NO_INPUT;
        tool_reason(task,
                    "the task's log could not be opened on %s: is the state directory on a file "
                    "system that the nodes share? (%s)",
                    node, reason);
    } else if (task->status == SLURM_STATUS_NO_PROGRAM ||
               task->status == SLURM_STATUS_NOT_EXECUTABLE) {
        tool_reason(task, "the program could not be run on %s: is worker_path right there? (%s)",
                    node, reason);
    } else {
        tool_reason(task, "%s on %s", reason, node);
    }
}

void slurm_read_task(const char *state, const char *exit_code, const char *node, const char *reason,
                     cluster_task *ret_task)
{
    *ret_task = (cluster_task){.state = state_of(state)};
    if (strcmp(reason, "None") == 0 && ret_task->state != CLUSTER_FAILED)
        reason = ret_task->state == CLUSTER_KILLED ? state : "";
    if (strcmp(state, "TIMEOUT") == 0 || strcmp(state, "DEADLINE") == 0) {
        ret_task->status = SLURM_STATUS_TERMINATED;
        tool_reason(ret_task,
                    "%s on %s: the task took longer than slurm_time, or the partition, gives it",
                    state, node);
    } else if (strcmp(state, "OUT_OF_MEMORY") == 0) {
        ret_task->status = SLURM_STATUS_NO_MEMORY;
        tool_reason(ret_task,
                    "%s on %s: the task took more than task_memory, or the default, "
                    "gives it",
                    state, node);
    } else if (ret_task->state == CLUSTER_FAILED) {
        read_failure(exit_code, node, reason, ret_task);
    } else if (ret_task->state == CLUSTER_KILLED) {
        tool_reason(ret_task, "%s%s%s on %s", state, strcmp(state, reason) == 0 ? "" : ", ",
                    strcmp(state, reason) == 0 ? "" : reason, node);
    } else if (ret_task->state == CLUSTER_WAITING) {
        bool known = strcmp(state, "PENDING") == 0;
        tool_reason(ret_task, "%s%s%s", known ? "" : state, known || reason[0] == '\0' ? "" : ", ",
                    reason);
    }
}

/* ---- handles ---- */

static bool read_chunk(char *text, slurm_handle *handle)
{
    char *id = strchr(text, '-');
    size_t number = 0;
    size_t chunk = 0;
    if (id == NULL || handle->count == SLURM_CHUNKS_MAX)
        return false;
    *id++ = '\0';
    if (!tool_read_number(text, &chunk) || chunk >= SLURM_CHUNKS_MAX ||
        !tool_read_number(id, &number))
        return false;
    handle->chunks[handle->count].number = chunk;
    snprintf(handle->chunks[handle->count++].id, SLURM_ID_BYTES, "%zu", number);
    return true;
}

bool slurm_handle_read(const char *text, slurm_handle *ret_handle)
{
    char copy[CLUSTER_HANDLE_BYTES];
    char *rest = NULL;
    slurm_handle handle = {.count = 0};
    size_t number = 0;
    if (!tool_is_handle(text))
        return false;
    if (tool_read_number(text, &number)) {
        handle.digits = 4; /* the first chunk holds all numbers of tasks */
        handle.count = 1;
        snprintf(handle.chunks[0].id, SLURM_ID_BYTES, "%zu", number);
        *ret_handle = handle;
        return true;
    }
    snprintf(copy, sizeof copy, "%s", text);
    if (copy[0] < '0' || copy[0] > '4' || copy[1] != ':')
        return false;
    handle.digits = (size_t)(copy[0] - '0');
    for (char *chunk = strtok_r(copy + 2, ".", &rest); chunk != NULL;
         chunk = strtok_r(NULL, ".", &rest))
        if (!read_chunk(chunk, &handle))
            return false;
    if (handle.count > 0)
        *ret_handle = handle;
    return handle.count > 0;
}

void slurm_handle_print(const slurm_handle *self, char ret_text[CLUSTER_HANDLE_BYTES])
{
    size_t used = 0;
    if (self->count == 1 && self->chunks[0].number == 0) {
        snprintf(ret_text, CLUSTER_HANDLE_BYTES, "%s", self->chunks[0].id);
        return;
    }
    used = (size_t)snprintf(ret_text, CLUSTER_HANDLE_BYTES, "%zu:", self->digits);
    for (size_t i = 0; i < self->count; i++)
        used += (size_t)snprintf(ret_text + used, CLUSTER_HANDLE_BYTES - used, "%s%zu-%s",
                                 i > 0 ? "." : "", self->chunks[i].number, self->chunks[i].id);
}
