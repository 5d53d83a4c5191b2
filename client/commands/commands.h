/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of didictl: found by their words, explained, and run. */
#pragma once

#include "client/base/base.h"

#include <stddef.h>
#include <stdio.h>

typedef struct client_command client_command;

/* The command named by the first words, or NULL; *ret_words says how many words its name has.
 * Static. */
const client_command *command_find(char *const *words, int count, int *ret_words);

/* Fails with CLIENT_USAGE: no command is named so, and perhaps another was meant. */
int command_fail_unknown(char *const *words, int count, client_advice *advice, didi_error *error);

/* Its name, of one word or two. Static. */
const char *command_name(const client_command *command);

/* The options of its own, beside those every command takes. Static. */
option_table command_options(const client_command *command);

/* Runs the command on a command line that was read with its options: returns a client_exit.
 * Errors: all of them, with advice where there is some; CLIENT_USAGE when there are too few words
 * or too many. */
int command_run(const client_command *command, const client_arguments *arguments,
                client_advice *advice, didi_error *error);

/* Help texts, made from the tables of commands and options. */
void help_overview(FILE *stream);
void help_command(FILE *stream, const client_command *command);
