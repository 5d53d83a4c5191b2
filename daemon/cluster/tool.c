/* SPDX-License-Identifier: Apache-2.0 */
/* Running of commands: the argument vector, the environment, the ends of it. */
#include "daemon/cluster/tool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- words ---- */

/* There is room for `more` words beyond those that are there. */
static bool grow(tool_words *self, size_t more)
{
    for (size_t i = 0; i < more && !self->lost; i++) {
        char **grown = memory_grown(self->words, self->count + i, &self->room, sizeof *self->words);
        if (grown != NULL)
            self->words = grown;
        self->lost = grown == NULL;
    }
    return !self->lost;
}

static void add_owned(tool_words *self, char *word)
{
    self->lost = self->lost || word == NULL;
    if (!grow(self, 2)) {
        free(word);
        return;
    }
    self->words[self->count++] = word;
    self->words[self->count] = NULL;
}

void tool_add(tool_words *self, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *word = bytes >= 0 ? memory_zeroed((size_t)bytes + 1, 1) : NULL;
    if (word != NULL) {
        va_start(arguments, format);
        vsnprintf(word, (size_t)bytes + 1, format, arguments);
        va_end(arguments);
    }
    add_owned(self, word);
}

void tool_add_command(tool_words *self, const command *of)
{
    for (size_t i = 0; i < of->count; i++)
        tool_add(self, "%s", of->words[i]);
}

void tool_words_clear(tool_words *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->words[i]);
    free(self->words);
    *self = (tool_words){0};
}

/* ---- environment ---- */

/* Names, and beginnings of names. Not those of a job that the daemon itself may run in (SLURM_*),
 * nor options by variables (SBATCH_*), nor the service manager's. */
static const char *const handed_names[] = {"PATH=",       "HOME=",      "USER=",
                                           "LOGNAME=",    "LANG=",      "TZ=",
                                           "SLURM_CONF=", "SLURM_JWT=", "LD_LIBRARY_PATH=",
                                           "KRB5CCNAME=", "OPENBLAS_",  "OMP_",
                                           "OMPI_MCA_",   "MPICH_",     "HYDRA_",
                                           "UCX_",        "FI_",        "PBS_",
                                           "LSF_",        "LSB_",       "SGE_",
                                           "FLUX_"};

static bool begins(const char *variable, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool is_handed(const char *variable)
{
    return begins(variable, handed_names, sizeof handed_names / sizeof *handed_names);
}

/* What the service manager tells the daemon alone. */
static const char *const withheld_names[] = {
    "NOTIFY_SOCKET=", "LISTEN_",    "CREDENTIALS_DIRECTORY=",
    "WATCHDOG_",      "LC_ALL=",    "JOURNAL_STREAM=",
    "MAINPID=",       "MANAGERPID="};

static bool is_withheld(const char *variable)
{
    return begins(variable, withheld_names, sizeof withheld_names / sizeof *withheld_names);
}

void tool_environment(bool whole, tool_words *ret_environment)
{
    *ret_environment = (tool_words){0};
    tool_add(ret_environment, "LC_ALL=C.UTF-8"); /* messages are told apart by their words */
    if (getenv("PATH") == NULL)
        tool_add(ret_environment, "PATH=/usr/local/bin:/usr/bin:/bin");
    for (char **at = environ; at != NULL && *at != NULL; at++)
        if (whole ? !is_withheld(*at) : is_handed(*at))
            tool_add(ret_environment, "%s", *at);
}

/* ---- running ---- */

/* What a process reads, in memory alone. */
static int input_open(const char *text, int *ret_fd, didi_error *error)
{
    int fd = memfd_create("didid-input", MFD_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, NULL, "cannot make a file in memory");
    int status = file_pwrite_all(fd, text, strlen(text), 0, NULL, error);
    if (status != DIDI_OK)
        close(fd);
    else
        *ret_fd = fd;
    return status;
}

static int judge(const tool_call *call, const watch_result *result, tool_answer *answer,
                 didi_error *error)
{
    if (result->outcome == WATCH_TOO_LONG)
        return didi_fail(error, DIDI_UNAVAILABLE, NULL,
                         "%s gave no answer in %llu seconds (cluster_command_seconds)%s",
                         call->what, (unsigned long long)call->seconds, answer->lines);
    if (result->outcome != WATCH_ENDED)
        return didi_fail(error, DIDI_CLUSTER, NULL, "%s printed more than %d bytes", call->what,
                         TOOL_OUTPUT_BYTES_MAX);
    if (WIFSIGNALED(result->ended))
        return didi_fail(error, DIDI_UNAVAILABLE, NULL, "%s was killed by signal %d%s", call->what,
                         WTERMSIG(result->ended), answer->lines);
    if (strlen(answer->output) != result->output_bytes)
        return didi_fail(error, DIDI_CLUSTER, NULL, "%s printed a NUL byte", call->what);
    answer->code = WEXITSTATUS(result->ended);
    return DIDI_OK;
}

int tool_run(const tool_call *call, tool_answer *ret_answer, didi_error *error)
{
    tool_answer answer = {.output = NULL};
    const watch_limits limits = {.milliseconds =
                                     (int64_t)smaller(call->seconds, INT64_MAX / 1000) * 1000};
    watch_result result = {.output_room = TOOL_OUTPUT_BYTES_MAX + 1};
    child_order order = {.what = call->what,
                         .refused = DIDI_CLUSTER,
                         .program = call->program,
                         .arguments = (const char *const *)call->words->words,
                         .environment = (const char *const *)call->environment->words,
                         .input_fd = -1,
                         .directory_fd = -1,
                         .rules_fd = -1};
    child started;
    int status = DIDI_OK;
    assert(call->seconds > 0 && (call->words->count > 0 || call->words->lost));
    answer.output = result.output = memory_zeroed(result.output_room, 1);
    if (answer.output == NULL || call->words->lost || call->environment->lost)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK && call->input != NULL)
        status = input_open(call->input, &order.input_fd, error);
    if (status != DIDI_OK)
        goto out;
    order.directory_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (order.directory_fd < 0)
        status = didi_fail_errno(error, errno, "/", "cannot open");
    if (status == DIDI_OK)
        status = child_start(&order, &started, error);
    if (status != DIDI_OK)
        goto out;
    watch_child(&started, &limits, &result);
    watch_last_lines(&result, answer.lines);
    status = judge(call, &result, &answer, error);
out:
    file_close(order.input_fd);
    file_close(order.directory_fd);
    if (status == DIDI_OK)
        *ret_answer = answer;
    else
        free(answer.output);
    return status;
}

void tool_answer_clear(tool_answer *self)
{
    free(self->output);
    *self = (tool_answer){0};
}

/* ---- what they print ---- */

char *tool_next_line(char **rest)
{
    char *line = *rest;
    if (line == NULL || line[0] == '\0')
        return NULL;
    char *end = strchr(line, '\n');
    *rest = end != NULL ? end + 1 : NULL;
    if (end != NULL)
        *end = '\0';
    return line;
}

bool tool_read_number(const char *text, size_t *ret_number)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 10 || text[digits] != '\0')
        return false;
    unsigned long long number = strtoull(text, NULL, 10);
    if (number > TOOL_NUMBER_MAX)
        return false;
    *ret_number = (size_t)number;
    return true;
}

bool tool_is_handle(const char *text)
{
    static const char known[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
    size_t bytes = strspn(text, known);
    return bytes > 0 && text[bytes] == '\0' && bytes < CLUSTER_HANDLE_BYTES &&
           strchr("._:-", text[0]) == NULL;
}

void tool_reason(cluster_task *task, const char *format, ...)
{
    char raw[CLUSTER_REASON_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    text_copy_printable(task->reason, sizeof task->reason, raw);
}
