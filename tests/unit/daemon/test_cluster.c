/* SPDX-License-Identifier: Apache-2.0 */
/* Executors with commands that only pretend: what they are told, what is made of their words. */
#include "daemon/cluster/cluster.h"
#include "daemon/cluster/slurm.h"
#include "daemon/cluster/supervise.h"
#include "src/base/fault.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* An executor whose commands lie in the test's directory, first in PATH. */
typedef struct trial {
    void **state;
    char directory[256];
    config settings;
    cluster *executor;
    size_t numbers[64];
    cluster_order order;
    cluster_task tasks[64];
    char handle[CLUSTER_HANDLE_BYTES];
    bool found;
    didi_error error;
} trial;

static void trial_script(trial *self, const char *name, const char *text)
{
    char whole[4096];
    snprintf(whole, sizeof whole, "#!/bin/sh\ncd '%s'\n%s\n", self->directory, text);
    support_write(support_directory(self->state), name, whole, strlen(whole));
    assert_int_equal(fchmodat(support_directory(self->state), name, 0755, 0), 0);
}

static void trial_set(trial *self, const char *key, const char *value)
{
    assert_int_equal(config_set(&self->settings, key, value, &self->error), DIDI_OK);
}

/* Words "KEY VALUE" of settings; three tasks. */
static trial *trial_make(void **state, const char *executor)
{
    trial *self = support_allocate(sizeof *self);
    char link[64];
    char path[512];
    static const char *const commands[] = {"sbatch", "squeue", "scancel", "scontrol"};
    self->state = state;
    snprintf(link, sizeof link, "/proc/self/fd/%d", support_directory(state));
    assert_true(readlink(link, self->directory, sizeof self->directory - 1) > 0);
    snprintf(path, sizeof path, "%s:/usr/bin:/bin", self->directory);
    setenv("PATH", path, 1);
    assert_int_equal(config_init(&self->settings, &self->error), DIDI_OK);
    trial_set(self, "executor", executor);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        trial_script(self, commands[i], "exit 0");
    for (size_t i = 0; i < 3; i++)
        self->numbers[i] = i;
    self->order = (cluster_order){.name = "didid-job-1",
                                  .directory = self->directory,
                                  .worker = "/opt/didid",
                                  .tasks = 3,
                                  .numbers = self->numbers,
                                  .cores = 2};
    return self;
}

static void trial_open(trial *self)
{
    cluster_free(self->executor);
    self->executor = NULL;
    assert_int_equal(cluster_create(&self->settings, &self->executor, &self->error), DIDI_OK);
}

static void trial_free(trial *self)
{
    cluster_free(self->executor);
    config_clear(&self->settings);
    free(self);
}

static int trial_submit(trial *self)
{
    return cluster_submit(self->executor, &self->order, self->handle, &self->error);
}

static int trial_look(trial *self)
{
    return cluster_look(self->executor, &self->order, self->handle, self->tasks, &self->error);
}

static int trial_find(trial *self)
{
    return cluster_find(self->executor, &self->order, &self->found, self->handle, &self->error);
}

/* The file of that name has this part. */
static void must_hold(trial *self, const char *name, const char *part)
{
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(
        file_read_text(support_directory(self->state), name, 1 << 20, &text, &bytes, &self->error),
        DIDI_OK);
    support_assert_contains(text, part);
    free(text);
}

static void must_refuse(trial *self, const char *subject, const char *part)
{
    assert_int_equal(cluster_create(&self->settings, &self->executor, &self->error), DIDI_INVALID);
    assert_string_equal(self->error.subject, subject);
    support_assert_contains(self->error.message, part);
    assert_null(self->executor);
}

/* ---- opening ---- */

static void local_is_no_cluster(void **state)
{
    trial *self = trial_make(state, "local");
    assert_int_equal(cluster_create(&self->settings, &self->executor, &self->error), DIDI_OK);
    assert_null(self->executor);
    trial_free(self);
}

static void what_is_missing_is_told(void **state)
{
    trial *self = trial_make(state, "slurm");
    assert_int_equal(unlinkat(support_directory(state), "squeue", 0), 0);
    setenv("PATH", self->directory, 1);
    must_refuse(self, "executor", "there is no program squeue");
    trial_script(self, "squeue", "exit 0");
    trial_set(self, "slurm_arguments", "--comment='a b'");
    must_refuse(self, "", "slurm_arguments");
    trial_set(self, "executor", "mpi");
    must_refuse(self, "mpi_ranks", "not set");
    trial_set(self, "mpi_ranks", "2");
    must_refuse(self, "mpi_command", "there is no program mpiexec");
    trial_set(self, "executor", "command");
    must_refuse(self, "command_submit", "not set");
    trial_set(self, "command_submit", "/nowhere/submit");
    must_refuse(self, "command_submit", "there is no program /nowhere/submit");
    trial_free(self);
}

/* ---- Slurm: submission ---- */

#define TELL_WORDS                                                                                 \
    "for word; do printf '[%s]' \"$word\"; done >words; cat >script; env >environment\n"

static void an_array_is_submitted(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_set(self, "slurm_partition", "long; rm -rf /");
    trial_set(self, "slurm_account", "$HOME");
    trial_set(self, "slurm_time", "90");
    trial_set(self, "slurm_arguments", "--constraint=avx512 --nice");
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SBATCH_WAIT", "1", 1);
    setenv("OPENBLAS_CORETYPE", "Haswell", 1);
    trial_script(self, "sbatch", TELL_WORDS "echo '17;cluster'");
    trial_open(self);
    self->order.memory_bytes = (1U << 20) + 1;
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_string_equal(self->handle, "17");
    must_hold(self, "words", "[--parsable][--job-name=didid-job-1][--array=0-2]");
    must_hold(self, "words", "/task-%a.log]");
    must_hold(self, "words",
              "[--no-requeue][--export=ALL][--propagate=NONE][--ntasks=1][--cpus-per-task=2]");
    must_hold(self, "words", "[--mem=1025K][--partition=long; rm -rf /][--account=$HOME]");
    must_hold(self, "words", "[--time=90][--constraint=avx512][--nice][/dev/stdin][0][/opt/didid]");
    must_hold(self, "words", "[worker][/");
    must_hold(self, "script", "exec \"$@\" --task");
    must_hold(self, "environment", "OPENBLAS_CORETYPE=Haswell");
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(file_read_text(support_directory(state), "environment", 1 << 20, &text, &bytes,
                                    &self->error),
                     DIDI_OK);
    assert_null(strstr(text, "SLURM_JOB_ID"));
    assert_null(strstr(text, "SBATCH_WAIT"));
    free(text);
    trial_free(self);
}

static void more_tasks_than_an_array_may_have_are_several(void **state)
{
    static const size_t numbers[] = {42, 7, 8, 9, 10, 11, 40, 99};
    trial *self = trial_make(state, "slurm");
    trial_script(self, "scontrol", "echo 'MaxArraySize            = 15'");
    trial_script(self, "sbatch", "echo \"$*\" >>words\necho $((100 + $(wc -l <words)))");
    trial_script(self, "squeue",
                 "printf '%-12s%-12s%-20s%-12s%-32s%s\\n' 101 8 RUNNING 0 n1 None "
                 "102 1 FAILED 17152 n2 NonZeroExitCode 103 2 PENDING 0 '' Resources "
                 "103 3 PENDING 0 '' Resources 104 9 COMPLETED 0 n1 None");
    trial_open(self);
    assert_int_equal(cluster_tasks_max(self->executor), 100);
    memcpy(self->numbers, numbers, sizeof numbers);
    self->order.tasks = 8;
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_string_equal(self->handle, "1:0-101.1-102.4-103.9-104");
    must_hold(self, "words", "--job-name=didid-job-1 --array=7-9 ");
    must_hold(self, "words", "--job-name=didid-job-1.1.1 --array=0-1 ");
    must_hold(self, "words", "--job-name=didid-job-1.1.4 --array=0,2 ");
    must_hold(self, "words", "/task-4%1a.log");
    must_hold(self, "words", "/dev/stdin 40 /opt/didid worker");
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[0].state, CLUSTER_WAITING); /* 42 */
    assert_int_equal(self->tasks[1].state, CLUSTER_UNKNOWN); /* 7 */
    assert_int_equal(self->tasks[2].state, CLUSTER_RUNNING); /* 8 */
    assert_int_equal(self->tasks[5].state, CLUSTER_FAILED);  /* 11 */
    assert_int_equal(self->tasks[5].status, 67);
    assert_int_equal(self->tasks[7].state, CLUSTER_ENDED); /* 99 */
    trial_free(self);
}

static void an_array_of_which_a_part_is_refused_is_taken_back(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "scontrol", "echo 'MaxArraySize = 10'");
    trial_script(self, "sbatch",
                 "[ -e once ] && { echo 'sbatch: error: no' >&2; exit 1; }\n"
                 "touch once; echo 5");
    trial_script(self, "scancel", "echo \"$*\" >cancelled");
    trial_open(self);
    self->numbers[2] = 12;
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    must_hold(self, "cancelled", "5");
    assert_string_equal(self->handle, "");
    trial_free(self);
}

static void arrays_may_be_turned_off(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "scontrol", "echo 'MaxArraySize = 0'");
    trial_script(self, "sbatch", "touch submitted; echo 5");
    trial_open(self);
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    support_assert_contains(self->error.message, "MaxArraySize");
    assert_false(support_exists(support_directory(state), "submitted"));
    trial_free(self);
}

static void refusals_are_told_in_slurms_words(void **state)
{
    static const struct {
        const char *said;
        int status;
    } cases[] = {
        {"sbatch: error: invalid partition specified: nope", DIDI_CLUSTER},
        {"sbatch: error: Batch job submission failed: Invalid account or account/partition "
         "combination specified",
         DIDI_CLUSTER},
        {"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect "
         "failure)",
         DIDI_UNAVAILABLE},
        {"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
         DIDI_UNAVAILABLE},
        {"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
         DIDI_UNAVAILABLE},
        {"sbatch: error: QOSMaxSubmitJobPerUserLimit", DIDI_UNAVAILABLE},
        {"sbatch: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\"",
         DIDI_UNAVAILABLE},
        {"sbatch: error: Memory specification can not be satisfied", DIDI_CLUSTER},
        {"", DIDI_CLUSTER},
    };
    trial *self = trial_make(state, "slurm");
    trial_script(self, "sbatch", "cat said >&2; exit 1");
    trial_open(self);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        support_write(support_directory(state), "said", cases[i].said, strlen(cases[i].said));
        assert_int_equal(trial_submit(self), cases[i].status);
        support_assert_contains(self->error.message,
                                cases[i].said[0] != '\0' ? cases[i].said : "exit code 1");
    }
    trial_free(self);
}

static void what_is_no_number_is_refused(void **state)
{
    static const char *const outputs[] = {"",         "Submitted batch job 17",
                                          "-1",       "0",
                                          "17 18",    "99999999999999999999",
                                          "17\\0018", "17\\000",
                                          "\\033",    "0x1",
                                          "123456789"};
    trial *self = trial_make(state, "slurm");
    char text[256];
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        snprintf(text, sizeof text, "printf '%s'", outputs[i]);
        trial_script(self, "sbatch", text);
        trial_open(self);
        assert_int_equal(trial_submit(self), DIDI_CLUSTER);
        assert_string_equal(self->handle, "");
    }
    trial_free(self);
}

/* The process whose number a file holds is dead; whoever is its parent now may not know yet. */
static void must_be_gone(trial *self, const char *name)
{
    char *text = NULL;
    size_t bytes = 0;
    char line[256] = ") Z";
    char path[64];
    assert_int_equal(
        file_read_text(support_directory(self->state), name, 64, &text, &bytes, &self->error),
        DIDI_OK);
    snprintf(path, sizeof path, "/proc/%ld/stat", strtol(text, NULL, 10));
    free(text);
    for (int i = 0; i < 6000; i++) {
        FILE *file = fopen(path, "re");
        if (file == NULL)
            return;
        char *read = fgets(line, sizeof line, file);
        fclose(file);
        if (read == NULL || strstr(line, ") Z") != NULL)
            return;
        usleep(10000);
    }
    fail();
}

static void a_command_that_hangs_is_killed(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_set(self, "cluster_command_seconds", "1");
    trial_script(self, "sbatch",
                 "echo 'sbatch: sleeping and retrying' >&2\n"
                 "sleep 1000 & echo $! >child; sleep 1000");
    trial_open(self);
    assert_int_equal(trial_submit(self), DIDI_UNAVAILABLE);
    support_assert_contains(self->error.message, "cluster_command_seconds): sbatch: sleeping");
    must_be_gone(self, "child");
    trial_free(self);
}

static void a_command_that_prints_for_ever_is_killed(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "sbatch", "yes 17");
    trial_script(self, "squeue", "yes 17");
    trial_open(self);
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    support_assert_contains(self->error.message, "printed more than");
    snprintf(self->handle, sizeof self->handle, "17");
    assert_int_equal(trial_look(self), DIDI_CLUSTER);
    trial_free(self);
}

/* A pipe that is full on both sides holds nobody up. */
static void a_command_that_complains_at_length_is_read(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "sbatch",
                 "yes complaint | head -c 1000000 >&2; echo; echo last >&2; exit 1");
    trial_open(self);
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    support_assert_contains(self->error.message, "last");
    trial_free(self);
}

static void a_command_that_is_killed_is_tried_again(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "sbatch", "kill -9 $$");
    trial_open(self);
    assert_int_equal(trial_submit(self), DIDI_UNAVAILABLE);
    support_assert_contains(self->error.message, "signal 9");
    trial_free(self);
}

/* ---- Slurm: states ---- */

static void states_of_slurm(void **state)
{
    static const struct {
        const char *state, *code, *node, *reason;
        cluster_state is;
        int status;
        const char *told;
    } cases[] = {
        {"PENDING", "0", "no node", "Resources", CLUSTER_WAITING, 0, "Resources"},
        {"PENDING", "0", "no node", "ReqNodeNotAvail, UnavailableNodes:n[1-2]", CLUSTER_WAITING, 0,
         "ReqNodeNotAvail, UnavailableNodes:n[1-2]"},
        {"PENDING", "0", "no node", "None", CLUSTER_WAITING, 0, ""},
        {"CONFIGURING", "0", "n1", "None", CLUSTER_WAITING, 0, "CONFIGURING"},
        {"REQUEUE_HOLD", "0", "n1", "launch_failed_requeued_held", CLUSTER_WAITING, 0,
         "REQUEUE_HOLD, launch_failed_requeued_held"},
        {"A_LATER_STATE", "0", "n1", "None", CLUSTER_WAITING, 0, "A_LATER_STATE"},
        {"RUNNING", "0", "n1", "None", CLUSTER_RUNNING, 0, ""},
        {"COMPLETING", "0", "n1", "None", CLUSTER_RUNNING, 0, ""},
        {"SUSPENDED", "0", "n1", "None", CLUSTER_RUNNING, 0, ""},
        {"COMPLETED", "0", "n1", "None", CLUSTER_ENDED, 0, ""},
        {"FAILED", "16896", "n1", "NonZeroExitCode", CLUSTER_FAILED, 66, "NonZeroExitCode on n1"},
        {"FAILED", "66:0", "n1", "NonZeroExitCode", CLUSTER_FAILED, 66, "NonZeroExitCode on n1"},
        {"FAILED", "9", "n1", "JobLaunchFailure", CLUSTER_FAILED, 137, "JobLaunchFailure on n1"},
        {"FAILED", "0:9", "n1", "RaisedSignal:9(Killed)", CLUSTER_FAILED, 137, "RaisedSignal"},
        {"FAILED", "4021", "n1", "JobLaunchFailure", CLUSTER_FAILED, 66,
         "could not be opened on n1"},
        {"FAILED", "0:53", "n1", "None", CLUSTER_FAILED, 66, "nodes share"},
        {"FAILED", "32512", "n1", "NonZeroExitCode", CLUSTER_FAILED, 127, "worker_path"},
        {"TIMEOUT", "0", "n1", "TimeLimit", CLUSTER_FAILED, 143, "slurm_time"},
        {"DEADLINE", "0", "n1", "None", CLUSTER_FAILED, 143, "slurm_time"},
        {"OUT_OF_MEMORY", "0:125", "n1", "OutOfMemory", CLUSTER_FAILED, 69, "task_memory"},
        {"CANCELLED", "0", "n1", "None", CLUSTER_KILLED, 0, "CANCELLED on n1"},
        {"NODE_FAIL", "0", "n1", "NodeDown", CLUSTER_KILLED, 0, "NODE_FAIL, NodeDown on n1"},
        {"PREEMPTED", "0", "n1", "None", CLUSTER_KILLED, 0, "PREEMPTED on n1"},
        {"BOOT_FAIL", "0", "n1", "None", CLUSTER_KILLED, 0, "BOOT_FAIL"},
        {"REVOKED", "0", "n1", "None", CLUSTER_KILLED, 0, "REVOKED"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cluster_task task;
        slurm_read_task(cases[i].state, cases[i].code, cases[i].node, cases[i].reason, &task);
        assert_int_equal(task.state, cases[i].is);
        assert_int_equal(task.status, cases[i].status);
        support_assert_contains(task.reason, cases[i].told);
        if (cases[i].told[0] == '\0')
            assert_string_equal(task.reason, "");
    }
}

static void jobs_that_are_gone_are_unknown(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "squeue",
                 "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
    trial_script(
        self, "scancel",
        "echo 'scancel: error: Kill job error on job id 17: Invalid job id specified' >&2; "
        "exit 1");
    trial_open(self);
    snprintf(self->handle, sizeof self->handle, "17");
    assert_int_equal(trial_look(self), DIDI_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(self->tasks[i].state, CLUSTER_UNKNOWN);
    assert_int_equal(cluster_cancel(self->executor, &self->order, self->handle, &self->error),
                     DIDI_OK);
    trial_script(self, "scancel", "echo 'Unable to contact slurm controller' >&2; exit 1");
    assert_int_equal(cluster_cancel(self->executor, &self->order, self->handle, &self->error),
                     DIDI_UNAVAILABLE);
    trial_free(self);
}

/* Tasks of other orders and arrays change nothing; what is no line of squeue is told. */
static void hostile_squeue(void **state)
{
    static const char *const wrong[] = {
        "printf 'garbage\\n'",
        "printf '%-12s%-12s%-20s\\n' 17 0-3 PENDING",
        "printf '%-12s%-12s%-20s\\n' 17 0 ''",
        "printf '%-12s%-12s%-20s\\n' 17 99999999999 RUNNING",
        "printf '17\\000'",
        "printf '\\033[31m17'",
    };
    trial *self = trial_make(state, "slurm");
    snprintf(self->handle, sizeof self->handle, "17");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        trial_script(self, "squeue", wrong[i]);
        trial_open(self);
        assert_int_equal(trial_look(self), DIDI_CLUSTER);
        assert_null(strchr(self->error.message, '\033'));
    }
    trial_script(self, "squeue",
                 "printf '%-12s%-12s%-20s%-12s%-32s%s\\n' 18 0 RUNNING 0 n1 None "
                 "17 9 RUNNING 0 n1 None 17 999999 RUNNING 0 n1 None 17 1 FAILED x n1 x");
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[0].state, CLUSTER_UNKNOWN);
    assert_int_equal(self->tasks[1].state, CLUSTER_FAILED);
    trial_free(self);
}

static void handles_of_slurm(void **state)
{
    static const char *const wrong[] = {"",
                                        "x",
                                        "1:",
                                        "5:0-1",
                                        "1:0",
                                        "1:10-17",
                                        "1:0-17;",
                                        "1:-17",
                                        "17 ",
                                        "-17",
                                        "1:0-1.1-2.2-3.3-4.4-5.5-6.6-7.7-8.8-9.9-10.0-11"};
    char text[CLUSTER_HANDLE_BYTES];
    slurm_handle handle;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(slurm_handle_read(wrong[i], &handle));
    assert_true(slurm_handle_read("17", &handle));
    slurm_handle_print(&handle, text);
    assert_string_equal(text, "17");
    assert_true(slurm_handle_read("3:1-99999999.9-2", &handle));
    assert_int_equal(handle.digits, 3);
    assert_int_equal(handle.chunks[1].number, 9);
    slurm_handle_print(&handle, text);
    assert_string_equal(text, "3:1-99999999.9-2");
    handle.count = SLURM_CHUNKS_MAX;
    for (size_t i = 0; i < SLURM_CHUNKS_MAX; i++) {
        handle.chunks[i].number = i;
        snprintf(handle.chunks[i].id, SLURM_ID_BYTES, "99999999");
    }
    slurm_handle_print(&handle, text);
    assert_true(slurm_handle_read(text, &handle));
    assert_int_equal(handle.count, SLURM_CHUNKS_MAX);
}

static void orders_are_found_by_name(void **state)
{
    trial *self = trial_make(state, "slurm");
    trial_script(self, "squeue",
                 "echo \"$*\" >words; printf '%-12s%s\\n' 16 didid-job-1 17 didid-job-1 "
                 "18 didid-job-1.3.2 5 didid-job-1.3.2 99 didid-job-1.3.20 98 other");
    trial_open(self);
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_true(self->found);
    assert_string_equal(self->handle, "3:0-17.2-18");
    must_hold(self, "words", "--me --states=all --name=didid-job-1,didid-job-1.1.1,");
    trial_script(self, "squeue", "exit 0");
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_false(self->found);
    trial_script(self, "squeue", "echo 'Socket timed out on send/recv operation' >&2; exit 1");
    assert_int_equal(trial_find(self), DIDI_UNAVAILABLE);
    trial_free(self);
}

/* ---- commands of the operator's ---- */

static trial *trial_commands(void **state)
{
    trial *self = trial_make(state, "command");
    trial_set(self, "command_submit", "submit one  two");
    trial_set(self, "command_status", "status");
    trial_set(self, "command_cancel", "cancel");
    trial_script(self, "submit", TELL_WORDS "echo a-handle:1.2");
    trial_script(self, "status", "exit 0");
    trial_script(self, "cancel", "echo \"$1\" >cancelled");
    trial_open(self);
    return self;
}

static void commands_get_an_order(void **state)
{
    trial *self = trial_commands(state);
    assert_string_equal(cluster_name(self->executor), "command");
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_false(self->found);
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_string_equal(self->handle, "a-handle:1.2");
    must_hold(self, "words", "[one][two]");
    must_hold(self, "script", "\"name\": \"didid-job-1\"");
    must_hold(self, "script", "\"cores\": 2");
    must_hold(self, "script", "\"--task\"");
    memset(self->handle, 0, sizeof self->handle);
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_true(self->found);
    assert_string_equal(self->handle, "a-handle:1.2");
    assert_int_equal(cluster_cancel(self->executor, &self->order, self->handle, &self->error),
                     DIDI_OK);
    must_hold(self, "cancelled", "a-handle:1.2");
    trial_free(self);
}

static void commands_tell_states(void **state)
{
    trial *self = trial_commands(state);
    snprintf(self->handle, sizeof self->handle, "h");
    trial_script(self, "status",
                 "printf '2 failed 66 no such model\\n\\n  0\\twaiting  in a queue \\n9 ended\\n'");
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[0].state, CLUSTER_WAITING);
    assert_string_equal(self->tasks[0].reason, "in a queue");
    assert_int_equal(self->tasks[1].state, CLUSTER_UNKNOWN);
    assert_int_equal(self->tasks[2].state, CLUSTER_FAILED);
    assert_int_equal(self->tasks[2].status, 66);
    assert_string_equal(self->tasks[2].reason, "no such model");
    trial_script(self, "status", "printf '0 running\\n1 ended\\n2 killed by \\033[31mme'");
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[0].state, CLUSTER_RUNNING);
    assert_int_equal(self->tasks[1].state, CLUSTER_ENDED);
    assert_int_equal(self->tasks[2].state, CLUSTER_KILLED);
    assert_string_equal(self->tasks[2].reason, "by \\u{1b}[31mme");
    trial_free(self);
}

static void commands_that_err(void **state)
{
    static const char *const handles[] = {"",    "two words", "two\\nlines", "-option", "../x",
                                          "a;b", "\\033[m",   "a\\000b",     "'\"'\"'"};
    static const char *const states[] = {"x ended",  "0",          "0 done",     "-1 ended",
                                         "0 failed", "0 failed x", "0 failed 0", "0 failed 256",
                                         "ended 0"};
    trial *self = trial_commands(state);
    char text[256];
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
        snprintf(text, sizeof text, "printf '%s'", handles[i]);
        trial_script(self, "submit", text);
        assert_int_equal(trial_submit(self), DIDI_CLUSTER);
        assert_int_equal(trial_find(self), DIDI_OK);
        assert_false(self->found);
    }
    snprintf(self->handle, sizeof self->handle, "h");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        snprintf(text, sizeof text, "echo '%s'", states[i]);
        trial_script(self, "status", text);
        assert_int_equal(trial_look(self), DIDI_CLUSTER);
        support_assert_contains(self->error.message, states[i]);
    }
    trial_script(self, "status", "echo 'the queue is closed' >&2; exit 75");
    assert_int_equal(trial_look(self), DIDI_UNAVAILABLE);
    support_assert_contains(self->error.message, "the queue is closed");
    trial_script(self, "submit", "echo 'no such queue' >&2; exit 1");
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    support_assert_contains(self->error.message, "no such queue");
    support_write(support_directory(state), "didid-job-1.handle", "a b", 3);
    assert_int_equal(trial_find(self), DIDI_CLUSTER);
    trial_free(self);
}

/* Every refused allocation is told, and nothing of it stays. */
static void memory_that_is_refused(void **state)
{
    static const char *const executors[] = {"slurm", "command"};
    for (size_t e = 0; e < 2; e++) {
        trial *self = e == 0 ? trial_make(state, executors[e]) : trial_commands(state);
        trial_script(self, "sbatch", "echo 17");
        trial_script(self, "squeue", "printf '%-12s%-12s%-20s\n' 17 0 RUNNING");
        trial_script(self, "status", "echo 0 running");
        bool fired = true;
        for (int nth = 1; nth < 1000 && fired; nth += SUPPORT_SANITIZED ? 7 : 1) {
            char fault[32];
            snprintf(fault, sizeof fault, "alloc:%d", nth);
            cluster_free(self->executor);
            self->executor = NULL;
            assert_int_equal(fault_arm(fault), 0);
            int status = cluster_create(&self->settings, &self->executor, &self->error);
            if (status == DIDI_OK)
                status = trial_submit(self);
            if (status == DIDI_OK)
                status = trial_look(self);
            if (status == DIDI_OK)
                status = trial_find(self);
            fired = fault_all_fired() != 0;
            assert_int_equal(fault_arm(NULL), 0);
            if (fired && status != DIDI_OK)
                assert_int_equal(status, DIDI_NO_MEMORY);
        }
        assert_false(fired);
        trial_free(self);
    }
}

/* ---- MPI ---- */

static trial *trial_ranks(void **state, const char *mpiexec)
{
    trial *self = trial_make(state, "mpi");
    trial_set(self, "mpi_ranks", "4");
    trial_script(self, "mpiexec", mpiexec);
    trial_open(self);
    return self;
}

/* Looks until it is over, one state after another. */
static void await_end(trial *self)
{
    do {
        assert_int_equal(trial_look(self), DIDI_OK);
        usleep(10000);
    } while (self->tasks[0].state == CLUSTER_RUNNING);
}

static void ranks_run_under_a_process_of_ours(void **state)
{
    trial *self = trial_ranks(state, TELL_WORDS "echo said");
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_false(self->found);
    assert_int_equal(trial_submit(self), DIDI_OK);
    await_end(self);
    assert_int_equal(self->tasks[0].state, CLUSTER_ENDED);
    assert_int_equal(self->tasks[2].state, CLUSTER_ENDED);
    must_hold(self, "words", "[-n][4][/opt/didid-mpi][/");
    must_hold(self, "didid-job-1.log", "said");
    must_hold(self, "didid-job-1.status", "0\n");
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_true(self->found);
    assert_int_equal(unlinkat(support_directory(state), "words", 0), 0);
    assert_int_equal(trial_submit(self), DIDI_OK); /* of the same name: the same run */
    assert_false(support_exists(support_directory(state), "words"));
    trial_free(self);
}

static void ends_of_ranks(void **state)
{
    static const struct {
        const char *text;
        cluster_state is;
        int status;
        const char *told;
    } cases[] = {
        {"echo 'didid-mpi: no such model' >&2; echo '====' ; exit 66", CLUSTER_FAILED, 66,
         "didid-mpi: no such model"},
        {"echo '[mpiexec] no such host'; echo '   ====='; exit 255", CLUSTER_FAILED, 255,
         "no such host"},
        {"exit 1", CLUSTER_FAILED, 1, "said nothing"},
        {"echo a; echo b; echo; echo c; echo -----; echo d; exit 134", CLUSTER_FAILED, 134,
         "b / c / d"},
        {"exit 9", CLUSTER_KILLED, 0, "a rank was killed"},
        {"exit 137", CLUSTER_KILLED, 0, "a rank was killed"},
        {"kill -9 $$", CLUSTER_KILLED, 0, "a rank was killed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        trial *self = trial_ranks(state, cases[i].text);
        snprintf(name, sizeof name, "didid-job-%zu", i);
        self->order.name = name;
        assert_int_equal(trial_submit(self), DIDI_OK);
        await_end(self);
        assert_int_equal(self->tasks[1].state, cases[i].is);
        assert_int_equal(self->tasks[1].status, cases[i].status);
        support_assert_contains(self->tasks[1].reason, cases[i].told);
        trial_free(self);
    }
}

static void ranks_are_ended(void **state)
{
    trial *self =
        trial_ranks(state, "echo $$ >first; trap '' HUP; sleep 1000 & echo $! >child; wait");
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[0].state, CLUSTER_RUNNING);
    assert_int_equal(trial_submit(self), DIDI_OK); /* it runs: nothing is started beside it */
    assert_int_equal(cluster_cancel(self->executor, &self->order, self->handle, &self->error),
                     DIDI_OK);
    await_end(self);
    assert_int_equal(self->tasks[0].state, CLUSTER_KILLED);
    assert_int_equal(cluster_cancel(self->executor, &self->order, self->handle, &self->error),
                     DIDI_OK);
    trial_free(self);
}

/* The process that waits is killed: its ranks end with it, and the order is one to run again. */
static void who_waits_for_ranks_may_die(void **state)
{
    char *text = NULL;
    size_t bytes = 0;
    trial *self = trial_ranks(state, "exec sleep 1000");
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_int_equal(file_read_text(support_directory(state), "didid-job-1.lock", 64, &text, &bytes,
                                    &self->error),
                     DIDI_OK);
    assert_int_equal(kill((pid_t)strtol(text, NULL, 10), SIGKILL), 0);
    free(text);
    await_end(self);
    assert_int_equal(self->tasks[0].state, CLUSTER_KILLED);
    support_assert_contains(self->tasks[0].reason, "with the machine");
    trial_free(self);
}

static void ranks_that_cannot_start_are_told(void **state)
{
    trial *self = trial_ranks(state, "exit 0");
    assert_int_equal(unlinkat(support_directory(state), "mpiexec", 0), 0);
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    support_assert_contains(self->error.message, "mpiexec: No such file or directory");
    self->order.directory = "/nowhere";
    assert_int_equal(trial_submit(self), DIDI_CLUSTER);
    assert_int_equal(trial_look(self), DIDI_CLUSTER);
    trial_free(self);
}

static void ranks_by_slurm(void **state)
{
    trial *self = trial_make(state, "mpi");
    trial_set(self, "mpi_ranks", "4");
    trial_set(self, "mpi_allocation", "slurm");
    trial_set(self, "mpi_command", "srun --mpi=pmi2");
    trial_set(self, "mpi_program", "/opt/mpi/didid-mpi");
    trial_script(self, "sbatch", TELL_WORDS "echo 21");
    trial_script(
        self, "squeue",
        "case \"$*\" in *Name*) printf '%-12s%s\\n' 21 didid-job-1;; *) "
        "printf '%-12s%-12s%-20s%-12s%-32s%s\\n' 21 N/A FAILED 16896 n1 NonZeroExitCode;; esac");
    support_write(support_directory(state), "didid-job-1.log", "didid-mpi: no model\n", 20);
    trial_open(self);
    self->order.memory_bytes = 1U << 20;
    assert_int_equal(trial_submit(self), DIDI_OK);
    assert_string_equal(self->handle, "21");
    must_hold(self, "words", "[--ntasks=4][--cpus-per-task=2][--mem-per-cpu=512K]");
    must_hold(self, "words", "[/dev/stdin][srun][--mpi=pmi2][-n][4][/opt/mpi/didid-mpi][/");
    assert_int_equal(trial_find(self), DIDI_OK);
    assert_true(self->found);
    assert_int_equal(trial_look(self), DIDI_OK);
    assert_int_equal(self->tasks[2].state, CLUSTER_FAILED);
    assert_int_equal(self->tasks[2].status, 66);
    assert_string_equal(self->tasks[2].reason, "didid-mpi: no model");
    trial_free(self);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "supervise") == 0) /* as didid, which this program is not */
        return cluster_supervise(argc - 1, argv + 1);
    const struct CMUnitTest tests[] = {
        support_test(local_is_no_cluster),
        support_test(what_is_missing_is_told),
        support_test(an_array_is_submitted),
        support_test(more_tasks_than_an_array_may_have_are_several),
        support_test(an_array_of_which_a_part_is_refused_is_taken_back),
        support_test(arrays_may_be_turned_off),
        support_test(refusals_are_told_in_slurms_words),
        support_test(what_is_no_number_is_refused),
        support_test(a_command_that_hangs_is_killed),
        support_test(a_command_that_prints_for_ever_is_killed),
        support_test(a_command_that_complains_at_length_is_read),
        support_test(a_command_that_is_killed_is_tried_again),
        support_test(states_of_slurm),
        support_test(jobs_that_are_gone_are_unknown),
        support_test(hostile_squeue),
        support_test(handles_of_slurm),
        support_test(orders_are_found_by_name),
        support_test(commands_get_an_order),
        support_test(commands_tell_states),
        support_test(commands_that_err),
        support_test(memory_that_is_refused),
        support_test(ranks_run_under_a_process_of_ours),
        support_test(ends_of_ranks),
        support_test(ranks_are_ended),
        support_test(who_waits_for_ranks_may_die),
        support_test(ranks_that_cannot_start_are_told),
        support_test(ranks_by_slurm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
