/* SPDX-License-Identifier: Apache-2.0 */
/* What a command is, and what it is given; each file beside this one defines some. */
#pragma once

#include "client/base/base.h"
#include "client/commands/command_table.h"
#include "client/commands/commands.h"
#include "client/net/net.h"
#include "client/view/view.h"
#include "src/base/base.h"

#include <stddef.h>

/* Ids of commands' own options. */
enum {
    OPTION_ADD = SETTINGS_ID_END,
    OPTION_ALL,
    OPTION_AFTER,
    OPTION_BASE,
    OPTION_BUDGET,
    OPTION_BYTES,
    OPTION_CHECK,
    OPTION_CLIENT,
    OPTION_DESCRIPTION,
    OPTION_DISABLE,
    OPTION_DRY_RUN,
    OPTION_DTYPE,
    OPTION_METHOD,
    OPTION_ENABLE,
    OPTION_ERRORS,
    OPTION_EVENT,
    OPTION_EXPIRES,
    OPTION_FOLLOW,
    OPTION_FORMAT,
    OPTION_FROM_JOB,
    OPTION_HEADER,
    OPTION_KEY,
    OPTION_LABEL,
    OPTION_LAYER,
    OPTION_LAYERS,
    OPTION_LIMIT,
    OPTION_MAX_RANK,
    OPTION_NAME,
    OPTION_NEW_SECRET,
    OPTION_NO_COMPARE,
    OPTION_OBJECTIVE,
    OPTION_SURVEY,
    OPTION_OVERLAP,
    OPTION_PARALLEL,
    OPTION_PLAN,
    OPTION_PRIORITY,
    OPTION_REBALANCE,
    OPTION_REMOVE,
    OPTION_RESTART,
    OPTION_SECRET_FILE,
    OPTION_SCOPE,
    OPTION_SET,
    OPTION_STATE,
    OPTION_TASK,
    OPTION_TO_FILE,
    OPTION_URL,
    OPTION_WAIT,
    OPTION_WATCH,
};

typedef struct command_context {
    const client_arguments *arguments;
    const client_settings *settings;
    client_interrupt *interrupt;
    client_service *service;
    client_output *output;
    client_advice *advice; /* what to do about the error that ends the command */
} command_context;

struct client_command {
    const char *name;  /* one word, or two */
    const char *words; /* positional ones: "", or of WORD, WORD... and [WORD], with single blanks */
    const char *summary;
    const char *text;     /* more help: lines ending in \n; NULL for none */
    option_table options; /* its own; may be none */
    int (*run)(const command_context *context, didi_error *error); /* returns a client_exit */
};

/* Those of COMMAND_TABLE, command_x for each row; each is defined in a file beside this one. */
#define COMMAND_DECLARATION(name) extern const client_command command_##name;
COMMAND_TABLE(COMMAND_DECLARATION)
#undef COMMAND_DECLARATION

/* The list of them. Static. */
const client_command *const *command_list(size_t *ret_count);

/* An option whose value is a whole number in minimum .. maximum; `fallback` when not given. */
typedef struct command_number {
    int id;
    const char *flag;
    long minimum, maximum, fallback;
} command_number;

/* Reads it. Errors: CLIENT_USAGE. */
int command_integer(const command_context *context, const command_number *number, long *ret_value,
                    didi_error *error);

/* Sends `method` for each id that is given, to `path`/ID and `ending`. `what` is of a wrong one:
 * "a fetch". Returns a client_exit. */
int command_change_each(const command_context *context, const char *path, const char *what,
                        const char *method, const char *ending, didi_error *error);

/* Prints what the server sent for people. */
typedef int (*command_printer)(const command_context *context, const json_t *document,
                               didi_error *error);

/* Ends a command: unless `status` tells of a failure, prints the document as the output format
 * asks, for people by `print`, else as output_records does. Takes the reference. Returns a
 * client_exit. */
int command_print(const command_context *context, int status, json_t *document,
                  const char *name_key, command_printer print, didi_error *error);

#define COMMAND_OPTIONS(rows)                                                                      \
    {                                                                                              \
        (rows), sizeof(rows) / sizeof((rows)[0])                                                   \
    }
