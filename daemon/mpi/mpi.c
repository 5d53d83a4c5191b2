/* SPDX-License-Identifier: Apache-2.0 */
/* didid-mpi DIRECTORY: the tasks of an order, from rank to rank. Rank 0 hands out their numbers,
 * one to whoever asks, heaviest first as the order has them; the others run them, and rank 0 alone
 * does all itself. A failure of one rank ends all: what is done stays, and the daemon sends the
 * rest again. */
#include "daemon/base/base.h"
#include "daemon/worker/worker.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MPI_TAG_ASK,
    MPI_TAG_TASK,
    MPI_NO_TASK = -1,
    MPI_LOOK_MICROSECONDS = 2000, /* between looks for messages, which would take a core else */
};

/* As MPI_Recv of one int, without spinning. */
static int receive(int source, int tag, int *ret_number)
{
    MPI_Status status;
    int is_there = 0;
    for (;;) {
        MPI_Iprobe(source, tag, MPI_COMM_WORLD, &is_there, &status);
        if (is_there)
            break;
        usleep(MPI_LOOK_MICROSECONDS);
    }
    MPI_Recv(ret_number, 1, MPI_INT, status.MPI_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return status.MPI_SOURCE;
}

static void send(int to, int tag, int number)
{
    MPI_Send(&number, 1, MPI_INT, to, tag, MPI_COMM_WORLD);
}

/* Until every rank was told that there is none left. */
static void hand_out(size_t tasks, int ranks)
{
    int asked = 0;
    size_t next = 0;
    for (int told = 1; told < ranks;) {
        int from = receive(MPI_ANY_SOURCE, MPI_TAG_ASK, &asked);
        if (next < tasks) {
            send(from, MPI_TAG_TASK, (int)next++);
        } else {
            send(from, MPI_TAG_TASK, MPI_NO_TASK);
            told++;
        }
    }
}

static int work(worker *self, didi_error *error)
{
    int task = 0;
    int status = DIDI_OK;
    while (status == DIDI_OK) {
        send(0, MPI_TAG_ASK, 0);
        receive(0, MPI_TAG_TASK, &task);
        if (task == MPI_NO_TASK)
            break;
        status = worker_run_task(self, (size_t)task, error);
    }
    return status;
}

/* How many ranks there are by the word of whoever started them; 0 where nobody says. mpiexec may
 * itself run in a step of Slurm's, so that Slurm is heard last. */
static int told_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *told = getenv(names[i]);
        if (told != NULL)
            return (int)strtol(told, NULL, 10);
    }
    return 0;
}

/* Started by the mpiexec of another MPI, each rank takes itself for the only one. */
static int check_size(int ranks, didi_error *error)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    int told = told_ranks();
    if (told == 0 || told == ranks)
        return DIDI_OK;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, "\n")] = '\0';
    return didi_fail(error, DIDI_MISMATCH, NULL,
                     "%d ranks were started and this program sees %d: it was built with %.80s, and "
                     "mpi_command is another's, or srun without --mpi",
                     told, ranks, version);
}

static int run(const char *directory, didi_error *error)
{
    worker *self = NULL;
    int rank = 0;
    int ranks = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int status = check_size(ranks, error);
    if (status == DIDI_OK)
        status = didi_blas_use_one_thread(error);
    if (status == DIDI_OK)
        status = worker_open(directory, &self, error);
    if (status == DIDI_OK && rank > 0)
        status = work(self, error);
    else if (status == DIDI_OK && ranks > 1)
        hand_out(worker_task_count(self), ranks);
    for (size_t task = 0; status == DIDI_OK && ranks == 1 && task < worker_task_count(self); task++)
        status = worker_run_task(self, task, error);
    worker_close(self);
    return status;
}

int main(int argc, char **argv)
{
    didi_error error = {0};
    int provided = 0;
    if (argc != 2 || argv[1][0] == '-') {
        bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
        fputs("Usage: mpiexec -n RANKS didid-mpi DIRECTORY\n"
              "Runs the tasks of an order that a didid left in DIRECTORY, on the file system that\n"
              "all ranks share. didid starts it, by its executor mpi; see didid-mpi(8).\n",
              help ? stdout : stderr);
        return help ? WORKER_EXIT_DONE : WORKER_EXIT_USAGE;
    }
    worker_pin_kernel(argv[1], argv);
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return WORKER_EXIT_INTERNAL;
    int status = run(argv[1], &error);
    if (status != DIDI_OK) {
        fprintf(stderr, "didid-mpi: %s%s%s\n", error.subject, error.subject[0] != '\0' ? ": " : "",
                error.message);
        MPI_Abort(MPI_COMM_WORLD, worker_exit_status(status));
    }
    MPI_Finalize();
    return worker_exit_status(status);
}
