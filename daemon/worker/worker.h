/* SPDX-License-Identifier: Apache-2.0 */
/* Items of a merge run in a process of its own, anywhere on a shared file system: `didid worker`
 * and, from rank to rank, didid-mpi. The daemon leaves an order in a directory; a worker reads it,
 * opens the same merge from headers and states, runs items of one row, and leaves their states in
 * the job's work directory. It never sees the database.
 *
 * In the directory of an order: order.json, whole before anybody is started; task-I.host, with the
 * name of the machine that began task I; task-I.done, a line for each item whose state is there,
 * with what the task took so far. */
#pragma once

#include "src/didi.h"

enum {
    WORKER_TASKS_MAX = 10000, /* of an order */
    WORKER_ITEMS_MAX = 1000000,
    WORKER_TASK_NAME_BYTES = 48,
};

/* ---- orders ---- */

/* What a worker needs to open its owner's merge. Texts are the caller's. */
typedef struct worker_order {
    const char *specification; /* text, as the owner's merge was opened by */
    const char *const *models; /* directories below which models lie, absolute */
    size_t model_count;
    const char *work;    /* the merge's work directory, absolute */
    const char *package; /* of the job that is extended, absolute; or NULL */
    const char *reuse;   /* what another job kept and this one starts from; or NULL */
    uint64_t memory_limit;
    size_t cores; /* threads of a worker */
    uint64_t round, row;
    const uint64_t *items;     /* all, task by task */
    const size_t *task_counts; /* items of each task */
    size_t task_count;
} worker_order;

/* Writes order.json, whole and durable, with version and kernel of this process. Errors: DIDI_IO,
 * DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int worker_order_write(int directory_fd, const worker_order *order, didi_error *error);

/* What tasks of an order run. */
typedef struct worker_tasks {
    uint64_t *items;
    size_t *first; /* of each task, and behind the last */
    size_t count;
} worker_tasks;

/* "task-I.KIND" */
void worker_task_file(size_t task, const char *kind, char ret_name[WORKER_TASK_NAME_BYTES]);

/* What a task has told: calls `found` with every item whose state is there, and what the task took
 * by then, since it began or was begun again; every line once more each time. Unfinished and other
 * lines are passed over. Nothing to read is fine. Errors: DIDI_NO_MEMORY. */
typedef struct worker_line {
    uint64_t item;
    didi_usage usage;
} worker_line;
int worker_read_done(int directory_fd, size_t task,
                     void (*found)(void *context, const worker_line *line), void *context,
                     didi_error *error);
/* The machine a task began on; "" where none has. */
void worker_read_host(int directory_fd, size_t task, char *ret_host, size_t size);

/* The tasks of an order that this daemon, or an earlier process of it, left. *ret_ours is false
 * where it is of another merge, row, version or kernel than `of` and this process. The caller frees
 * the members of *ret_tasks. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. */
int worker_order_tasks(int directory_fd, const char *work, const didi_place *of, bool *ret_ours,
                       worker_tasks *ret_tasks, didi_error *error);

/* ---- running ---- */

typedef struct worker worker;

/* Begins again with OPENBLAS_CORETYPE as the owner had it, where it is set to another: before any
 * thread. Returns if nothing is to be done, or cannot be. */
void worker_pin_kernel(const char *directory, char **argv);

/* Reads the order in a directory. Errors: DIDI_NOT_FOUND (the directory, the models or the work
 * directory are not seen on this machine), DIDI_MISMATCH (another version or kernel than the
 * owner's), DIDI_FORMAT, DIDI_INVALID, DIDI_IO, DIDI_NO_MEMORY. */
int worker_open(const char *directory, worker **ret_worker, didi_error *error);
/* NULL is fine. */
void worker_close(worker *self);
size_t worker_task_count(const worker *self);

/* Runs the items of a task whose states are not there, on the order's cores; opens the merge first
 * where it is not open yet. Errors: those of didi_merge_open and of items, DIDI_NOT_FOUND (states
 * of earlier rows are not seen here, also after a while), DIDI_CANCELLED. */
int worker_run_task(worker *self, size_t task, didi_error *error);
/* Ends what runs soon. [any thread] */
void worker_cancel(worker *self);

/* Exit status of a worker. */
typedef enum worker_exit {
    WORKER_EXIT_DONE = 0,
    WORKER_EXIT_USAGE = 64,
    WORKER_EXIT_INPUT = 65,   /* what it was given cannot be used */
    WORKER_EXIT_MISSING = 66, /* not there, on this machine */
    WORKER_EXIT_OTHER = 67,   /* another version, kernel or merge than the owner's */
    WORKER_EXIT_CHANGED = 68, /* an input */
    WORKER_EXIT_MEMORY = 69,
    WORKER_EXIT_INTERNAL = 70,
    WORKER_EXIT_DISK = 71, /* full, or the quota is */
    WORKER_EXIT_IO = 74,
    WORKER_EXIT_STOPPED = 75, /* by a signal: to be run again */
    WORKER_EXIT_NUMERIC = 76, /* numbers that cannot be worked with */
} worker_exit;
int worker_exit_status(int status);
/* The status that an exit status stands for; DIDI_WORKER_LOST for one that no worker gives. */
int worker_status(int exit_status);

/* `didid worker DIRECTORY --task I`: with the whole command line. */
int worker_main(int argc, char **argv);
