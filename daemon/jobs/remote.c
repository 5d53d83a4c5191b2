/* SPDX-License-Identifier: Apache-2.0 */
/* One merge on a cluster, on the loop: what is wanted goes out, what is there comes back. */
#include "daemon/jobs/remote.h"

#include "daemon/jobs/remote_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACK_OFF_SECONDS_MAX = 60, ITEMS_AT_ONCE = 4096 };

/* ---- made and freed ---- */

static int read_link(int fd, const char *name, char path[REMOTE_PATH_BYTES], didi_error *error)
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(fd >= 0 ? link : "/proc/self/exe", path, REMOTE_PATH_BYTES - 1);
    if (length <= 0)
        return didi_fail_errno(error, errno, name, "has no path");
    path[length] = '\0';
    return DIDI_OK;
}

/* Of a job that this one starts from or extends; whether it is there is found out by who opens it.
 */
static int make_paths(remote *self, const char *work, didi_error *error)
{
    const config *settings = self->owner->config;
    specification *wanted = NULL;
    size_t bytes = strlen(self->specification);
    int status = read_link(self->job_fd, "job", self->job_path, error);
    if (status == DIDI_OK && settings->worker_path != NULL)
        (void)snprintf(self->worker_path, sizeof self->worker_path, "%s", settings->worker_path);
    else if (status == DIDI_OK)
        status = read_link(-1, "didid", self->worker_path, error);
    if (status == DIDI_OK)
        status = specification_parse(self->specification, bytes, bytes, &wanted, error);
    if (status != DIDI_OK)
        return status;
    int length = snprintf(self->work_path, sizeof self->work_path, "%s/%s", self->job_path, work);
    char *state = memory_string(self->job_path); /* STATE/jobs/ID */
    for (int i = 0; i < 2 && state != NULL && strrchr(state, '/') != NULL; i++)
        *strrchr(state, '/') = '\0';
    if (specification_extends(wanted) && state != NULL)
        self->package = memory_format("%s/jobs/%s/artifacts", state, wanted->extend.job);
    if (wanted->from_job != NULL && state != NULL)
        self->reuse = memory_format("%s/kept/%s", state, wanted->from_job);
    bool lost = state == NULL || (specification_extends(wanted) && self->package == NULL) ||
                (wanted->from_job != NULL && self->reuse == NULL);
    specification_free(wanted);
    free(state);
    if (length >= REMOTE_PATH_BYTES)
        return didi_fail(error, DIDI_IO, work, "the path of the state directory is too long");
    return lost ? didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory") : DIDI_OK;
}

int remote_create(attempt *of, const char *merged, const char *work, remote **ret_remote,
                  didi_error *error)
{
    remote *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->of = of;
    self->owner = of->scheduler;
    self->merge = of->merge;
    self->job_fd = self->cluster_fd = -1;
    self->request.data = self;
    self->specification = memory_string(merged);
    int status = self->specification != NULL
                     ? files_open_job(self->owner, of->job.id, false, &self->job_fd, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = file_open_directory(self->job_fd, "cluster", 1, &self->cluster_fd, error);
    if (status == DIDI_OK)
        status = file_sync(self->job_fd, "job", error);
    if (status == DIDI_OK)
        status = make_paths(self, work, error);
    if (status == DIDI_OK)
        *ret_remote = self;
    else
        remote_free(self);
    return status;
}

static void free_orders(remote *self)
{
    while (self->orders != NULL) {
        remote_order *order = self->orders;
        self->orders = order->next;
        remote_order_free(order);
    }
    remote_order_free(self->untaken);
    self->untaken = NULL;
}

void remote_free(remote *self)
{
    if (self == NULL)
        return;
    assert(!self->working && self->count == 0);
    free_orders(self);
    file_close(self->job_fd);
    file_close(self->cluster_fd);
    free(self->items);
    free(self->specification);
    free(self->package);
    free(self->reuse);
    free(self);
}

/* ---- beside the loop ---- */

static void on_work(uv_work_t *request)
{
    remote *self = request->data;
    self->status = self->work(self, &self->error);
}

static void on_worked(uv_work_t *request, int uv_status)
{
    remote *self = request->data;
    scheduler *owner = self->owner;
    (void)uv_status; /* nothing is ever cancelled while queued */
    self->working = false;
    self->after(self);
    owner->advance(owner); /* the merge may have finished: `self` may be gone after this */
}

static void begin_work(remote *self, int (*work)(remote *self, didi_error *error),
                       void (*after)(remote *self))
{
    self->work = work;
    self->after = after;
    self->working = true;
    self->error = (didi_error){0};
    int refused = uv_queue_work(self->owner->loop, &self->request, on_work, on_worked);
    assert(refused == 0); /* only a missing callback is */
    (void)refused;
}

/* ---- items ---- */

static void complete_taken(remote *self)
{
    size_t left = 0;
    for (size_t i = 0; i < self->count; i++) {
        if (self->items[i].state != REMOTE_TAKEN) {
            self->items[left++] = self->items[i];
            continue;
        }
        metric_add(METRIC_ITEMS, NULL, 1);
        didi_merge_complete(self->merge, self->items[i].item);
    }
    self->count = left;
}

static void fail_last(remote *self, int status, const didi_error *error)
{
    didi_item *item = self->items[--self->count].item;
    didi_item_fail(item, status, error);
    didi_merge_complete(self->merge, item);
}

/* False where memory runs out: then at the next tick. */
static bool gather(remote *self)
{
    didi_item *item = NULL;
    for (size_t given = 0; given < ITEMS_AT_ONCE; given++) {
        if (self->count == self->room) {
            size_t room = 2 * self->room + 16;
            remote_item *grown = realloc(self->items, room * sizeof *grown);
            if (grown == NULL)
                return false;
            self->items = grown;
            self->room = room;
        }
        if (didi_merge_next_elsewhere(self->merge, &item) != DIDI_NEXT_ITEM)
            return true;
        self->row = didi_item_place(item);
        self->items[self->count++] =
            (remote_item){.item = item, .index = self->row.index, .state = REMOTE_WANTED};
    }
    return false; /* there may be more: the loop has other things to do as well */
}

static void remove_settled_orders(remote *self)
{
    for (remote_order **link = &self->orders; *link != NULL;) {
        remote_order *order = *link;
        size_t left = 0;
        for (size_t t = 0; t < order->count; t++)
            left += order->tasks[t].left;
        if (left > 0) {
            link = &order->next;
            continue;
        }
        *link = order->next;
        remote_order_remove(self, order);
    }
}

/* ---- what came of the work ---- */

static void note(remote *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(remote *self, const char *format, ...)
{
    char text[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    telemetry_note(self->of->telemetry, text);
}

/* A scheduler that does not answer is asked again, as long as it takes; all else fails the job. */
static bool goes_on(remote *self, int64_t *ret_next_ms)
{
    const int64_t now = clock_monotonic_ms();
    if (self->status == DIDI_OK) {
        if (self->refusals > 0)
            note(self, "%s answers again", cluster_name(self->owner->cluster));
        self->refusals = 0;
        return true;
    }
    if (self->status == DIDI_UNAVAILABLE) {
        size_t seconds = smaller(BACK_OFF_SECONDS_MAX, 1U << smaller(self->refusals, 6));
        if (self->refusals++ == 0)
            note(self, "waits for %s: %s", cluster_name(self->owner->cluster), self->error.message);
        *ret_next_ms = now + (int64_t)seconds * 1000;
        return false;
    }
    if (!didi_merge_is_over(self->merge) && self->count > 0)
        fail_last(self, self->status, &self->error); /* the first one says why the job fails */
    return false;
}

static void submit_after(remote *self)
{
    if (!goes_on(self, &self->submit_ms))
        return;
    size_t items = 0;
    for (size_t i = 0; i < self->count; i++)
        items += self->items[i].order == self->orders;
    note(self, "%zu items went to %s as %zu tasks: %s", items, cluster_name(self->owner->cluster),
         self->orders->count, self->orders->handle);
}

static void search_after(remote *self)
{
    if (!goes_on(self, &self->submit_ms))
        return;
    self->searched = true;
    for (const remote_order *order = self->orders; order != NULL; order = order->next)
        note(self, "goes on with %s on %s: %s", order->name, cluster_name(self->owner->cluster),
             order->handle);
}

static void count_tasks(remote *self)
{
    self->waiting = self->running = 0;
    for (const remote_order *order = self->orders; order != NULL; order = order->next)
        for (size_t t = 0; t < order->count; t++) {
            bool left = order->tasks[t].left > 0;
            self->waiting += left && order->seen[t].state == CLUSTER_WAITING;
            self->running += left && order->seen[t].state == CLUSTER_RUNNING;
        }
}

/* Why tasks wait, whenever that is another reason than at the look before. */
static void tell_reason(remote *self)
{
    if (self->reason[0] != '\0' && strcmp(self->told, self->reason) != 0)
        note(self, "waits for %s: %s", cluster_name(self->owner->cluster), self->reason);
    memcpy(self->told, self->reason, sizeof self->told);
}

static void look_after(remote *self)
{
    const int64_t now = clock_monotonic_ms();
    size_t tasks = 0;
    for (const remote_order *order = self->orders; order != NULL; order = order->next)
        tasks += order->count;
    uint64_t pause = larger(REMOTE_DONE_MILLISECONDS, 1000 * tasks / REMOTE_TASKS_PER_SECOND);
    self->done_ms = now + (int64_t)pause;
    complete_taken(self);
    if (self->asks_scheduler) {
        self->scheduler_ms = now + 1000 * (int64_t)self->owner->config->cluster_poll_seconds;
        tell_reason(self);
    }
    (void)goes_on(self, &self->scheduler_ms);
    count_tasks(self);
    remove_settled_orders(self);
}

/* Orders that cannot be ended stay as they are: their states are of this merge, and the next
 * attempt ends them before it begins. */
static void cancel_after(remote *self)
{
    self->cancelled = true;
    if (self->status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "tasks of a job may still run",
                 LOG_TEXT("job", self->of->job.id), LOG_TEXT("error", self->error.message));
}

/* ---- at every tick ---- */

/* When the daemon stops, orders go on: the next process finds them. */
static void end(remote *self)
{
    const didi_error why = {.status = DIDI_CANCELLED, .message = "cancelled"};
    bool stopping = atomic_load(&self->owner->stopping);
    if (!stopping && !self->cancelled && (self->orders != NULL || self->untaken != NULL)) {
        begin_work(self, remote_cancel_orders, cancel_after);
        return;
    }
    complete_taken(self);
    while (self->count > 0)
        fail_last(self, DIDI_CANCELLED, &why);
    free_orders(self);
}

void remote_count(const remote *self, size_t *waiting, size_t *running)
{
    *waiting += self->waiting;
    *running += self->running;
}

static bool has_wanted(const remote *self)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->items[i].state == REMOTE_WANTED)
            return true;
    return false;
}

void remote_tick(remote *self)
{
    const int64_t now = clock_monotonic_ms();
    if (self->working)
        return;
    if (didi_merge_is_over(self->merge)) {
        end(self);
        return;
    }
    if (!gather(self) || self->count == 0)
        return;
    if (!self->searched && now >= self->submit_ms) {
        begin_work(self, remote_search, search_after);
    } else if (self->searched && has_wanted(self) && now >= self->submit_ms) {
        begin_work(self, remote_submit, submit_after);
    } else if (self->orders != NULL && now >= self->done_ms) {
        self->asks_scheduler = now >= self->scheduler_ms;
        begin_work(self, remote_look, look_after);
    }
}
