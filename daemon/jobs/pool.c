/* SPDX-License-Identifier: Apache-2.0 */
/* Fair dispatch of items to the libuv pool. */
#include "daemon/jobs/pool.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { POOL_NICE = 10 };

struct pool_lane {
    pool_lane *next;
    didi_merge *merge;
    int priority;
    size_t in_flight, helpers; /* helpers are counted in in_flight too */
    uint64_t served;           /* pool's turn when it was last given a thread */
    uint64_t moves;            /* items begun and ended */
    bool asked;                /* had nothing to give in this round */
    void (*finished)(void *context);
    void *context;
};

typedef struct pool_work {
    struct pool_work *next; /* of tasks that wait */
    uv_work_t request;
    pool *pool;
    pool_lane *lane; /* NULL for a task */
    didi_item *item;
    uint64_t memory;
    bool helper;
    void (*run)(void *context);
    void (*after)(void *context);
    void *context;
} pool_work;

struct pool {
    uv_loop_t *loop;
    pthread_t thread; /* the loop's */
    size_t workers, in_flight, helpers;
    uint64_t memory_limit, memory_used, turn;
    pool_lane *lanes;
    pool_work *tasks, *last_task;
    bool pumping, paused;
};

static void tell_load(const pool *self)
{
    metric_set(METRIC_WORKERS_BUSY, NULL, (double)smaller(self->in_flight, self->workers));
    metric_set(METRIC_MEMORY_USED, NULL, (double)self->memory_used);
}

/* What libuv starts at its first use. */
static size_t uv_threads(void)
{
    const char *size = getenv("UV_THREADPOOL_SIZE");
    return size != NULL ? strtoul(size, NULL, 10) : 4;
}

static bool on_loop(const pool *self)
{
    return pthread_equal(self->thread, pthread_self()) != 0;
}

int pool_create(uv_loop_t *loop, size_t workers, uint64_t memory_limit, pool **ret_pool,
                didi_error *error)
{
    pool *self = memory_zeroed(1, sizeof *self);
    assert(workers > 0 && workers <= uv_threads());
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->loop = loop;
    self->thread = pthread_self();
    self->workers = workers;
    self->memory_limit = memory_limit;
    metric_set(METRIC_WORKERS, NULL, (double)workers);
    metric_set(METRIC_MEMORY_LIMIT, NULL, (double)memory_limit);
    tell_load(self);
    *ret_pool = self;
    return DIDI_OK;
}

void pool_free(pool *self)
{
    if (self == NULL)
        return;
    assert(self->in_flight == 0 && self->lanes == NULL && self->tasks == NULL);
    free(self);
}

size_t pool_in_flight(const pool *self)
{
    size_t count = self->in_flight;
    for (const pool_work *task = self->tasks; task != NULL; task = task->next)
        count++;
    return count;
}

size_t pool_items(const pool *self, const didi_merge *merge, uint64_t *ret_moves)
{
    for (const pool_lane *lane = self->lanes; lane != NULL; lane = lane->next)
        if (lane->merge == merge) {
            *ret_moves = lane->moves;
            return lane->in_flight;
        }
    *ret_moves = 0;
    return 0;
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void pool_close_handles(uv_loop_t *loop)
{
    uv_walk(loop, close_handle, NULL);
}

/* So that requests are answered while merges run. */
static void lower_thread_priority(void)
{
    /* On Linux a nice value belongs to a thread. A refusal costs nothing but latency. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), POOL_NICE);
}

void pool_pause(pool *self, bool paused)
{
    assert(on_loop(self));
    self->paused = paused;
}

void pool_recall_helpers(pool *self)
{
    assert(on_loop(self));
    for (pool_lane *lane = self->lanes; lane != NULL; lane = lane->next)
        if (lane->helpers > 0)
            didi_merge_recall_helpers(lane->merge);
}

static void on_work(uv_work_t *request)
{
    pool_work *work = request->data;
    lower_thread_priority();
    if (work->item != NULL)
        didi_item_execute(work->item);
    else
        work->run(work->context);
}

static void on_worked(uv_work_t *request, int uv_status)
{
    pool_work *work = request->data;
    pool *self = work->pool;
    (void)uv_status; /* nothing is ever cancelled while queued */
    self->in_flight--;
    self->memory_used -= work->memory;
    tell_load(self);
    if (work->lane != NULL) {
        work->lane->in_flight--;
        work->lane->moves++;
        work->lane->helpers -= work->helper;
        self->helpers -= work->helper;
        metric_add(METRIC_ITEMS, NULL, work->helper ? 0 : 1);
        didi_merge_complete(work->lane->merge, work->item);
    } else {
        work->after(work->context);
    }
    free(work);
    pool_pump(self);
}

static void pool_start(pool *self, pool_work *work)
{
    work->pool = self;
    work->request.data = work;
    self->in_flight++;
    tell_load(self);
    int refused = uv_queue_work(self->loop, &work->request, on_work, on_worked);
    assert(refused == 0); /* only a missing callback is */
    (void)refused;
}

int pool_add(pool *self, didi_merge *merge, int priority, void (*finished)(void *context),
             void *context, didi_error *error)
{
    pool_lane *lane = memory_zeroed(1, sizeof *lane);
    assert(on_loop(self) && merge != NULL && finished != NULL);
    if (lane == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    lane->merge = merge;
    lane->priority = priority;
    lane->finished = finished;
    lane->context = context;
    lane->next = self->lanes;
    self->lanes = lane;
    return DIDI_OK;
}

int pool_task(pool *self, void (*work)(void *context), void (*after)(void *context), void *context,
              didi_error *error)
{
    pool_work *task = memory_zeroed(1, sizeof *task);
    assert(on_loop(self) && work != NULL && after != NULL);
    if (task == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    task->run = work;
    task->after = after;
    task->context = context;
    if (self->last_task != NULL)
        self->last_task->next = task;
    else
        self->tasks = task;
    self->last_task = task;
    return DIDI_OK;
}

static void lane_finish(pool *self, pool_lane *lane)
{
    pool_lane **link = &self->lanes;
    assert(lane->in_flight == 0);
    while (*link != lane)
        link = &(*link)->next;
    *link = lane->next;
    void (*finished)(void *) = lane->finished;
    void *context = lane->context;
    free(lane);
    finished(context);
}

static bool lane_goes_before(const pool_lane *a, const pool_lane *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (a->in_flight != b->in_flight)
        return a->in_flight < b->in_flight;
    return a->served < b->served;
}

static pool_lane *lane_pick(pool *self)
{
    pool_lane *best = NULL;
    for (pool_lane *lane = self->lanes; lane != NULL; lane = lane->next)
        if (!lane->asked && (best == NULL || lane_goes_before(lane, best)))
            best = lane;
    return best;
}

static uint64_t memory_left(const pool *self)
{
    if (self->memory_used == 0)
        return UINT64_MAX;
    return self->memory_used < self->memory_limit ? self->memory_limit - self->memory_used : 0;
}

/* Starts one item of the lane; false when there was none and the lane has been marked or removed.
 * *ret_starving: the lane waits for nothing but memory. */
static bool lane_serve(pool *self, pool_lane *lane, bool helper, bool *ret_starving)
{
    pool_work *work = memory_zeroed(1, sizeof *work);
    didi_item *item = NULL;
    if (work == NULL) { /* tried again when the next item comes back */
        lane->asked = true;
        return false;
    }
    const didi_next next = didi_merge_next(lane->merge, memory_left(self), helper, &item);
    if (next != DIDI_NEXT_ITEM) {
        free(work);
        lane->asked = true;
        if (next == DIDI_NEXT_FINISHED)
            lane_finish(self, lane);
        else
            *ret_starving = lane->in_flight == 0 && self->memory_used > 0;
        return false;
    }
    work->lane = lane;
    work->item = item;
    work->helper = helper;
    work->memory = didi_item_memory(item);
    lane->in_flight++;
    lane->moves++;
    lane->helpers += helper;
    lane->served = ++self->turn;
    self->helpers += helper;
    self->memory_used += work->memory;
    pool_start(self, work);
    return true;
}

/* Those that may be asked for items. */
static void lanes_unmark(pool *self)
{
    for (pool_lane *lane = self->lanes; lane != NULL; lane = lane->next)
        lane->asked = self->paused && !didi_merge_is_over(lane->merge);
}

static void pump_tasks(pool *self)
{
    while (self->tasks != NULL && self->in_flight < self->workers) {
        pool_work *task = self->tasks;
        self->tasks = task->next;
        if (self->tasks == NULL)
            self->last_task = NULL;
        pool_start(self, task);
    }
}

/* Gives items to free threads; `allowed` may be one more than there are threads. */
static void pump_items(pool *self, size_t allowed)
{
    bool starving = false;
    lanes_unmark(self);
    while (self->in_flight < allowed && !starving) {
        pool_lane *lane = lane_pick(self);
        if (lane == NULL)
            break;
        lane_serve(self, lane, false, &starving);
    }
}

static void pump_helpers(pool *self)
{
    bool starving = false;
    lanes_unmark(self);
    while (self->in_flight < self->workers) {
        pool_lane *lane = lane_pick(self);
        if (lane == NULL)
            break;
        if (lane->in_flight == lane->helpers)
            lane->asked = true; /* nothing to help with */
        else
            lane_serve(self, lane, true, &starving);
    }
}

void pool_pump(pool *self)
{
    assert(on_loop(self));
    if (self->pumping)
        return;
    self->pumping = true;
    pump_tasks(self);
    pump_items(self, self->workers);
    pump_tasks(self); /* finished lanes may have left some */
    if (self->helpers > 0 && self->in_flight == self->workers) {
        /* Is there better use for the helpers' threads? One item is queued to find out. */
        pump_items(self, self->workers + 1);
        if (self->in_flight > self->workers || self->tasks != NULL)
            pool_recall_helpers(self);
    }
    pump_helpers(self);
    self->pumping = false;
}
