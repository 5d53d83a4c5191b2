/* SPDX-License-Identifier: Apache-2.0 */
/* A command of the operator's as words, and the program that it names. */
#pragma once

#include "daemon/score/score.h"

/* Words are the command's; `words` are count of them. */
typedef struct command {
    char *text;
    char *words[SCORE_COMMAND_WORDS_MAX];
    size_t count;
    char *program; /* its path from the root */
} command;

/* Splits `text` at spaces and tabs; finds the first word: with a slash a path, else a name in PATH.
 * Clear even after a failure. Errors: DIDI_INVALID (no words, too many, quotes; not executable),
 * DIDI_NOT_FOUND, DIDI_NO_MEMORY. */
int command_read(const char *text, command *ret_command, didi_error *error);
void command_clear(command *self);
