/* SPDX-License-Identifier: Apache-2.0 */
/* `didid worker`, and what its end says. */
#include "daemon/worker/worker.h"

#include "daemon/base/base.h"
#include "daemon/worker/order.h"
#include "src/base/base.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct worker_options {
    const char *task;
    option_list directories;
    bool help;
} worker_options;

#define AT(member) offsetof(worker_options, member)
static const option_row rows[] = {
    {"task", OPTION_TEXT, AT(task)},
    {"help", OPTION_FLAG, AT(help)},
    {"DIRECTORY", OPTION_ARGUMENT, AT(directories)},
    {NULL, OPTION_END, 0},
};

static const struct {
    int status;
    worker_exit exit;
} ends[] = {
    {DIDI_OK, WORKER_EXIT_DONE},           {DIDI_INVALID, WORKER_EXIT_INPUT},
    {DIDI_FORMAT, WORKER_EXIT_INPUT},      {DIDI_MISMATCH, WORKER_EXIT_OTHER},
    {DIDI_NOT_FOUND, WORKER_EXIT_MISSING}, {DIDI_CHANGED, WORKER_EXIT_CHANGED},
    {DIDI_NO_MEMORY, WORKER_EXIT_MEMORY},  {DIDI_MEMORY_LIMIT, WORKER_EXIT_MEMORY},
    {DIDI_DISK_FULL, WORKER_EXIT_DISK},    {DIDI_IO, WORKER_EXIT_IO},
    {DIDI_CANCELLED, WORKER_EXIT_STOPPED}, {DIDI_INTERNAL, WORKER_EXIT_INTERNAL},
    {DIDI_NUMERIC, WORKER_EXIT_NUMERIC},
};

int worker_exit_status(int status)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends[i].status == status)
            return (int)ends[i].exit;
    return WORKER_EXIT_INTERNAL;
}

int worker_status(int exit_status)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if ((int)ends[i].exit == exit_status)
            return ends[i].status;
    return DIDI_WORKER_LOST;
}

static void print_usage(void)
{
    fputs("Usage: didid worker DIRECTORY --task I\n"
          "Runs the items of one task of an order that a didid left in DIRECTORY, on the file\n"
          "system that both share. Schedulers of clusters start it; see didid(8).\n\n"
          "  --task I  which task, counted from 0\n"
          "  --help    this text\n",
          stdout);
}

/* Merges are cancelled by a thread, never inside a signal handler. */
static void *await_signal(void *context)
{
    worker *self = context;
    sigset_t ending;
    int number = 0;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGUSR2); /* of our own: there is nothing to wait for any more */
    if (sigwait(&ending, &number) == 0 && number != SIGUSR2)
        worker_cancel(self);
    return NULL;
}

static int run_task(worker *self, size_t task, didi_error *error)
{
    pthread_t waiter;
    bool waits = pthread_create(&waiter, NULL, await_signal, self) == 0;
    int status = worker_run_task(self, task, error);
    if (waits) {
        (void)pthread_kill(waiter, SIGUSR2);
        (void)pthread_join(waiter, NULL);
    }
    return status;
}

static int run(const char *directory, const char *task_text, didi_error *error)
{
    worker *self = NULL;
    char *end = NULL;
    unsigned long long task = strtoull(task_text, &end, 10);
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, &ending, NULL);
    int status = didi_blas_use_one_thread(error);
    if (status == DIDI_OK)
        status = worker_open(directory, &self, error);
    if (status == DIDI_OK &&
        (*end != '\0' || end == task_text || task >= (unsigned long long)worker_task_count(self)))
        status = didi_fail(error, DIDI_INVALID, "--task", "the order has tasks 0 to %zu",
                           worker_task_count(self) - 1);
    if (status == DIDI_OK)
        status = run_task(self, (size_t)task, error);
    worker_close(self);
    return status;
}

int worker_main(int argc, char **argv)
{
    worker_options options = {0};
    didi_error error = {0};
    if (options_read(rows, &options, argc - 1, argv + 1, &error) != DIDI_OK) {
        (void)options_refuse("didid worker", &error);
        return WORKER_EXIT_USAGE;
    }
    if (options.help) {
        print_usage();
        return WORKER_EXIT_DONE;
    }
    if (options.directories.count != 1 || options.task == NULL) {
        fputs("didid worker: give one DIRECTORY and --task I\n", stderr);
        return WORKER_EXIT_USAGE;
    }
    worker_pin_kernel(options.directories.texts[0], argv);
    int status = run(options.directories.texts[0], options.task, &error);
    if (status != DIDI_OK)
        fprintf(stderr, "didid worker: %s%s%s\n", error.subject,
                error.subject[0] != '\0' ? ": " : "", error.message);
    return worker_exit_status(status);
}
