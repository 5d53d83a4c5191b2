/* SPDX-License-Identifier: Apache-2.0 */
/* A command of the operator's as words, and the program that it names. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

enum { COMMAND_WORDS_MAX = 64 };

/* Words are the command's; `words` are count of them. */
typedef struct command {
    char *text;
    char *words[COMMAND_WORDS_MAX];
    size_t count;
    char *program; /* its path from the root; NULL: not looked for */
} command;

/* Splits `text` at spaces and tabs, which no shell does; quotes are refused. `what` it is, as
 * "scorer", is for messages. Clear even after a failure. Errors: DIDI_INVALID (no words, too many,
 * quotes), DIDI_NO_MEMORY. */
int command_split(const char *text, const char *what, command *ret_command, didi_error *error);
/* The same, and finds the first word: with a slash a path, else a name in PATH. Errors: also
 * DIDI_INVALID (not executable), DIDI_NOT_FOUND. */
int command_read(const char *text, const char *what, command *ret_command, didi_error *error);
void command_clear(command *self);
