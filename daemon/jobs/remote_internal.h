/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a remote share. */
#pragma once

#include "daemon/cluster/cluster.h"
#include "daemon/jobs/remote.h"
#include "daemon/worker/worker.h"

enum {
    REMOTE_PATH_BYTES = 4096,
    REMOTE_DONE_MILLISECONDS = 500,    /* between looks at what tasks tell, at least */
    REMOTE_TASKS_PER_SECOND = 400,     /* that are read, at most */
    REMOTE_GRACE_MILLISECONDS = 30000, /* until states of a task that ended are seen */
    REMOTE_END_MILLISECONDS = 60000,   /* until tasks that were cancelled are gone */
    REMOTE_PROCESS_BYTES = 256 << 20,  /* of a worker, besides what items take */
    REMOTE_KILLS_MAX = 100,            /* of one item, by the scheduler or with its node */
};

typedef struct remote_order remote_order;

typedef enum remote_state {
    REMOTE_WANTED, /* to be given out */
    REMOTE_SENT,
    REMOTE_TAKEN, /* its state is in memory: to be completed on the loop */
} remote_state;

typedef struct remote_item {
    didi_item *item;
    uint64_t index;
    remote_state state;
    remote_order *order; /* SENT: in whose task */
    size_t task;
    bool told; /* its task says that the state is there */
    size_t tries, kills;
} remote_item;

typedef struct remote_task {
    size_t left; /* items SENT */
    bool settled;
    int64_t ended_ms;   /* when it was first seen to have ended; 0: it has not */
    didi_usage counted; /* of what it told */
} remote_task;

struct remote_order {
    remote_order *next;
    unsigned number;
    int fd;
    bool failed; /* its directory stays, for who wants to know why */
    char name[CLUSTER_NAME_BYTES], handle[CLUSTER_HANDLE_BYTES], path[REMOTE_PATH_BYTES];
    size_t count, cores;   /* tasks; of each */
    uint64_t memory_bytes; /* of each */
    remote_task *tasks;
    cluster_task *seen;
    size_t *numbers;
};

struct remote {
    attempt *of;
    scheduler *owner;
    didi_merge *merge;
    char *specification, *package, *reuse;
    char job_path[REMOTE_PATH_BYTES], work_path[REMOTE_PATH_BYTES], worker_path[REMOTE_PATH_BYTES];
    int job_fd, cluster_fd;
    remote_item *items;
    size_t count, room;
    didi_place row;
    remote_order *orders;
    remote_order *untaken; /* submitted to a scheduler that did not answer; NULL: none */
    unsigned next_number;

    uv_work_t request;
    bool working;
    int (*work)(remote *self, didi_error *error);
    void (*after)(remote *self);
    int status; /* of the work */
    didi_error error;

    size_t waiting, running; /* tasks, when last looked at */
    bool searched;           /* for orders of an earlier process */
    bool cancelled;          /* orders are */
    bool asks_scheduler;
    int64_t submit_ms, done_ms, scheduler_ms; /* when next */
    size_t refusals;                          /* in a row */
    char reason[CLUSTER_REASON_BYTES];        /* why tasks wait, as the look found */
    char told[CLUSTER_REASON_BYTES];          /* the one before */
};

/* ---- remote_order.c: directories and tasks of orders; beside the loop ---- */

/* Submits the order that is untaken, if it is not there; else makes one of the items that are
 * wanted. Errors: those of cluster_submit; after DIDI_UNAVAILABLE the order is untaken. */
int remote_submit(remote *self, didi_error *error);
/* Takes up orders of an earlier process, of the same row; ends others. Errors: those of
 * cluster_find. */
int remote_search(remote *self, didi_error *error);
/* Ends all orders and waits until they are gone. */
int remote_cancel_orders(remote *self, didi_error *error);
void remote_order_free(remote_order *order);
/* The same, with its directory, unless it failed. */
void remote_order_remove(remote *self, remote_order *order);
cluster_order remote_order_of(const remote_order *order, const char *worker_path);

/* ---- remote_look.c: what became of them; beside the loop ---- */

/* What tasks tell, and, when it is time, what the scheduler says. Errors: what the job fails by;
 * DIDI_UNAVAILABLE: look again later. */
int remote_look(remote *self, didi_error *error);
