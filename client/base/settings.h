/* SPDX-License-Identifier: Apache-2.0 */
/* What a run of the client is told besides its command: flag before environment before file. */
#pragma once

#include "client/base/advice.h"
#include "client/base/arguments.h"
#include "src/base/base.h"

#include <stdbool.h>

/* Option ids of the global table; command ids start at SETTINGS_ID_END. */
enum {
    SETTINGS_ID_HOST,
    SETTINGS_ID_OUTPUT,
    SETTINGS_ID_QUIET,
    SETTINGS_ID_NO_COLOR,
    SETTINGS_ID_TIMEOUT,
    SETTINGS_ID_HELP,
    SETTINGS_ID_VERSION,
    SETTINGS_ID_CONTEXT,
    SETTINGS_ID_TOKEN_FILE,
    SETTINGS_ID_CA_FILE,
    SETTINGS_ID_END,
};

#define OUTPUT_FORMAT_TABLE(X)                                                                     \
    X(TABLE, "table") /* for people */                                                             \
    X(JSON, "json")   /* one indented document */                                                  \
    X(JSONL, "jsonl") /* one document a line */                                                    \
    X(NAME, "name")   /* ids or names alone, one a line */
typedef enum output_format {
#define OUTPUT_FORMAT_ENUMERATOR(id, name) OUTPUT_##id,
    OUTPUT_FORMAT_TABLE(OUTPUT_FORMAT_ENUMERATOR)
#undef OUTPUT_FORMAT_ENUMERATOR
} output_format;

enum { SETTINGS_TIMEOUT_SECONDS_DEFAULT = 30, SETTINGS_TIMEOUT_SECONDS_MAX = 86400 };

typedef struct client_settings {
    char *host;    /* owned: an http or https URL without a trailing slash, or "unix:/path" */
    char *path;    /* owned: of the configuration file, whether it is there or not; may be NULL */
    char *context; /* owned: name of the server that is meant; NULL for none */
    char *token;   /* owned: what the server gets as proof; NULL for none */
    char *ca_file; /* owned: PEM file of authorities trusted in place of the system's; or NULL */
    output_format format;
    bool quiet;          /* no progress, no notes; errors stay */
    bool color;          /* wanted, terminal permitting */
    bool smart;          /* terminals obey escape sequences: TERM is not dumb */
    int timeout_seconds; /* silence after which a server counts as unreachable */
} client_settings;

/* The options every command takes. Static. */
option_table settings_options(void);

/* Reads the configuration file, the environment and the flags. Caller frees with settings_clear.
 * Errors: CLIENT_USAGE (the message names the flag, variable, or file and line; with advice, which
 * may be NULL, where there is some), CLIENT_FAILURE. */
int settings_load(const client_arguments *arguments, client_settings *ret_settings,
                  client_advice *advice, didi_error *error);
void settings_clear(client_settings *settings);

/* Sets the host from what a user wrote. `origin` as in messages. Errors: CLIENT_USAGE. */
int settings_set_host(client_settings *self, const char *value, const char *origin,
                      didi_error *error);

/* A token goes over https, a Unix socket, or http to this machine. Errors: CLIENT_USAGE. */
int settings_check_token(const client_settings *self, didi_error *error);

/* Reads a token's text: one word. Errors: CLIENT_USAGE naming `origin`, never the text. */
int settings_set_token(client_settings *self, const char *value, const char *origin,
                       didi_error *error);
