/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, read by a table: "--name VALUE", "--name=VALUE", "--name" and arguments. Names
 * may be cut short where one alone begins so; "-h" is "--help". */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

enum {
    OPTIONS_ROWS_MAX = 128,
    OPTIONS_LIST_MAX = 1024,
    OPTIONS_SETTINGS_MAX = 64,
    OPTIONS_EXIT_USAGE = 2,
};

typedef enum option_kind {
    OPTION_END,      /* of the table */
    OPTION_FLAG,     /* bool, becomes true */
    OPTION_LAST,     /* likewise, and nothing after it is read */
    OPTION_TEXT,     /* const char *; the last one counts */
    OPTION_LIST,     /* option_list */
    OPTION_SETTING,  /* option_settings: a key of the config */
    OPTION_ARGUMENT, /* option_list of what is no option; without this row there may be none */
} option_kind;

typedef struct option_row {
    const char *name; /* static; '_' is spelled '-' */
    option_kind kind;
    size_t offset; /* of what it sets */
} option_row;

/* Texts are the command line's. */
typedef struct option_list {
    const char *texts[OPTIONS_LIST_MAX];
    size_t count;
} option_list;

typedef struct option_settings {
    const char *keys[OPTIONS_SETTINGS_MAX]; /* names of rows */
    const char *values[OPTIONS_SETTINGS_MAX];
    size_t count;
} option_settings;

/* Reads argv[1] and what follows into the struct `into`, zeroed before. Once in a process. Errors:
 * DIDI_INVALID. */
int options_read(const option_row *rows, void *into, int argc, char **argv, didi_error *error);

/* Tells `program` (as "didid run") what is wrong with its options. Returns OPTIONS_EXIT_USAGE. */
int options_refuse(const char *program, const didi_error *error);
