/* SPDX-License-Identifier: Apache-2.0 */
/* What an executor is to cluster.c: a table of functions over one struct. Contracts are those of
 * cluster.h. */
#pragma once

#include "daemon/cluster/cluster.h"
#include "daemon/cluster/tool.h"

typedef struct executor_table {
    const char *name;
    bool fixed_cores;                              /* all tasks get as many: a setting's */
    bool whole_environment;                        /* is given to its commands */
    int (*open)(cluster *self, didi_error *error); /* fills self->own */
    void (*close)(cluster *self);                  /* also of what open left half-built */
    size_t (*tasks_max)(cluster *self);
    int (*submit)(cluster *self, const cluster_order *order, char ret_handle[CLUSTER_HANDLE_BYTES],
                  didi_error *error);
    int (*find)(cluster *self, const cluster_order *order, bool *ret_found,
                char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error);
    /* all of *ret_tasks are zeroed and unknown before */
    int (*look)(cluster *self, const cluster_order *order, const char *handle,
                cluster_task *ret_tasks, didi_error *error);
    int (*cancel)(cluster *self, const cluster_order *order, const char *handle, didi_error *error);
} executor_table;

extern const executor_table executor_slurm;
extern const executor_table executor_mpi;
extern const executor_table executor_command;

struct cluster {
    const executor_table *table;
    const config *settings; /* outlives the cluster */
    tool_words environment;
    void *own; /* the executor's */
};

/* A command that a setting names, or one of a scheduler's own. Errors: DIDI_INVALID naming the
 * setting, DIDI_NO_MEMORY. */
int executor_command_read(const char *text, const char *setting, command *ret_command,
                          didi_error *error);
