/* SPDX-License-Identifier: Apache-2.0 */
/* A command line read against a table of options. Options may stand anywhere before "--"; names may
 * be cut short where one alone begins so; a lone "-" is positional. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

/* One option. `argument` is the name of its value in help texts, NULL for a flag. */
typedef struct option_row {
    int id;      /* not negative; unique within a command and the global table */
    char letter; /* 0 when there is no short form */
    const char *name;
    const char *argument;
    const char *help;
} option_row;

typedef struct option_table {
    const option_row *rows;
    size_t count;
} option_table;

typedef struct client_arguments client_arguments;

/* An empty command line; `globals` are the options that stand beside those of any command. Caller
 * frees; NULL when out of memory. */
client_arguments *arguments_create(option_table globals);
void arguments_free(client_arguments *arguments);

/* Reads words[1 .. count) against `options` and the globals and adds what it finds; the strings
 * stay the caller's and must outlive `arguments`. With `stop_at_word`, ends before the first
 * positional and gives its index in *ret_used, else *ret_used is `count`. Errors: CLIENT_USAGE,
 * CLIENT_FAILURE. */
int arguments_parse(client_arguments *arguments, option_table options, char *const *words,
                    int count, bool stop_at_word, int *ret_used, didi_error *error);

bool arguments_has(const client_arguments *arguments, int id);

/* The last value given for an option, or NULL. */
const char *arguments_value(const client_arguments *arguments, int id);

/* The value given at the index-th time, or NULL. */
const char *arguments_at(const client_arguments *arguments, int id, size_t index);

/* The index-th positional word, or NULL. */
const char *arguments_word(const client_arguments *arguments, size_t index);
