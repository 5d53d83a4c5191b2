/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: the owner's merge opened anew, and threads that run the items of a task. */
#include "daemon/worker/worker.h"

#include "daemon/base/base.h"
#include "daemon/models/models.h"
#include "daemon/worker/order.h"
#include "src/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SEEN_ATTEMPTS_MAX = 30,
    SEEN_PAUSE_MILLISECONDS = 500
}; /* until states of others are seen */

struct worker {
    int directory_fd;
    work_order order;
    model_roots *roots;
    specification *specification;
    inputs *inputs;
    didi_merge *merge;
    pthread_mutex_t lock; /* of the merge and of what follows */
    pthread_cond_t changed;
    atomic_bool cancelled;

    /* The task that runs. */
    int done_fd;
    didi_usage before;
    const uint64_t *items;
    size_t count, running;
    enum { ITEM_WANTED, ITEM_BEGUN, ITEM_THERE } * state;
    bool unseen; /* states of earlier rows are not there */
    int status;
    didi_error error;
};

/* ---- opening ---- */

static int check_owner(const work_order *of, didi_error *error)
{
    didi_blas_info blas = {0};
    didi_blas_describe(&blas);
    if (strcmp(of->version, didi_version()) != 0)
        return didi_fail(
            error, DIDI_MISMATCH, NULL,
            "this is didid %s, and the job runs with %s: install the same on all nodes",
            didi_version(), of->version);
    if (strcmp(of->kernel, blas.kernel) != 0)
        return didi_fail(
            error, DIDI_MISMATCH, NULL,
            "OpenBLAS takes its kernel %s here, and %s where the job runs: start didid "
            "with OPENBLAS_CORETYPE set to one that all nodes have",
            blas.kernel, of->kernel);
    if (strcmp(of->blas, blas.version) != 0)
        return didi_fail(error, DIDI_MISMATCH, NULL,
                         "this is %s, and the job runs with %s: install the same on all nodes",
                         blas.version, of->blas);
    return DIDI_OK;
}

/* What is not there, on a machine that should share a file system with the owner's. */
static int not_shared(const char *path, int status, didi_error *error)
{
    if (status != DIDI_NOT_FOUND)
        return status;
    char host[256] = "this machine";
    (void)gethostname(host, sizeof host - 1);
    return didi_fail(error, DIDI_NOT_FOUND, path,
                     "%s is not there on %s: is it on a file system that the nodes share?", path,
                     host);
}

static int open_path(const char *path, int *ret_fd, didi_error *error)
{
    int status = file_open_directory(AT_FDCWD, path, 0, ret_fd, error);
    return status == DIDI_OK ? status : not_shared(path, status, error);
}

static int open_inputs(worker *self, didi_error *error)
{
    const work_order *of = &self->order;
    size_t bytes = strlen(of->specification);
    int status = model_roots_open(of->models, of->model_count, &self->roots, error);
    if (status == DIDI_NOT_FOUND)
        return not_shared(error->subject, status, error);
    if (status == DIDI_OK)
        status = specification_parse(of->specification, bytes, bytes, &self->specification, error);
    if (status == DIDI_OK)
        status = inputs_create(self->roots, self->specification, &self->inputs, error);
    return status;
}

void worker_pin_kernel(const char *directory, char **argv)
{
    static const char variable[] = "OPENBLAS_CORETYPE";
    static const char guard[] = "DIDID_WORKER_PINNED";
    work_order of = {0};
    int fd = -1;
    const char *set = getenv(variable);
    if (getenv(guard) != NULL || file_open_directory(AT_FDCWD, directory, 0, &fd, NULL) != DIDI_OK)
        return;
    if (order_read(fd, &of, NULL) == DIDI_OK && of.coretype != NULL &&
        (set == NULL || strcmp(set, of.coretype) != 0) && setenv(variable, of.coretype, 1) == 0 &&
        setenv(guard, "1", 1) == 0)
        (void)execv("/proc/self/exe", argv); /* or go on, and be told that kernels differ */
    order_clear(&of);
    close(fd);
}

int worker_open(const char *directory, worker **ret_worker, didi_error *error)
{
    worker *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->directory_fd = self->done_fd = -1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    int status = open_path(directory, &self->directory_fd, error);
    if (status == DIDI_OK)
        status = order_read(self->directory_fd, &self->order, error);
    if (status == DIDI_OK)
        status = check_owner(&self->order, error);
    if (status == DIDI_OK)
        status = open_inputs(self, error);
    if (status == DIDI_OK)
        *ret_worker = self;
    else
        worker_close(self);
    return status;
}

void worker_close(worker *self)
{
    if (self == NULL)
        return;
    didi_merge_close(self->merge);
    inputs_free(self->inputs);
    specification_free(self->specification);
    model_roots_close(self->roots);
    order_clear(&self->order);
    file_close(self->directory_fd);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

size_t worker_task_count(const worker *self)
{
    return self->order.task_count;
}

static int open_merge(worker *self, didi_error *error)
{
    const work_order *of = &self->order;
    const config settings = {.memory_limit = of->memory_limit, .workers = of->cores};
    inputs_places places = INPUTS_NOWHERE;
    places.worker = true;
    int status = open_path(of->work, &places.work_fd, error);
    if (status == DIDI_OK && of->package != NULL)
        status = open_path(of->package, &places.package_fd, error);
    if (status == DIDI_OK && of->reuse != NULL)
        status = open_path(of->reuse, &places.reuse_fd, error);
    if (status == DIDI_OK)
        status = inputs_open_merge(self->inputs, &settings, &places, NULL, &self->merge, error);
    file_close(places.work_fd);
    file_close(places.package_fd);
    file_close(places.reuse_fd);
    self->before = (didi_usage){0};
    return status;
}

/* ---- one task ---- */

static void fail(worker *self, int status, const didi_error *error)
{
    if (self->status != DIDI_OK)
        return;
    self->status = status;
    self->error = *error;
    if (self->merge != NULL)
        didi_merge_cancel(self->merge);
}

/* Synced, so that other machines see it. */
static void tell_done(worker *self, size_t i)
{
    char line[128];
    didi_error error = {0};
    didi_usage now;
    didi_merge_usage(self->merge, &self->order.place, &now);
    int length =
        snprintf(line, sizeof line, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                 self->items[i], now.cpu_ns - self->before.cpu_ns, now.flops - self->before.flops,
                 now.bytes_read - self->before.bytes_read, now.peak_memory);
    self->state[i] = ITEM_THERE;
    if (write(self->done_fd, line, (size_t)length) != length || fdatasync(self->done_fd) != 0)
        fail(self, didi_fail_errno(&error, errno, "task.done", "cannot write"), &error);
}

/* Under the lock. What the owner runs `once` comes first, then items, then help for those that run.
 * *ret_place: which of the task's, or its count. */
static bool next_item(worker *self, didi_item **ret_item, size_t *ret_place)
{
    didi_next next = didi_merge_next(self->merge, UINT64_MAX, false, ret_item);
    *ret_place = self->count;
    if (next == DIDI_NEXT_ITEM)
        return true;
    bool waits = false;
    for (size_t i = 0; i < self->count && self->status == DIDI_OK; i++) {
        didi_place place = self->order.place;
        place.index = self->items[i];
        if (self->state[i] != ITEM_WANTED)
            continue;
        next = didi_merge_next_at(self->merge, &place, UINT64_MAX, ret_item);
        waits = waits || next == DIDI_NEXT_WAIT;
        if (next == DIDI_NEXT_ITEM) {
            self->state[i] = ITEM_BEGUN;
            *ret_place = i;
            return true;
        }
        if (next == DIDI_NEXT_FINISHED &&
            (!didi_merge_is_over(self->merge) || didi_merge_result(self->merge, NULL) == DIDI_OK))
            tell_done(self, i);
    }
    if (self->running == 0) {
        self->unseen = waits;
        return false;
    }
    return didi_merge_next(self->merge, UINT64_MAX, true, ret_item) == DIDI_NEXT_ITEM;
}

static void complete(worker *self, didi_item *item, size_t place)
{
    didi_error error = {0};
    didi_merge_complete(self->merge, item);
    bool over = didi_merge_is_over(self->merge);
    int status = over ? didi_merge_result(self->merge, &error) : DIDI_OK;
    if (status != DIDI_OK)
        fail(self, status, &error);
    else if (place < self->count)
        tell_done(self, place);
}

static void *run(void *context)
{
    worker *self = context;
    (void)pthread_mutex_lock(&self->lock);
    for (;;) {
        didi_item *item = NULL;
        size_t place = 0;
        if (self->status != DIDI_OK || !next_item(self, &item, &place)) {
            if (self->running == 0)
                break;
            (void)pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        self->running++;
        (void)pthread_mutex_unlock(&self->lock);
        didi_item_execute(item);
        (void)pthread_mutex_lock(&self->lock);
        self->running--;
        complete(self, item, place);
        (void)pthread_cond_broadcast(&self->changed);
    }
    (void)pthread_cond_broadcast(&self->changed);
    (void)pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* This thread is one of them. Fewer than wanted is no failure. */
static void run_threads(worker *self)
{
    size_t more = self->order.cores - 1;
    pthread_t *threads = memory_zeroed(more, sizeof *threads);
    size_t begun = 0;
    while (threads != NULL && begun < more && pthread_create(&threads[begun], NULL, run, self) == 0)
        begun++;
    (void)run(self);
    for (size_t i = 0; i < begun; i++)
        (void)pthread_join(threads[i], NULL);
    free(threads);
}

static size_t count_there(const worker *self)
{
    size_t count = 0;
    for (size_t i = 0; i < self->count; i++)
        count += self->state[i] == ITEM_THERE;
    return count;
}

/* Caches of a shared file system may be some seconds behind what the owner saw. */
static int run_until_seen(worker *self, didi_error *error)
{
    for (size_t attempt = 0; attempt < SEEN_ATTEMPTS_MAX; attempt++) {
        int status = self->merge == NULL ? open_merge(self, error) : DIDI_OK;
        if (status != DIDI_OK)
            return status;
        self->unseen = false;
        if (atomic_load(&self->cancelled))
            didi_merge_cancel(self->merge);
        run_threads(self);
        if (self->status != DIDI_OK) {
            *error = self->error;
            return self->status;
        }
        if (!self->unseen)
            return count_there(self) == self->count ? DIDI_OK
                                                    : didi_merge_result(self->merge, error);
        didi_merge_close(self->merge);
        self->merge = NULL;
        clock_pause_ms(SEEN_PAUSE_MILLISECONDS);
    }
    return didi_fail(error, DIDI_NOT_FOUND, self->order.work,
                     "states of earlier stages are not seen in %s", self->order.work);
}

static int begin_task(worker *self, size_t task, didi_error *error)
{
    char name[WORKER_TASK_NAME_BYTES];
    char host[256] = "unknown";
    (void)gethostname(host, sizeof host - 1);
    worker_task_file(task, "host", name);
    int status = file_write_durable(self->directory_fd, name, host, strlen(host), error);
    if (status != DIDI_OK)
        return status;
    worker_task_file(task, "done", name);
    self->done_fd =
        openat(self->directory_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (self->done_fd < 0)
        return didi_fail_errno(error, errno, name, "cannot open");
    self->items = self->order.items + self->order.first[task];
    self->count = self->order.first[task + 1] - self->order.first[task];
    self->state = memory_zeroed(self->count, sizeof *self->state);
    self->status = DIDI_OK;
    return self->state != NULL ? DIDI_OK
                               : didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu items", self->count);
}

int worker_run_task(worker *self, size_t task, didi_error *error)
{
    assert(task < self->order.task_count);
    self->before = (didi_usage){0};
    if (self->merge != NULL)
        didi_merge_usage(self->merge, &self->order.place, &self->before);
    int status = begin_task(self, task, error);
    if (status == DIDI_OK)
        status = run_until_seen(self, error);
    free(self->state);
    self->state = NULL;
    file_close(self->done_fd);
    self->done_fd = -1;
    return status;
}

void worker_cancel(worker *self)
{
    atomic_store(&self->cancelled, true);
    (void)pthread_mutex_lock(&self->lock);
    if (self->merge != NULL)
        didi_merge_cancel(self->merge);
    (void)pthread_mutex_unlock(&self->lock);
}
