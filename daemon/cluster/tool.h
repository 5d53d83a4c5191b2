/* SPDX-License-Identifier: Apache-2.0 */
/* A command of a scheduler's or an operator's that is run to its end, bounded in time and output.
 */
#pragma once

#include "daemon/cluster/cluster.h"
#include "daemon/process/process.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    TOOL_OUTPUT_BYTES_MAX = 4 << 20, /* that a command may print: some 300 a task */
    TOOL_NUMBER_MAX = 1000000000,
};

/* Words of an argument vector; `words` are count of them, NULL behind the last. Texts that were
 * made for it are its own. */
typedef struct tool_words {
    char **words;
    size_t count, room;
    bool lost; /* memory ran out while words were added: tool_run tells */
} tool_words;

/* printf of one word more. */
void tool_add(tool_words *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tool_add_command(tool_words *self, const command *of);
void tool_words_clear(tool_words *self);

/* The environment that commands and tasks get: what is named in tool.c, or the whole of the
 * daemon's but what is its own alone. Clear with tool_words_clear. */
void tool_environment(bool whole, tool_words *ret_environment);

typedef struct tool_call {
    const char *what;        /* in messages: "sbatch", "command_submit" */
    const char *program;     /* path */
    const tool_words *words; /* with the program's name first */
    const tool_words *environment;
    const char *input; /* what it reads; NULL: nothing */
    uint64_t seconds;  /* > 0 */
} tool_call;

typedef struct tool_answer {
    int code;                      /* exit code */
    char *output;                  /* a text; free with tool_answer_clear */
    char lines[WATCH_LINES_BYTES]; /* the last of standard error as one; "" where there are none */
} tool_answer;

/* Runs it in the root directory. Errors: DIDI_UNAVAILABLE (it takes too long or is killed by a
 * signal), DIDI_CLUSTER (it cannot be run, prints too much or a NUL byte), DIDI_IO, DIDI_NO_MEMORY.
 */
int tool_run(const tool_call *call, tool_answer *ret_answer, didi_error *error);
void tool_answer_clear(tool_answer *self);

/* The next line of a text that is taken apart, without its end; NULL at the end. */
char *tool_next_line(char **rest);
/* A whole number in digits alone, at most TOOL_NUMBER_MAX. */
bool tool_read_number(const char *text, size_t *ret_number);
/* Whether it is a handle: 1 .. CLUSTER_HANDLE_BYTES - 1 of [A-Za-z0-9._:-], a letter or digit
 * first.
 */
bool tool_is_handle(const char *text);
/* What Slurm, MPI and operators say of a failure becomes a task's reason, fit to be shown. */
void tool_reason(cluster_task *task, const char *format, ...) __attribute__((format(printf, 2, 3)));
