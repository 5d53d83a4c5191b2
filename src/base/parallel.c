/* SPDX-License-Identifier: Apache-2.0 */
/* Open loops are kept in a list under one mutex; indexes are handed out one by one under it, which
 * is nothing against the milliseconds each index takes. */
#include "src/base/parallel.h"

#include "src/base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct loop {
    void (*task)(void *argument, size_t index);
    void *argument;
    size_t next, count, finished;
    struct loop *link;
} loop;

struct parallel {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    loop *loops;         /* loops that may still have indexes to hand out */
    size_t items, epoch; /* epoch: how often items fell to none */
    bool recalled;
};

int parallel_create(parallel **ret_parallel, didi_error *error)
{
    parallel *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "helper threads");
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->changed, NULL);
    *ret_parallel = self;
    return DIDI_OK;
}

void parallel_free(parallel *self)
{
    if (self == NULL)
        return;
    assert(self->loops == NULL && self->items == 0);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->mutex);
    free(self);
}

/* Runs indexes of `work` until none is left to hand out. Called and left with the mutex held. */
static void run_indexes(parallel *self, loop *work, bool helping)
{
    assert(work->finished < work->count);
    while (work->next < work->count && !(helping && self->recalled)) {
        size_t index = work->next++;
        pthread_mutex_unlock(&self->mutex);
        work->task(work->argument, index);
        pthread_mutex_lock(&self->mutex);
        if (++work->finished == work->count) {
            /* The owner may free the loop as soon as the mutex is released. */
            pthread_cond_broadcast(&self->changed);
            return;
        }
    }
}

static void remove_loop(parallel *self, const loop *work)
{
    loop **link = &self->loops;
    while (*link != work)
        link = &(*link)->link;
    *link = work->link;
}

void parallel_run(parallel *self, size_t count, void (*task)(void *argument, size_t index),
                  void *argument)
{
    assert(task != NULL);
    if (self == NULL || count < 2) {
        for (size_t i = 0; i < count; i++)
            task(argument, i);
        return;
    }
    loop work = {.task = task, .argument = argument, .count = count};
    pthread_mutex_lock(&self->mutex);
    work.link = self->loops;
    self->loops = &work;
    pthread_cond_broadcast(&self->changed);
    run_indexes(self, &work, false);
    while (work.finished < work.count)
        pthread_cond_wait(&self->changed, &self->mutex);
    remove_loop(self, &work);
    pthread_mutex_unlock(&self->mutex);
}

typedef struct ranges {
    void (*task)(void *argument, size_t first, size_t end);
    void *argument;
    size_t count, width;
} ranges;

static void run_range(void *argument, size_t index)
{
    const ranges *self = argument;
    size_t first = index * self->width;
    size_t left = self->count - first;
    self->task(self->argument, first, first + (left < self->width ? left : self->width));
}

void parallel_ranges(parallel *self, size_t count, size_t width,
                     void (*task)(void *argument, size_t first, size_t end), void *argument)
{
    assert(task != NULL && width > 0);
    ranges work = {task, argument, count, width};
    parallel_run(self, count / width + (count % width != 0), run_range, &work);
}

size_t parallel_width(size_t count, size_t most)
{
    enum { STEP = 8 };
    assert(most >= STEP && most % STEP == 0);
    size_t parts = count / most + (count % most != 0);
    size_t width = parts > 0 ? (count + parts - 1) / parts : 1;
    return (width + STEP - 1) / STEP * STEP;
}

typedef struct attempt {
    int (*task)(void *argument, size_t index, didi_error *error);
    void *argument;
    didi_error *errors;
    int *status;
} attempt;

static void run_attempt(void *argument, size_t index)
{
    const attempt *work = argument;
    work->status[index] = work->task(work->argument, index, &work->errors[index]);
}

int parallel_try(parallel *self, size_t count,
                 int (*task)(void *argument, size_t index, didi_error *error), void *argument,
                 didi_error *error)
{
    assert(task != NULL);
    attempt work = {.task = task,
                    .argument = argument,
                    .errors = memory_zeroed(count, sizeof(didi_error)),
                    .status = memory_zeroed(count, sizeof(int))};
    int status = DIDI_OK;
    if (work.errors == NULL || work.status == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "errors of %zu tasks", count);
    else
        parallel_run(self, count, run_attempt, &work);
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        status = work.status[i];
        if (status != DIDI_OK && error != NULL)
            *error = work.errors[i];
    }
    free(work.errors);
    free(work.status);
    return status;
}

void parallel_enter(parallel *self)
{
    pthread_mutex_lock(&self->mutex);
    self->items++;
    pthread_mutex_unlock(&self->mutex);
}

void parallel_leave(parallel *self)
{
    pthread_mutex_lock(&self->mutex);
    assert(self->items > 0);
    if (--self->items == 0)
        self->epoch++;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static loop *find_open_loop(parallel *self)
{
    for (loop *work = self->loops; work != NULL; work = work->link)
        if (work->next < work->count)
            return work;
    return NULL;
}

size_t parallel_epoch(parallel *self)
{
    pthread_mutex_lock(&self->mutex);
    size_t epoch = self->epoch;
    pthread_mutex_unlock(&self->mutex);
    return epoch;
}

void parallel_help(parallel *self, size_t epoch)
{
    pthread_mutex_lock(&self->mutex);
    while (self->items > 0 && self->epoch == epoch && !self->recalled) {
        loop *work = find_open_loop(self);
        if (work != NULL)
            run_indexes(self, work, true);
        else
            pthread_cond_wait(&self->changed, &self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
}

void parallel_recall(parallel *self)
{
    pthread_mutex_lock(&self->mutex);
    self->recalled = true;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

void parallel_welcome(parallel *self)
{
    pthread_mutex_lock(&self->mutex);
    self->recalled = false;
    pthread_mutex_unlock(&self->mutex);
}
