/* SPDX-License-Identifier: Apache-2.0 */
/* What a command is, and what it is given. Each command_*.c defines some; commands.c lists them. */
#pragma once

#include "client/base/base.h"
#include "client/net/net.h"
#include "client/view/view.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

/* Ids of commands' own options. */
enum {
    OPTION_ADD = SETTINGS_ID_END,
    OPTION_ALL,
    OPTION_AFTER,
    OPTION_BASE,
    OPTION_BUDGET,
    OPTION_BYTES,
    OPTION_CLIENT,
    OPTION_DRY_RUN,
    OPTION_DTYPE,
    OPTION_ERRORS,
    OPTION_FOLLOW,
    OPTION_FORMAT,
    OPTION_FROM_JOB,
    OPTION_KEY,
    OPTION_LABEL,
    OPTION_LAYER,
    OPTION_LAYERS,
    OPTION_LIMIT,
    OPTION_NAME,
    OPTION_NO_COMPARE,
    OPTION_OBJECTIVE,
    OPTION_PRIORITY,
    OPTION_REBALANCE,
    OPTION_REMOVE,
    OPTION_SET,
    OPTION_STATE,
    OPTION_TASK,
    OPTION_WAIT,
};

typedef struct command_context {
    const client_arguments *arguments;
    const client_settings *settings;
    client_interrupt *interrupt;
    client_service *service;
    client_output *output;
} command_context;

typedef struct client_command {
    const char *name;  /* one word, or two */
    const char *words; /* positional words for the synopsis; "" for none */
    size_t word_min, word_max;
    const char *summary;
    const char *text; /* more help: lines ending in \n; "" for none */
    option_table options;
    int (*run)(const command_context *context, didi_error *error); /* returns a client_exit */
} client_command;

/* All commands in the order of the help text. Static. */
const client_command *const *command_list(size_t *ret_count);

/* The command named by the first words, or NULL; *ret_words says how many words its name has. */
const client_command *command_find(char *const *words, size_t count, size_t *ret_words);

/* Reads an option's value as a whole number in minimum .. maximum; `fallback` when not given.
 * Errors: CLIENT_USAGE. */
int command_integer(const command_context *context, int id, const char *name, long minimum,
                    long maximum, long fallback, long *ret_value, didi_error *error);

#define COMMAND_OPTIONS(rows)                                                                      \
    {                                                                                              \
        (rows), sizeof(rows) / sizeof((rows)[0])                                                   \
    }
#define COMMAND_NO_OPTIONS                                                                         \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

/* Version of the client ("0.1.0"). */
const char *command_version_text(void);
