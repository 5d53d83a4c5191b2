/* SPDX-License-Identifier: Apache-2.0 */
/* What became of tasks: states are taken up as soon as their tasks tell of them; the scheduler says
 * which tasks ended, and why. */
#include "daemon/jobs/remote_internal.h"
#include "src/base/base.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_BYTES_MAX = 16 << 20, LINE_BYTES = 400 };

static bool is_out(const remote_item *item, const remote_order *order, size_t task)
{
    return item->state == REMOTE_SENT && item->order == order && item->task == task;
}

/* ---- what tasks tell ---- */

typedef struct listening {
    remote *self;
    remote_order *order;
    size_t task;
    didi_usage last;
} listening;

static void hear(void *context, const worker_line *line)
{
    listening *of = context;
    of->last = line->usage;
    for (size_t i = 0; i < of->self->count; i++) {
        remote_item *item = &of->self->items[i];
        if (is_out(item, of->order, of->task) && item->index == line->item)
            item->told = true;
    }
}

/* A task that was begun again counts from the beginning. */
static void count_usage(remote *self, remote_task *task, const didi_usage *now)
{
    const didi_usage was = now->cpu_ns >= task->counted.cpu_ns ? task->counted : (didi_usage){0};
    const didi_usage more = {
        now->cpu_ns - was.cpu_ns, now->flops >= was.flops ? now->flops - was.flops : now->flops,
        now->bytes_read >= was.bytes_read ? now->bytes_read - was.bytes_read : now->bytes_read,
        now->peak_memory};
    didi_merge_add_usage(self->merge, &self->row, &more);
    task->counted = *now;
}

/* One that cannot be read yet stays as it is. */
static void take(remote_item *item)
{
    didi_error ignored = {0};
    if (didi_item_take(item->item, &ignored) != DIDI_OK)
        return;
    item->state = REMOTE_TAKEN;
    item->order->tasks[item->task].left--;
}

static int look_at_told(remote *self, remote_order *order, didi_error *error)
{
    for (size_t t = 0; t < order->count; t++) {
        listening of = {self, order, t, order->tasks[t].counted};
        if (order->tasks[t].left == 0)
            continue;
        int status = worker_read_done(order->fd, t, hear, &of, error);
        if (status != DIDI_OK)
            return status;
        count_usage(self, &order->tasks[t], &of.last);
    }
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].state == REMOTE_SENT && self->items[i].order == order &&
            self->items[i].told)
            take(&self->items[i]);
    return DIDI_OK;
}

/* ---- tasks that ended ---- */

/* The last line that a task said, without our own name and what no terminal should get. */
static void read_last_line(const remote_order *order, size_t task, char line[LINE_BYTES])
{
    static const char own[] = "didid worker: ";
    char name[WORKER_TASK_NAME_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    line[0] = '\0';
    worker_task_file(task, "log", name);
    if (file_read_text(order->fd, name, LOG_BYTES_MAX, &text, &bytes, NULL) != DIDI_OK)
        return;
    size_t end = strlen(text);
    while (end > 0 && isspace((unsigned char)text[end - 1]))
        end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    text[end] = '\0';
    const char *from = text + start;
    if (strncmp(from, own, sizeof own - 1) == 0)
        from += sizeof own - 1;
    (void)snprintf(line, LINE_BYTES, "%s", from);
    for (char *at = line; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = ' ';
    free(text);
}

/* Trying again helps where a machine, a disk or a moment was to blame; not where the input is. */
static bool may_help(int status)
{
    return status != DIDI_INVALID && status != DIDI_FORMAT && status != DIDI_CHANGED &&
           status != DIDI_MISMATCH && status != DIDI_DISK_FULL && status != DIDI_NUMERIC;
}

/* What a worker finds wrong with its node or its order is the cluster's fault, not the request's.
 */
static int status_of_job(int status)
{
    static const int own[] = {DIDI_CHANGED, DIDI_DISK_FULL,   DIDI_NO_MEMORY, DIDI_MEMORY_LIMIT,
                              DIDI_NUMERIC, DIDI_WORKER_LOST, DIDI_IO};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (status == own[i])
            return status;
    return DIDI_CLUSTER;
}

static int fail_task(const remote *self, const remote_order *order, size_t task, int status,
                     didi_error *error)
{
    const cluster_task *seen = &order->seen[task];
    char host[128];
    char line[LINE_BYTES];
    worker_read_host(order->fd, task, host, sizeof host);
    read_last_line(order, task, line);
    if (line[0] == '\0' && host[0] == '\0' && seen->reason[0] == '\0')
        (void)snprintf(line, sizeof line,
                       "it wrote nothing into %.150s: is that on a file system that the nodes "
                       "share, and is worker_path (%.100s) there?",
                       order->path, self->worker_path);
    return didi_fail(error, status_of_job(status), NULL, "task %zu of %s on %s%s%s: %s%s%s", task,
                     order->name, cluster_name(self->owner->cluster), host[0] != '\0' ? ", " : "",
                     host, seen->reason, seen->reason[0] != '\0' && line[0] != '\0' ? ": " : "",
                     line);
}

/* Items whose states are not there are given out again, or their task fails the job. */
static int give_again(remote *self, remote_order *order, size_t task, int status, didi_error *error)
{
    bool killed = status == DIDI_OK;
    bool fails = !killed && !may_help(status);
    for (size_t i = 0; i < self->count; i++) {
        remote_item *item = &self->items[i];
        if (!is_out(item, order, task))
            continue;
        metric_add(METRIC_CLUSTER_AGAIN, METRIC_LABELS(killed ? "killed" : "failed"), 1);
        item->kills += killed;
        item->tries += !killed;
        fails = fails || item->tries > self->owner->config->cluster_retries ||
                item->kills > REMOTE_KILLS_MAX;
        item->state = REMOTE_WANTED;
        item->order = NULL;
        item->told = false;
    }
    order->tasks[task].left = 0;
    order->failed = order->failed || !killed;
    return fails ? fail_task(self, order, task, killed ? DIDI_WORKER_LOST : status, error)
                 : DIDI_OK;
}

/* States are looked for once more before anything else is made of an end. */
static int settle(remote *self, remote_order *order, size_t task, didi_error *error)
{
    const cluster_task *seen = &order->seen[task];
    remote_task *of = &order->tasks[task];
    const int64_t now = clock_monotonic_ms();
    if (seen->state == CLUSTER_WAITING || seen->state == CLUSTER_RUNNING || of->settled)
        return DIDI_OK;
    if (of->ended_ms == 0)
        of->ended_ms = now;
    for (size_t i = 0; i < self->count; i++)
        if (is_out(&self->items[i], order, task))
            take(&self->items[i]);
    bool sure = seen->state == CLUSTER_FAILED || seen->state == CLUSTER_KILLED;
    if (of->left > 0 && !sure && now - of->ended_ms < REMOTE_GRACE_MILLISECONDS)
        return DIDI_OK;
    of->settled = true;
    if (of->left == 0)
        return DIDI_OK;
    int status = seen->state == CLUSTER_FAILED  ? worker_status(seen->status)
                 : seen->state == CLUSTER_ENDED ? DIDI_IO
                                                : DIDI_OK;
    if (status == DIDI_CANCELLED) /* by a signal that was not ours */
        status = DIDI_OK;
    return give_again(self, order, task, status, error);
}

/* The first reason of a task that waits. */
static void note_reason(remote *self, const remote_order *order)
{
    for (size_t t = 0; t < order->count; t++)
        if (order->seen[t].state == CLUSTER_WAITING && order->seen[t].reason[0] != '\0') {
            (void)snprintf(self->reason, sizeof self->reason, "%s", order->seen[t].reason);
            return;
        }
}

int remote_look(remote *self, didi_error *error)
{
    int status = DIDI_OK;
    self->reason[0] = '\0';
    for (remote_order *order = self->orders; order != NULL && status == DIDI_OK;
         order = order->next) {
        const cluster_order asked = remote_order_of(order, self->worker_path);
        status = look_at_told(self, order, error);
        if (status != DIDI_OK || !self->asks_scheduler)
            continue;
        const int64_t began = clock_monotonic_ms();
        status = cluster_look(self->owner->cluster, &asked, order->handle, order->seen, error);
        metric_observe(METRIC_CLUSTER_SECONDS, METRIC_LABELS("look"),
                       (double)(clock_monotonic_ms() - began) / 1000);
        if (status != DIDI_OK)
            continue;
        note_reason(self, order);
        for (size_t t = 0; t < order->count && status == DIDI_OK; t++)
            status = settle(self, order, t, error);
    }
    return status;
}
