/* SPDX-License-Identifier: Apache-2.0 */
/* sbatch, squeue, scancel and scontrol, by argument vectors. */
#include "daemon/cluster/slurm.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLURM_ID_MAX = 99999999,       /* Slurm's own limit is 26 bits */
    SLURM_ARRAY_SIZE_USUAL = 1001, /* MaxArraySize where nothing is said */
    /* Columns of squeue: values are padded and cut to them. */
    SLURM_COLUMN_ID = 12,
    SLURM_COLUMN_INDEX = 12,
    SLURM_COLUMN_STATE = 20,
    SLURM_COLUMN_EXIT = 12,
    SLURM_COLUMN_NODE = 32,
    SLURM_COLUMN_REASON = 128,
    SLURM_COLUMN_BYTES = 129,
};

struct slurm {
    const cluster *of;
    command sbatch, squeue, scancel, scontrol, arguments;
    atomic_size_t digits; /* 0: not known yet */
};

/* ---- opening ---- */

static int find_commands(slurm *self, didi_error *error)
{
    const struct {
        const char *name;
        command *to;
    } all[] = {{"sbatch", &self->sbatch},
               {"squeue", &self->squeue},
               {"scancel", &self->scancel},
               {"scontrol", &self->scontrol}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int status = executor_command_read(all[i].name, "executor", all[i].to, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

int slurm_open(const cluster *of, slurm **ret_slurm, didi_error *error)
{
    const char *more = of->settings->slurm_arguments;
    slurm *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->of = of;
    int status = find_commands(self, error);
    if (status == DIDI_OK && more != NULL)
        status = command_split(more, "text of slurm_arguments", &self->arguments, error);
    if (status == DIDI_OK)
        *ret_slurm = self;
    else
        slurm_close(self);
    return status;
}

void slurm_close(slurm *self)
{
    if (self == NULL)
        return;
    command_clear(&self->sbatch);
    command_clear(&self->squeue);
    command_clear(&self->scancel);
    command_clear(&self->scontrol);
    command_clear(&self->arguments);
    free(self);
}

/* ---- running ---- */

/* Words begin with the program's name. */
static int run(slurm *self, const command *program, tool_words *words, const char *input,
               tool_answer *ret_answer, didi_error *error)
{
    const tool_call call = {.what = program->text,
                            .program = program->program,
                            .words = words,
                            .environment = &self->of->environment,
                            .input = input,
                            .seconds = self->of->settings->cluster_command_seconds};
    return tool_run(&call, ret_answer, error);
}

/* A failure in the command's own words; they are often said with its name in front. */
static int fail(const char *name, const tool_answer *answer, didi_error *error)
{
    const char *said = answer->lines[0] != '\0' ? answer->lines + 2 : "";
    if (said[0] == '\0')
        return didi_fail(error, DIDI_CLUSTER, NULL, "%s ended with exit code %d and said nothing",
                         name, answer->code);
    bool named = strncmp(said, name, strlen(name)) == 0;
    return didi_fail(error, slurm_judge(said), NULL, "%s%s%s", named ? "" : name, named ? "" : ": ",
                     said);
}

/* ---- limits ---- */

static size_t digits_of(size_t array_size)
{
    size_t digits = 0;
    for (size_t power = 10; power <= array_size && digits < 4; power *= 10)
        digits++;
    return digits;
}

/* "MaxArraySize            = 1001" among the lines of `scontrol show config`. */
static bool read_array_size(char *text, size_t *ret_size)
{
    char *rest = text;
    for (char *line = tool_next_line(&rest); line != NULL; line = tool_next_line(&rest)) {
        char *value = strchr(line, '=');
        if (strncmp(line, "MaxArraySize", 12) == 0 && value != NULL)
            return tool_read_number(text_trim(value + 1), ret_size);
    }
    return false;
}

size_t slurm_digits(slurm *self)
{
    didi_error error = {0};
    tool_answer answer = {0};
    tool_words words = {0};
    size_t size = 0;
    size_t digits = atomic_load(&self->digits);
    if (digits > 0)
        return digits;
    tool_add(&words, "scontrol");
    tool_add(&words, "show");
    tool_add(&words, "config");
    bool known = run(self, &self->scontrol, &words, NULL, &answer, &error) == DIDI_OK &&
                 answer.code == 0 && read_array_size(answer.output, &size);
    digits = digits_of(known ? size : SLURM_ARRAY_SIZE_USUAL);
    if (known)
        atomic_store(&self->digits, digits);
    tool_answer_clear(&answer);
    tool_words_clear(&words);
    return digits;
}

/* ---- submission ---- */

char *slurm_escape(const char *path)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    for (const char *c = path; *c != '\0'; c++)
        fputs(*c == '%' ? "%%" : (const char[]){*c, '\0'}, text_stream_file(stream));
    return text_stream_close(stream, NULL);
}

static void add_option(tool_words *words, const char *name, const char *value)
{
    if (value != NULL)
        tool_add(words, "--%s=%s", name, value);
}

static void add_options(const slurm *self, const slurm_job *job, tool_words *words)
{
    const config *settings = self->of->settings;
    tool_add(words, "sbatch");
    tool_add(words, "--parsable");
    add_option(words, "job-name", job->name);
    add_option(words, "array", job->array);
    add_option(words, "output", job->output);
    add_option(words, "chdir", job->directory);
    tool_add(words, "--open-mode=append");
    tool_add(words, "--no-requeue");     /* after a failed node Slurm would wait for two minutes */
    tool_add(words, "--export=ALL");     /* of the little that sbatch itself is given */
    tool_add(words, "--propagate=NONE"); /* limits are the nodes', not the daemon's */
    tool_add(words, "--ntasks=%zu", job->tasks);
    tool_add(words, "--cpus-per-task=%zu", job->cores);
    if (job->memory_bytes > 0) {
        const uint64_t kibibytes = (job->memory_bytes - 1) / 1024 + 1;
        const uint64_t of_core = (kibibytes - 1) / job->cores + 1;
        if (job->tasks == 1)
            tool_add(words, "--mem=%" PRIu64 "K", kibibytes);
        else
            tool_add(words, "--mem-per-cpu=%" PRIu64 "K", of_core);
    }
    add_option(words, "partition", settings->slurm_partition);
    add_option(words, "account", settings->slurm_account);
    add_option(words, "qos", settings->slurm_qos);
    if (settings->slurm_time > 0)
        tool_add(words, "--time=%llu", (unsigned long long)settings->slurm_time);
    tool_add_command(words, &self->arguments);
    tool_add(words, "/dev/stdin"); /* the script, so that it can have arguments */
    for (size_t i = 0; i < job->arguments->count; i++)
        tool_add(words, "%s", job->arguments->words[i]);
    words->lost = words->lost || job->arguments->lost;
}

/* "17" or "17;cluster", in a line of its own. */
static bool read_id(char *text, char ret_id[SLURM_ID_BYTES])
{
    size_t number = 0;
    text[strcspn(text, ";\n")] = '\0';
    if (!tool_read_number(text_trim(text), &number) || number == 0 || number > SLURM_ID_MAX)
        return false;
    snprintf(ret_id, SLURM_ID_BYTES, "%zu", number);
    return true;
}

int slurm_submit(slurm *self, const slurm_job *job, char ret_id[SLURM_ID_BYTES], didi_error *error)
{
    tool_answer answer = {0};
    tool_words words = {0};
    assert(job->tasks > 0 && job->cores > 0);
    if (strchr(job->output, '\\') != NULL)
        return didi_fail(error, DIDI_CLUSTER, NULL,
                         "Slurm takes no directory with a backslash for logs");
    add_options(self, job, &words);
    int status = run(self, &self->sbatch, &words, job->script, &answer, error);
    if (status == DIDI_OK && answer.code != 0)
        status = fail("sbatch", &answer, error);
    else if (status == DIDI_OK && !read_id(answer.output, ret_id))
        status = didi_fail(error, DIDI_CLUSTER, NULL, "sbatch printed no job's number: %.100s",
                           answer.output);
    tool_answer_clear(&answer);
    tool_words_clear(&words);
    return status;
}

/* ---- states ---- */

/* Cuts the next column of `width` bytes off a line; shorter at its end. */
static void next_column(const char **line, size_t width, char ret_value[SLURM_COLUMN_BYTES])
{
    size_t bytes = strnlen(*line, width);
    assert(width < SLURM_COLUMN_BYTES);
    memcpy(ret_value, *line, bytes);
    while (bytes > 0 && ret_value[bytes - 1] == ' ')
        bytes--;
    ret_value[bytes] = '\0';
    *line += strnlen(*line, width);
}

/* "None" where Slurm has nothing to ask: jobs that it does not know, which it says of single ones.
 */
static int ask(slurm *self, tool_words *words, tool_answer *ret_answer, didi_error *error)
{
    int status = run(self, &self->squeue, words, NULL, ret_answer, error);
    if (status == DIDI_OK && ret_answer->code != 0) {
        if (strcasestr(ret_answer->lines, "Invalid job id") != NULL)
            ret_answer->output[0] = '\0';
        else
            status = fail("squeue", ret_answer, error);
    }
    return status;
}

int slurm_list(slurm *self, const char *names,
               int (*row)(void *context, const char *name, const char *id, didi_error *error),
               void *context, didi_error *error)
{
    tool_answer answer = {0};
    tool_words words = {0};
    char id[SLURM_COLUMN_BYTES];
    char name[SLURM_COLUMN_BYTES];
    tool_add(&words, "squeue");
    tool_add(&words, "--noheader");
    tool_add(&words, "--me");
    tool_add(&words, "--states=all");
    tool_add(&words, "--name=%s", names);
    tool_add(&words, "--Format=ArrayJobID:%d,Name:%d", SLURM_COLUMN_ID, SLURM_COLUMN_REASON);
    int status = ask(self, &words, &answer, error);
    char *rest = answer.output;
    for (char *text = tool_next_line(&rest); text != NULL && status == DIDI_OK;
         text = tool_next_line(&rest)) {
        const char *line = text;
        size_t number = 0;
        next_column(&line, SLURM_COLUMN_ID, id);
        next_column(&line, SLURM_COLUMN_REASON, name);
        status = tool_read_number(id, &number) && number <= SLURM_ID_MAX
                     ? row(context, name, id, error)
                     : didi_fail(error, DIDI_CLUSTER, NULL,
                                 "squeue printed no job's number: %.100s", text);
    }
    tool_answer_clear(&answer);
    tool_words_clear(&words);
    return status;
}

/* One line of squeue. */
static int read_task(const char *text,
                     int (*row)(void *context, const char *id, const char *index,
                                const cluster_task *task, didi_error *error),
                     void *context, didi_error *error)
{
    char id[SLURM_COLUMN_BYTES];
    char index[SLURM_COLUMN_BYTES];
    char state[SLURM_COLUMN_BYTES];
    char code[SLURM_COLUMN_BYTES];
    char node[SLURM_COLUMN_BYTES];
    char reason[SLURM_COLUMN_BYTES];
    cluster_task task;
    size_t number = 0;
    const char *line = text;
    next_column(&line, SLURM_COLUMN_ID, id);
    next_column(&line, SLURM_COLUMN_INDEX, index);
    next_column(&line, SLURM_COLUMN_STATE, state);
    next_column(&line, SLURM_COLUMN_EXIT, code);
    next_column(&line, SLURM_COLUMN_NODE, node);
    next_column(&line, SLURM_COLUMN_REASON, reason);
    if (!tool_read_number(id, &number) ||
        (!tool_read_number(index, &number) && strcmp(index, "N/A") != 0) || state[0] == '\0')
        return didi_fail(error, DIDI_CLUSTER, NULL, "squeue printed no task: %.100s", text);
    slurm_read_task(state, code, node[0] != '\0' ? node : "no node", reason, &task);
    return row(context, id, index, &task, error);
}

int slurm_look(slurm *self, const char *ids,
               int (*row)(void *context, const char *id, const char *index,
                          const cluster_task *task, didi_error *error),
               void *context, didi_error *error)
{
    tool_answer answer = {0};
    tool_words words = {0};
    tool_add(&words, "squeue");
    tool_add(&words, "--noheader");
    tool_add(&words, "--array");
    tool_add(&words, "--states=all");
    tool_add(&words, "--jobs=%s", ids);
    tool_add(&words,
             "--Format=ArrayJobID:%d,ArrayTaskID:%d,State:%d,exit_code:%d,NodeList:%d,Reason:%d",
             SLURM_COLUMN_ID, SLURM_COLUMN_INDEX, SLURM_COLUMN_STATE, SLURM_COLUMN_EXIT,
             SLURM_COLUMN_NODE, SLURM_COLUMN_REASON);
    int status = ask(self, &words, &answer, error);
    char *rest = answer.output;
    for (char *line = tool_next_line(&rest); line != NULL && status == DIDI_OK;
         line = tool_next_line(&rest))
        status = read_task(line, row, context, error);
    tool_answer_clear(&answer);
    tool_words_clear(&words);
    return status;
}

int slurm_cancel(slurm *self, const char *const *ids, size_t count, didi_error *error)
{
    tool_answer answer = {0};
    tool_words words = {0};
    tool_add(&words, "scancel");
    for (size_t i = 0; i < count; i++)
        tool_add(&words, "%s", ids[i]);
    int status = run(self, &self->scancel, &words, NULL, &answer, error);
    if (status == DIDI_OK && answer.code != 0 &&
        strcasestr(answer.lines, "Invalid job id") == NULL &&
        strcasestr(answer.lines, "already completing or completed") == NULL)
        status = fail("scancel", &answer, error);
    tool_answer_clear(&answer);
    tool_words_clear(&words);
    return status;
}
