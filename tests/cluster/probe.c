/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/cluster from the command line, for tests with real schedulers:
 *
 *   probe SETTINGS max
 *   probe SETTINGS submit|find|look|cancel NAME DIRECTORY WORKER NUMBERS [HANDLE]
 *
 * NUMBERS are those of tasks, "0-3,7". Prints a handle, states of tasks as "I STATE STATUS REASON",
 * or "STATUS: MESSAGE" with exit code 1. */
#include "daemon/cluster/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {"waiting", "running", "ended",
                                          "failed",  "killed",  "unknown"};

static size_t read_numbers(const char *text, size_t *numbers)
{
    size_t count = 0;
    for (const char *at = text; *at != '\0';) {
        char *end = NULL;
        size_t first = strtoul(at, &end, 10);
        size_t last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
        for (size_t number = first; number <= last && count < CLUSTER_TASKS_MAX; number++)
            numbers[count++] = number;
        at = *end == ',' ? end + 1 : end + strlen(end);
    }
    return count;
}

static int act(cluster *executor, const char *verb, const cluster_order *order, const char *handle,
               didi_error *error)
{
    static cluster_task tasks[CLUSTER_TASKS_MAX];
    char found[CLUSTER_HANDLE_BYTES] = "";
    bool is = true;
    int status = DIDI_OK;
    if (strcmp(verb, "submit") == 0)
        status = cluster_submit(executor, order, found, error);
    else if (strcmp(verb, "find") == 0)
        status = cluster_find(executor, order, &is, found, error);
    else if (strcmp(verb, "cancel") == 0)
        return cluster_cancel(executor, order, handle, error);
    else
        status = cluster_look(executor, order, handle, tasks, error);
    if (status == DIDI_OK && strcmp(verb, "look") != 0)
        printf("%s\n", is ? found : "nothing");
    for (size_t i = 0; i < order->tasks && status == DIDI_OK && strcmp(verb, "look") == 0; i++)
        printf("%zu %s %d %s\n", order->numbers[i], state_names[tasks[i].state], tasks[i].status,
               tasks[i].reason);
    return status;
}

int main(int argc, char **argv)
{
    static size_t numbers[CLUSTER_TASKS_MAX];
    config settings = {0};
    didi_error error = {0};
    cluster *executor = NULL;
    if (argc > 1 && strcmp(argv[1], "supervise") == 0)
        return cluster_supervise(argc - 1, argv + 1);
    if (argc != 3 && argc != 7 && argc != 8)
        return 2;
    int status = config_init(&settings, &error);
    if (status == DIDI_OK)
        status = config_read_file(&settings, argv[1], &error);
    if (status == DIDI_OK)
        status = config_finish(&settings, &error);
    if (status == DIDI_OK)
        status = cluster_create(&settings, &executor, &error);
    if (status == DIDI_OK && argc == 3) {
        printf("%zu\n", cluster_tasks_max(executor));
    } else if (status == DIDI_OK) {
        const cluster_order order = {.name = argv[3],
                                     .directory = argv[4],
                                     .worker = argv[5],
                                     .tasks = read_numbers(argv[6], numbers),
                                     .numbers = numbers,
                                     .cores = settings.task_cores,
                                     .memory_bytes = settings.task_memory};
        status = act(executor, argv[2], &order, argc == 8 ? argv[7] : "", &error);
    }
    if (status != DIDI_OK)
        printf("%s: %s\n", didi_status_name(status), error.message);
    cluster_free(executor);
    config_clear(&settings);
    return status == DIDI_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
