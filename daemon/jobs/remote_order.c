/* SPDX-License-Identifier: Apache-2.0 */
/* Orders: items dealt to tasks by what they cost, left in a directory, submitted, found again,
 * ended.
 */
#include "daemon/jobs/remote_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ORDERS_MAX = INT_MAX, END_PAUSE_MILLISECONDS = 200, NUMBERS_MILLISECONDS = 100 };

cluster_order remote_order_of(const remote_order *order, const char *worker_path)
{
    return (cluster_order){.name = order->name,
                           .directory = order->path,
                           .worker = worker_path,
                           .tasks = order->count,
                           .numbers = order->numbers,
                           .cores = order->cores,
                           .memory_bytes = order->memory_bytes};
}

void remote_order_free(remote_order *order)
{
    if (order == NULL)
        return;
    file_close(order->fd);
    free(order->tasks);
    free(order->seen);
    free(order->numbers);
    free(order);
}

static void number_name(unsigned number, char name[16])
{
    (void)snprintf(name, 16, "%u", number);
}

void remote_order_remove(remote *self, remote_order *order)
{
    char name[16];
    number_name(order->number, name);
    if (order->failed)
        (void)file_write_durable(order->fd, "over", "", 0, NULL);
    else
        (void)file_remove_tree(self->cluster_fd, name, NULL);
    remote_order_free(order);
}

/* Room for `count` tasks, and the directory `number`, which is made if it is not there. */
static int order_open(int cluster_fd, const char *id, unsigned number, size_t count,
                      remote_order **ret_order, didi_error *error)
{
    char name[16];
    char link[64];
    remote_order *order = memory_zeroed(1, sizeof *order);
    if (order == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    order->fd = -1;
    order->number = number;
    order->cores = 1;
    order->count = count;
    order->tasks = memory_zeroed(count, sizeof *order->tasks);
    order->seen = memory_zeroed(count, sizeof *order->seen);
    order->numbers = memory_zeroed(count, sizeof *order->numbers);
    (void)snprintf(order->name, sizeof order->name, "didid-%s-%u", id, number);
    number_name(number, name);
    int status = order->tasks != NULL && order->seen != NULL && order->numbers != NULL
                     ? file_open_directory(cluster_fd, name, 1, &order->fd, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = file_sync(cluster_fd, "cluster", error);
    if (status != DIDI_OK)
        goto out;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", order->fd);
    ssize_t length = readlink(link, order->path, sizeof order->path - 1);
    if (length <= 0)
        status = didi_fail_errno(error, errno, name, "has no path");
    for (size_t i = 0; i < count; i++)
        order->numbers[i] = i;
out:
    if (status == DIDI_OK)
        *ret_order = order;
    else
        remote_order_free(order);
    return status;
}

/* ---- dealing ---- */

/* Items of one order: those that need as many cores. */
typedef struct deal {
    uint64_t *items; /* task by task */
    size_t *counts;
    size_t *task_of; /* of each item of the remote; SIZE_MAX: not in this order */
    double *loads;
    size_t tasks, cores;
    uint64_t memory; /* of a task's items together, bytes */
} deal;

static bool is_wanted(const remote_item *item)
{
    return item->state == REMOTE_WANTED;
}

/* What a task has to do where all have as much. */
static double fair_cost(const remote *self)
{
    double sum = 0;
    for (size_t i = 0; i < self->count; i++)
        sum += is_wanted(&self->items[i]) ? didi_item_cost(self->items[i].item) : 0;
    return sum / (double)self->owner->config->cluster_tasks;
}

/* An item that takes longer than all others together would hold the row up: idle cores help it.
 * Doubled, so that there are few kinds of tasks. */
static size_t cores_of(const remote *self, const remote_item *item, double fair)
{
    const config *settings = self->owner->config;
    size_t cores = settings->task_cores;
    if (!cluster_sizes_tasks(self->owner->cluster))
        return cores;
    while (2 * cores <= settings->task_cores_max &&
           didi_item_cost(item->item) > fair * (double)cores / (double)settings->task_cores)
        cores *= 2;
    return cores;
}

/* Heaviest first, each to the task with least to do: no task takes longer than the mean by more
 * than its last item. */
static void deal_items(const remote *self, deal *out)
{
    for (size_t i = 0; i < self->count; i++) {
        size_t least = 0;
        if (out->task_of[i] == SIZE_MAX)
            continue;
        for (size_t t = 1; t < out->tasks; t++)
            if (out->loads[t] < out->loads[least])
                least = t;
        out->loads[least] += didi_item_cost(self->items[i].item);
        out->task_of[i] = least;
        out->counts[least]++;
    }
    size_t at = 0;
    for (size_t t = 0; t < out->tasks; t++)
        for (size_t i = 0; i < self->count; i++)
            if (out->task_of[i] == t)
                out->items[at++] = self->items[i].index;
}

/* As many items at once as a task has cores, the largest among them; and what no merge is opened
 * without. */
static uint64_t memory_of(const remote *self, const deal *out)
{
    uint64_t largest = 0;
    uint64_t sum = 0;
    uint64_t count = 0;
    size_t most = 0;
    for (size_t i = 0; i < self->count; i++)
        if (out->task_of[i] != SIZE_MAX) {
            uint64_t item = didi_item_memory(self->items[i].item);
            largest = larger(largest, item);
            sum = memory_add(sum, item);
            count++;
        }
    for (size_t t = 0; t < out->tasks; t++)
        most = larger(most, out->counts[t]);
    uint64_t more = smaller(out->cores, most) - 1;
    uint64_t bytes = memory_add(largest, memory_multiply(more, sum / larger(count, 1)));
    return larger(bytes, didi_merge_plan(self->merge)->memory_minimum_bytes);
}

/* Those that need as many cores as the heaviest one that is wanted. */
static int deal_create(const remote *self, deal *out, didi_error *error)
{
    const double fair = fair_cost(self);
    const config *settings = self->owner->config;
    size_t most = smaller(settings->cluster_tasks, cluster_tasks_max(self->owner->cluster));
    size_t count = 0;
    *out = (deal){.items = memory_zeroed(self->count, sizeof *out->items),
                  .counts = memory_zeroed(self->count, sizeof *out->counts),
                  .task_of = memory_zeroed(self->count, sizeof *out->task_of),
                  .loads = memory_zeroed(self->count, sizeof *out->loads)};
    if (out->items == NULL || out->counts == NULL || out->task_of == NULL || out->loads == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    for (size_t i = 0; i < self->count; i++) {
        const remote_item *item = &self->items[i];
        size_t cores = is_wanted(item) ? cores_of(self, item, fair) : 0;
        if (out->cores == 0)
            out->cores = cores;
        out->task_of[i] = cores > 0 && cores == out->cores ? 0 : SIZE_MAX;
        count += out->task_of[i] == 0;
    }
    assert(count > 0);
    most = larger(most * settings->task_cores / out->cores, 1);
    out->tasks = smaller(smaller(count, most), WORKER_TASKS_MAX);
    deal_items(self, out);
    out->memory = memory_of(self, out);
    return DIDI_OK;
}

static void deal_clear(deal *self)
{
    free(self->items);
    free(self->counts);
    free(self->task_of);
    free(self->loads);
}

/* ---- submitting ---- */

/* What the process takes besides its items is no item's. */
static int write_order(const remote *self, remote_order *order, const deal *dealt,
                       didi_error *error)
{
    const config *settings = self->owner->config;
    uint64_t limit = dealt->memory;
    order->cores = dealt->cores;
    order->memory_bytes = memory_add(limit, REMOTE_PROCESS_BYTES);
    if (settings->task_memory > 0) {
        order->memory_bytes = settings->task_memory;
        limit = settings->task_memory > 2 * REMOTE_PROCESS_BYTES
                    ? settings->task_memory - REMOTE_PROCESS_BYTES
                    : settings->task_memory / 2;
    }
    const worker_order wanted = {.specification = self->specification,
                                 .models = (const char *const *)settings->models,
                                 .model_count = settings->model_count,
                                 .work = self->work_path,
                                 .package = self->package,
                                 .reuse = self->reuse,
                                 .memory_limit = limit,
                                 .cores = dealt->cores,
                                 .round = self->row.round,
                                 .row = self->row.row,
                                 .items = dealt->items,
                                 .task_counts = dealt->counts,
                                 .task_count = dealt->tasks};
    return worker_order_write(order->fd, &wanted, error);
}

static int save_handle(const remote_order *order, didi_error *error)
{
    return file_write_durable(order->fd, "handle", order->handle, strlen(order->handle), error);
}

static void send_item(remote_item *item, remote_order *order, size_t task)
{
    item->state = REMOTE_SENT;
    item->order = order;
    item->task = task;
    order->tasks[task].left++;
}

/* Items that are out belong to the order. */
static void adopt(remote *self, remote_order *order)
{
    order->next = self->orders;
    self->orders = order;
    self->scheduler_ms =
        clock_monotonic_ms() + 1000 * (int64_t)self->owner->config->cluster_poll_seconds;
    self->done_ms = 0;
}

/* What an order was of, as its directory has it. */
typedef struct left_order {
    const char *work; /* and of which row it should be */
    didi_place row;
    bool ours;
    worker_tasks tasks;
} left_order;

static void left_clear(left_order *self)
{
    free(self->tasks.items);
    free(self->tasks.first);
}

static int send_order(remote *self, remote_order *order, didi_error *error)
{
    const cluster_order asked = remote_order_of(order, self->worker_path);
    const int64_t began = clock_monotonic_ms();
    int status = cluster_submit(self->owner->cluster, &asked, order->handle, error);
    metric_observe(METRIC_CLUSTER_SECONDS, METRIC_LABELS("submit"),
                   (double)(clock_monotonic_ms() - began) / 1000);
    metric_add(METRIC_CLUSTER_ORDERS, NULL, status == DIDI_OK);
    return status;
}

/* Those of its items that are wanted now are out. */
static void take_up(remote *self, remote_order *order, const worker_tasks *tasks)
{
    size_t task = 0;
    for (size_t at = 0; at < tasks->first[tasks->count]; at++) {
        while (at >= tasks->first[task + 1])
            task++;
        for (size_t i = 0; i < self->count; i++)
            if (self->items[i].index == tasks->items[at] && is_wanted(&self->items[i]))
                send_item(&self->items[i], order, task);
    }
    adopt(self, order);
}

/* The scheduler may have taken it although it did not answer: it is asked for the name first, and
 * then given the same name, which is one order however often it comes. */
static int submit_again(remote *self, didi_error *error)
{
    remote_order *order = self->untaken;
    const cluster_order asked = remote_order_of(order, self->worker_path);
    left_order left = {.work = self->work_path, .row = self->row};
    bool found = false;
    int status =
        worker_order_tasks(order->fd, left.work, &left.row, &left.ours, &left.tasks, error);
    if (status == DIDI_OK && !left.ours)
        status = didi_fail(error, DIDI_CLUSTER, order->name,
                           "the order was replaced while it waited for the scheduler");
    if (status == DIDI_OK)
        status = cluster_find(self->owner->cluster, &asked, &found, order->handle, error);
    if (status == DIDI_OK && !found)
        status = send_order(self, order, error);
    if (status == DIDI_OK)
        status = save_handle(order, error);
    if (status == DIDI_OK)
        take_up(self, order, &left.tasks);
    else if (status != DIDI_UNAVAILABLE)
        remote_order_free(order);
    if (status != DIDI_UNAVAILABLE)
        self->untaken = NULL;
    left_clear(&left);
    return status;
}

int remote_submit(remote *self, didi_error *error)
{
    remote_order *order = NULL;
    deal dealt = {0};
    if (self->untaken != NULL)
        return submit_again(self, error);
    int status = deal_create(self, &dealt, error);
    if (status == DIDI_OK)
        status = order_open(self->cluster_fd, self->of->job.id, self->next_number, dealt.tasks,
                            &order, error);
    if (status == DIDI_OK)
        status = write_order(self, order, &dealt, error);
    if (status != DIDI_OK)
        goto out;
    self->next_number++;
    status = send_order(self, order, error);
    if (status == DIDI_UNAVAILABLE) {
        self->untaken = order;
        order = NULL;
    }
    if (status == DIDI_OK)
        status = save_handle(order, error); /* without it, it is found by its name */
    if (status != DIDI_OK)
        goto out;
    for (size_t i = 0; i < self->count; i++)
        if (dealt.task_of[i] != SIZE_MAX)
            send_item(&self->items[i], order, dealt.task_of[i]);
    adopt(self, order);
    order = NULL;
out:
    remote_order_free(order);
    deal_clear(&dealt);
    return status;
}

/* ---- orders of an earlier process ---- */

typedef struct order_list {
    unsigned *numbers;
    size_t count, room;
} order_list;

static int list_number(void *context, const char *name, didi_error *error)
{
    order_list *self = context;
    char *end = NULL;
    unsigned long number = strtoul(name, &end, 10);
    if (*end != '\0' || name[0] < '0' || name[0] > '9' || number >= ORDERS_MAX)
        return DIDI_OK;
    if (self->count == self->room) {
        size_t room = 2 * self->room + 16;
        unsigned *grown = realloc(self->numbers, room * sizeof *grown);
        if (grown == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        self->numbers = grown;
        self->room = room;
    }
    self->numbers[self->count++] = (unsigned)number;
    return DIDI_OK;
}

/* With its handle. *ret_order is NULL where it is over or was never submitted. */
static int find_order(const scheduler *owner, int cluster_fd, const char *id, unsigned number,
                      left_order *left, remote_order **ret_order, didi_error *error)
{
    remote_order *order = NULL;
    char name[16];
    char *text = NULL;
    size_t bytes = 0;
    int fd = -1;
    bool found = true;
    *ret_order = NULL;
    number_name(number, name);
    int status = file_open_directory(cluster_fd, name, 0, &fd, error);
    if (status != DIDI_OK)
        return status;
    /* It was whole before it was submitted. */
    if (faccessat(fd, "over", F_OK, 0) == 0 ||
        worker_order_tasks(fd, left->work, &left->row, &left->ours, &left->tasks, error) != DIDI_OK)
        goto out;
    status = order_open(cluster_fd, id, number, left->tasks.count, &order, error);
    if (status != DIDI_OK)
        goto out;
    if (file_read_text(order->fd, "handle", CLUSTER_HANDLE_BYTES - 1, &text, &bytes, NULL) ==
        DIDI_OK) {
        (void)snprintf(order->handle, sizeof order->handle, "%s", text);
    } else {
        const cluster_order asked = remote_order_of(order, "");
        status = cluster_find(owner->cluster, &asked, &found, order->handle, error);
    }
    if (status == DIDI_OK && found) {
        *ret_order = order;
        order = NULL;
    }
out:
    free(text);
    file_close(fd);
    remote_order_free(order);
    return status;
}

static bool is_gone(const cluster_task *tasks, size_t count)
{
    bool gone = true;
    for (size_t i = 0; i < count; i++)
        gone = gone && tasks[i].state != CLUSTER_WAITING && tasks[i].state != CLUSTER_RUNNING;
    return gone;
}

static int end_order(const scheduler *owner, remote_order *order, didi_error *error)
{
    const cluster_order asked = remote_order_of(order, "");
    const int64_t until = clock_monotonic_ms() + REMOTE_END_MILLISECONDS;
    int status = cluster_cancel(owner->cluster, &asked, order->handle, error);
    while (status == DIDI_OK) {
        status = cluster_look(owner->cluster, &asked, order->handle, order->seen, error);
        if (status == DIDI_OK && is_gone(order->seen, order->count))
            return file_write_durable(order->fd, "over", "", 0, error);
        if (status == DIDI_OK && clock_monotonic_ms() > until)
            status = didi_fail(error, DIDI_UNAVAILABLE, order->name,
                               "%s was cancelled %d s ago, and its tasks are not gone", order->name,
                               REMOTE_END_MILLISECONDS / 1000);
        clock_pause_ms(END_PAUSE_MILLISECONDS);
    }
    return status;
}

/* One that the scheduler may have taken. */
static int end_untaken(const remote *self, didi_error *error)
{
    remote_order *order = self->untaken;
    bool found = false;
    if (order == NULL)
        return DIDI_OK;
    const cluster_order asked = remote_order_of(order, "");
    int status = cluster_find(self->owner->cluster, &asked, &found, order->handle, error);
    return status == DIDI_OK && found ? end_order(self->owner, order, error) : status;
}

int remote_cancel_orders(remote *self, didi_error *error)
{
    int status = end_untaken(self, error);
    for (remote_order *order = self->orders; order != NULL; order = order->next) {
        didi_error why = {0};
        int ended = end_order(self->owner, order, &why);
        if (ended != DIDI_OK && status == DIDI_OK) {
            status = ended;
            *error = why;
        }
    }
    return status;
}

static int search_one(remote *self, unsigned number, didi_error *error)
{
    remote_order *order = NULL;
    left_order left = {.work = self->work_path, .row = self->row};
    int status =
        find_order(self->owner, self->cluster_fd, self->of->job.id, number, &left, &order, error);
    if (status == DIDI_OK && order != NULL && left.ours) {
        take_up(self, order, &left.tasks);
        order = NULL;
    } else if (status == DIDI_OK && order != NULL) {
        status = end_order(self->owner, order, error);
    }
    remote_order_free(order);
    left_clear(&left);
    return status;
}

int remote_search(remote *self, didi_error *error)
{
    order_list list = {0};
    int status = file_each_entry(self->cluster_fd, list_number, &list, error);
    /* Directories go when their orders are over, and no name may come twice: tenths of seconds, as
     * no order is over in one. */
    const int64_t age = clock_now_ms() - self->of->job.created_ms;
    if (age / NUMBERS_MILLISECONDS > (int64_t)self->next_number)
        self->next_number = (unsigned)smaller((uint64_t)age / NUMBERS_MILLISECONDS, ORDERS_MAX / 2);
    for (size_t i = 0; i < list.count && status == DIDI_OK; i++) {
        if (list.numbers[i] >= self->next_number)
            self->next_number = list.numbers[i] + 1;
        status = search_one(self, list.numbers[i], error);
    }
    free(list.numbers);
    return status;
}

int remote_end_orders(const scheduler *owner, const char *id, int job_fd, didi_error *error)
{
    order_list list = {0};
    int cluster_fd = -1;
    if (owner->cluster == NULL || faccessat(job_fd, "cluster", F_OK, 0) != 0)
        return DIDI_OK;
    int status = file_open_directory(job_fd, "cluster", 0, &cluster_fd, error);
    if (status != DIDI_OK)
        return status;
    status = file_each_entry(cluster_fd, list_number, &list, error);
    for (size_t i = 0; i < list.count && status == DIDI_OK; i++) {
        remote_order *order = NULL;
        left_order left = {.work = ""};
        status = find_order(owner, cluster_fd, id, list.numbers[i], &left, &order, error);
        if (status == DIDI_OK && order != NULL)
            status = end_order(owner, order, error);
        remote_order_free(order);
        left_clear(&left);
    }
    free(list.numbers);
    close(cluster_fd);
    return status;
}
