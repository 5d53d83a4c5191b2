/* SPDX-License-Identifier: Apache-2.0 */
/* The executor mpi: an order is one run of didid-mpi, which hands its tasks out itself. It runs
 * under a process of ours beside the daemon, or as one job of Slurm's. */
#include "daemon/cluster/slurm.h"
#include "daemon/cluster/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* srun of 22.05 and later does not hear of the cores that a task has by itself. */
static const char job_script[] = "#!/bin/sh\n"
                                 "SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}\n"
                                 "export SRUN_CPUS_PER_TASK\n"
                                 "exec \"$@\"\n";

enum {
    MPI_TAIL_BYTES = 4096, /* of a log, that a reason is looked for in */
    MPI_REASON_LINES = 3,
    MPI_WORKER_FIRST = 64, /* exit codes of workers */
    MPI_WORKER_LAST = 78,
};

typedef struct mpi {
    command start;
    slurm *slurm; /* NULL: beside the daemon */
} mpi;

static int mpi_open(cluster *self, didi_error *error)
{
    const config *settings = self->settings;
    mpi *own = memory_zeroed(1, sizeof *own);
    if (own == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->own = own;
    if (settings->mpi_ranks == 0)
        return didi_fail(error, DIDI_INVALID, "mpi_ranks", "mpi_ranks is not set");
    if (geteuid() == 0) { /* Open MPI refuses root else */
        tool_add(&self->environment, "OMPI_ALLOW_RUN_AS_ROOT=1");
        tool_add(&self->environment, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    }
    if (strcmp(settings->mpi_allocation, "slurm") != 0)
        return executor_command_read(settings->mpi_command, "mpi_command", &own->start, error);
    int status = command_split(settings->mpi_command, "mpi_command", &own->start, error);
    return status == DIDI_OK ? slurm_open(self, &own->slurm, error) : status;
}

static void mpi_close(cluster *self)
{
    mpi *own = self->own;
    if (own == NULL)
        return;
    command_clear(&own->start);
    slurm_close(own->slurm);
    free(own);
}

static size_t mpi_tasks_max(cluster *self)
{
    (void)self;
    return CLUSTER_TASKS_MAX;
}

/* ---- submission ---- */

static void add_run(const cluster *self, const cluster_order *order, tool_words *words)
{
    const mpi *own = self->own;
    const config *settings = self->settings;
    const char *slash = strrchr(order->worker, '/');
    const char *start = own->start.program != NULL ? own->start.program : own->start.words[0];
    tool_add(words, "%s", start);
    for (size_t i = 1; i < own->start.count; i++)
        tool_add(words, "%s", own->start.words[i]);
    tool_add(words, "-n");
    tool_add(words, "%llu", (unsigned long long)settings->mpi_ranks);
    if (settings->mpi_program != NULL)
        tool_add(words, "%s", settings->mpi_program);
    else
        tool_add(words, "%.*s/didid-mpi", slash != NULL ? (int)(slash - order->worker) : 0,
                 order->worker);
    tool_add(words, "%s", order->directory);
}

static int submit_beside(cluster *self, const cluster_order *order,
                         char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    tool_words words = {0};
    tool_answer answer = {0};
    const tool_call call = {.what = "didid supervise",
                            .program = "/proc/self/exe",
                            .words = &words,
                            .environment = &self->environment,
                            .seconds = self->settings->cluster_command_seconds};
    tool_add(&words, "didid");
    tool_add(&words, "supervise");
    tool_add(&words, "%s", order->directory);
    tool_add(&words, "%s", order->name);
    add_run(self, order, &words);
    int status = tool_run(&call, &answer, error);
    if (status == DIDI_OK && answer.code != 0)
        status =
            didi_fail(error, DIDI_CLUSTER, NULL, "the ranks could not be started%s", answer.lines);
    if (status == DIDI_OK)
        snprintf(ret_handle, CLUSTER_HANDLE_BYTES, "%s", order->name);
    tool_words_clear(&words);
    tool_answer_clear(&answer);
    return status;
}

static int submit_job(cluster *self, const cluster_order *order,
                      char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    const mpi *own = self->own;
    tool_words arguments = {0};
    char id[SLURM_ID_BYTES];
    char *escaped = slurm_escape(order->directory);
    char *output = escaped != NULL ? memory_format("%s/%s.log", escaped, order->name) : NULL;
    add_run(self, order, &arguments);
    const slurm_job job = {.name = order->name,
                           .output = output,
                           .directory = order->directory,
                           .tasks = (size_t)self->settings->mpi_ranks,
                           .cores = order->cores,
                           .memory_bytes = order->memory_bytes,
                           .script = job_script,
                           .arguments = &arguments};
    int status = output != NULL ? slurm_submit(own->slurm, &job, id, error)
                                : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        snprintf(ret_handle, CLUSTER_HANDLE_BYTES, "%s", id);
    free(escaped);
    free(output);
    tool_words_clear(&arguments);
    return status;
}

static int mpi_submit(cluster *self, const cluster_order *order,
                      char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    const mpi *own = self->own;
    return own->slurm != NULL ? submit_job(self, order, ret_handle, error)
                              : submit_beside(self, order, ret_handle, error);
}

/* ---- finding ---- */

/* The last one of that name. */
static int found_job(void *context, const char *name, const char *id, didi_error *error)
{
    char *last = context;
    (void)name;
    (void)error;
    if (strtoul(id, NULL, 10) > strtoul(last, NULL, 10))
        snprintf(last, SLURM_ID_BYTES, "%.11s", id);
    return DIDI_OK;
}

static int mpi_find(cluster *self, const cluster_order *order, bool *ret_found,
                    char ret_handle[CLUSTER_HANDLE_BYTES], didi_error *error)
{
    const mpi *own = self->own;
    char id[SLURM_ID_BYTES] = "";
    supervised state = SUPERVISED_NONE;
    int code = 0;
    int status = own->slurm != NULL
                     ? slurm_list(own->slurm, order->name, found_job, id, error)
                     : supervise_look(order->directory, order->name, &state, &code, error);
    if (status != DIDI_OK)
        return status;
    *ret_found = state != SUPERVISED_NONE || id[0] != '\0';
    if (*ret_found)
        snprintf(ret_handle, CLUSTER_HANDLE_BYTES, "%s", id[0] != '\0' ? id : order->name);
    return DIDI_OK;
}

/* ---- states ---- */

/* Killed by nobody of ours: mpiexec of MPICH ends with the number of the signal, that of Open MPI
 * with 128 and the number. What a rank brings upon itself (SIGSEGV, SIGABRT) is a failure. */
static bool is_lost_rank(int code)
{
    return code == SIGKILL || code == SIGTERM || code == 128 + SIGKILL || code == 128 + SIGTERM;
}

/* Frames of banners, and banners in frames, say nothing. */
static bool is_telling(const char *line)
{
    return line[0] != '=' && line[strspn(line, " \t-*")] != '\0' &&
           strncmp(line, "YOUR APPLICATION", 16) != 0 &&
           strncmp(line, "This typically refers", 21) != 0;
}

/* What a rank of ours said last, or else the last lines of whoever said some. */
static void summarise(char *tail, char ret_text[CLUSTER_REASON_BYTES])
{
    const char *last[MPI_REASON_LINES] = {"", "", ""};
    const char *ours = NULL;
    size_t used = 0;
    char *rest = tail;
    for (char *line = tool_next_line(&rest); line != NULL; line = tool_next_line(&rest)) {
        const char *own = strstr(line, "didid-mpi: ");
        ours = own != NULL ? own : ours;
        if (!is_telling(line))
            continue;
        memmove(last, last + 1, (MPI_REASON_LINES - 1) * sizeof *last);
        last[MPI_REASON_LINES - 1] = text_trim(line);
    }
    if (ours != NULL) {
        snprintf(ret_text, CLUSTER_REASON_BYTES, "%s", ours);
        return;
    }
    ret_text[0] = '\0';
    for (size_t i = 0; i < MPI_REASON_LINES && used < CLUSTER_REASON_BYTES - 1; i++)
        if (last[i][0] != '\0')
            used += (size_t)snprintf(ret_text + used, CLUSTER_REASON_BYTES - used, "%s%s",
                                     used > 0 ? " / " : "", last[i]);
}

static void read_log(const cluster_order *order, char ret_text[CLUSTER_REASON_BYTES])
{
    char tail[MPI_TAIL_BYTES + 1];
    struct stat found;
    char *path = memory_format("%s/%s.log", order->directory, order->name);
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    ssize_t bytes = -1;
    if (fd >= 0 && fstat(fd, &found) == 0)
        bytes = pread(fd, tail, MPI_TAIL_BYTES,
                      found.st_size > MPI_TAIL_BYTES ? found.st_size - MPI_TAIL_BYTES : 0);
    file_close(fd);
    free(path);
    tail[bytes > 0 ? bytes : 0] = '\0';
    summarise(tail, ret_text);
}

/* A run that ended with a code. */
static void judge(const cluster_order *order, int code, cluster_task *ret_task)
{
    char line[CLUSTER_REASON_BYTES];
    *ret_task = (cluster_task){.state = CLUSTER_ENDED};
    if (code == 0)
        return;
    read_log(order, line);
    if (code < MPI_WORKER_FIRST || code > MPI_WORKER_LAST)
        ret_task->state = is_lost_rank(code) ? CLUSTER_KILLED : CLUSTER_FAILED;
    else
        ret_task->state = CLUSTER_FAILED;
    ret_task->status = ret_task->state == CLUSTER_FAILED ? code : 0;
    if (ret_task->state == CLUSTER_KILLED)
        tool_reason(ret_task, "a rank was killed (mpiexec ended with %d): %.160s", code, line);
    else if (line[0] != '\0')
        tool_reason(ret_task, "%s", line);
    else
        tool_reason(ret_task, "mpiexec ended with exit code %d and said nothing", code);
}

static int look_beside(const cluster_order *order, cluster_task *ret_task, didi_error *error)
{
    supervised state = SUPERVISED_NONE;
    int code = 0;
    int status = supervise_look(order->directory, order->name, &state, &code, error);
    if (status != DIDI_OK)
        return status;
    if (state == SUPERVISED_RUNNING)
        ret_task->state = CLUSTER_RUNNING;
    else if (state == SUPERVISED_ENDED)
        judge(order, code, ret_task);
    else if (state == SUPERVISED_LOST)
        *ret_task = (cluster_task){.state = CLUSTER_KILLED,
                                   .reason = "the ranks ended with the machine, or were killed"};
    return DIDI_OK;
}

static int look_at(void *context, const char *id, const char *index, const cluster_task *task,
                   didi_error *error)
{
    (void)id;
    (void)index;
    (void)error;
    *(cluster_task *)context = *task;
    return DIDI_OK;
}

static int look_job(cluster *self, const cluster_order *order, const char *handle,
                    cluster_task *ret_task, didi_error *error)
{
    const mpi *own = self->own;
    size_t id = 0;
    if (!tool_read_number(handle, &id))
        return didi_fail(error, DIDI_CLUSTER, NULL, "'%s' is no handle of Slurm's jobs", handle);
    int status = slurm_look(own->slurm, handle, look_at, ret_task, error);
    if (status == DIDI_OK && ret_task->state == CLUSTER_FAILED && ret_task->reason[0] != '\0' &&
        strncmp(ret_task->reason, "NonZeroExitCode", 15) == 0)
        judge(order, ret_task->status, ret_task);
    return status;
}

static int mpi_look(cluster *self, const cluster_order *order, const char *handle,
                    cluster_task *ret_tasks, didi_error *error)
{
    const mpi *own = self->own;
    cluster_task all = {.state = CLUSTER_UNKNOWN};
    int status = own->slurm != NULL ? look_job(self, order, handle, &all, error)
                                    : look_beside(order, &all, error);
    for (size_t i = 0; i < order->tasks && status == DIDI_OK; i++)
        ret_tasks[i] = all;
    return status;
}

static int mpi_cancel(cluster *self, const cluster_order *order, const char *handle,
                      didi_error *error)
{
    const mpi *own = self->own;
    size_t id = 0;
    if (own->slurm == NULL)
        return supervise_cancel(order->directory, order->name, error);
    if (!tool_read_number(handle, &id))
        return didi_fail(error, DIDI_CLUSTER, NULL, "'%s' is no handle of Slurm's jobs", handle);
    return slurm_cancel(own->slurm, &handle, 1, error);
}

const executor_table executor_mpi = {.name = "mpi",
                                     .fixed_cores = true,
                                     .open = mpi_open,
                                     .close = mpi_close,
                                     .tasks_max = mpi_tasks_max,
                                     .submit = mpi_submit,
                                     .find = mpi_find,
                                     .look = mpi_look,
                                     .cancel = mpi_cancel};
