/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks handed to a scheduler of a cluster, by one contract whatever the scheduler: Slurm, MPI, or
 * three commands of the operator's.
 *
 * Functions block, each command they run is an argument vector (never a shell's text) that is
 * bounded in time and output; they are called from pool threads, from one at a time for one order.
 * The daemon may die at any instant: an order that was submitted is found again by its name, or by
 * the handle that the caller kept. Executors keep their own files, NAME.*, in its directory. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

enum {
    CLUSTER_NAME_BYTES = 96,    /* with the NUL */
    CLUSTER_HANDLE_BYTES = 128, /* of [A-Za-z0-9._:-], with the NUL */
    CLUSTER_REASON_BYTES = 256,
    CLUSTER_TASKS_MAX = 10000, /* of one order */
};

typedef struct cluster cluster; /* an executor and what it was set to */

/* N tasks, each `didid worker DIRECTORY --task I` for an I below N; one may run twice, which does
 * no harm. The mpi executor runs `didid-mpi DIRECTORY` once, on all ranks, and that hands the tasks
 * out.
 */
typedef struct cluster_order {
    const char *name;      /* didid-JOB-NUMBER: [a-z0-9-], unique among all orders */
    const char *directory; /* absolute, on the shared file system; the words of task I go to its
                            * file task-I.log */
    const char *worker;    /* absolute path of the program on the nodes */
    size_t tasks;          /* 1 .. CLUSTER_TASKS_MAX */
    const size_t *numbers; /* of each, as --task gets it */
    size_t cores;          /* of a task, > 0 */
    uint64_t memory_bytes; /* of a task; 0: the scheduler's default */
} cluster_order;

typedef enum cluster_state {
    CLUSTER_WAITING, /* for the scheduler */
    CLUSTER_RUNNING,
    CLUSTER_ENDED,   /* exit status 0 */
    CLUSTER_FAILED,  /* exit status in `status`, or a signal: 128 + its number */
    CLUSTER_KILLED,  /* ended by the scheduler or with its node, nothing wrong with the task: run
                      * again
                      */
    CLUSTER_UNKNOWN, /* the scheduler does not know it (any more) */
} cluster_state;

typedef struct cluster_task {
    cluster_state state;
    int status;
    char reason[CLUSTER_REASON_BYTES]; /* in the scheduler's words: why it waits, failed or was
                                        * killed
                                        */
} cluster_task;

/* By the settings (`executor` and those after it), which outlive the cluster; *ret_cluster is NULL
 * for `local`. Errors:
 * DIDI_INVALID (a setting that is missing, or a command that is not there), DIDI_NO_MEMORY. */
int cluster_create(const config *settings, cluster **ret_cluster, didi_error *error);
void cluster_free(cluster *self);              /* NULL is fine */
const char *cluster_name(const cluster *self); /* "slurm", "mpi", "command" */
/* Whether each order's tasks get the cores that it asks for; else all get task_cores. */
bool cluster_sizes_tasks(const cluster *self);
/* How many tasks one order may have here (a limit of array sizes). [asks once] */
size_t cluster_tasks_max(cluster *self);

/* Errors: DIDI_UNAVAILABLE (the scheduler does not answer or is out of something: try again later,
 * and ask cluster_find first, since the order may be there all the same), DIDI_CLUSTER (it refuses
 * for good; both in its own words), DIDI_IO, DIDI_NO_MEMORY. */
int cluster_submit(cluster *self, const cluster_order *order, char ret_handle[CLUSTER_HANDLE_BYTES],
                   didi_error *error);
/* The order of this name, submitted by a daemon that died before it could note the handle. Errors:
 * DIDI_UNAVAILABLE, DIDI_CLUSTER, DIDI_IO, DIDI_NO_MEMORY. */
int cluster_find(cluster *self, const cluster_order *order, bool *ret_found,
                 char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error);
/* States of all tasks of an order, in its order's order. Errors: the same. */
int cluster_look(cluster *self, const cluster_order *order, const char *handle,
                 cluster_task *ret_tasks, didi_error *error);
/* Asks it to end all tasks; they may go on for a while. One that is gone is fine. Errors: the same.
 */
int cluster_cancel(cluster *self, const cluster_order *order, const char *handle,
                   didi_error *error);

/* `didid supervise DIRECTORY NAME WORD...`, which the mpi executor runs: starts the words as a
 * command that outlives the daemon, and returns when it runs. argv begins with "supervise". Returns
 * an exit code. */
int cluster_supervise(int argc, char **argv);
