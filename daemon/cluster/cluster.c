/* SPDX-License-Identifier: Apache-2.0 */
/* Executors by the setting `executor`. */
#include "daemon/cluster/cluster.h"

#include "daemon/cluster/executor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const executor_table *const tables[] = {&executor_slurm, &executor_mpi, &executor_command};
enum { TABLE_COUNT = sizeof tables / sizeof *tables };

int executor_command_read(const char *text, const char *setting, command *ret_command,
                          didi_error *error)
{
    int status = command_read(text, "command of the cluster", ret_command, error);
    if (status == DIDI_OK || status == DIDI_NO_MEMORY)
        return status;
    didi_error why = error != NULL ? *error : (didi_error){0};
    return didi_fail(error, DIDI_INVALID, setting, "%s", why.message);
}

int cluster_create(const config *settings, cluster **ret_cluster, didi_error *error)
{
    const executor_table *table = NULL;
    if (settings->executor == NULL || strcmp(settings->executor, "local") == 0) {
        *ret_cluster = NULL;
        return DIDI_OK;
    }
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (strcmp(tables[i]->name, settings->executor) == 0)
            table = tables[i];
    if (table == NULL)
        return didi_fail(error, DIDI_INVALID, "executor", "there is no executor %s",
                         settings->executor);
    cluster *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->table = table;
    self->settings = settings;
    tool_environment(table->whole_environment, &self->environment);
    int status = table->open(self, error);
    if (status != DIDI_OK) {
        cluster_free(self);
        return status;
    }
    *ret_cluster = self;
    return DIDI_OK;
}

void cluster_free(cluster *self)
{
    if (self == NULL)
        return;
    self->table->close(self);
    tool_words_clear(&self->environment);
    free(self);
}

const char *cluster_name(const cluster *self)
{
    return self->table->name;
}

bool cluster_sizes_tasks(const cluster *self)
{
    return !self->table->fixed_cores;
}

size_t cluster_tasks_max(cluster *self)
{
    return self->table->tasks_max(self);
}

static void check_order(const cluster_order *order)
{
    assert(order->directory[0] == '/' && strlen(order->name) < CLUSTER_NAME_BYTES);
    assert(order->tasks > 0 && order->tasks <= CLUSTER_TASKS_MAX && order->cores > 0);
    (void)order;
}

int cluster_submit(cluster *self, const cluster_order *order, char ret_handle[CLUSTER_HANDLE_BYTES],
                   didi_error *error)
{
    check_order(order);
    return self->table->submit(self, order, ret_handle, error);
}

int cluster_find(cluster *self, const cluster_order *order, bool *ret_found,
                 char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    check_order(order);
    return self->table->find(self, order, ret_found, ret_handle, error);
}

int cluster_look(cluster *self, const cluster_order *order, const char *handle,
                 cluster_task *ret_tasks, didi_error *error)
{
    check_order(order);
    for (size_t i = 0; i < order->tasks; i++)
        ret_tasks[i] = (cluster_task){.state = CLUSTER_UNKNOWN};
    return self->table->look(self, order, handle, ret_tasks, error);
}

int cluster_cancel(cluster *self, const cluster_order *order, const char *handle, didi_error *error)
{
    check_order(order);
    return self->table->cancel(self, order, handle, error);
}
