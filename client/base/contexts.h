/* SPDX-License-Identifier: Apache-2.0 */
/* Servers by name in the configuration file: "[NAME]", then host, token and ca_file. `context =
 * NAME` above them says which one is meant. Files are replaced whole, with mode 0600; lines that
 * are not about it stay. All paths are those of settings_path. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stdio.h>

enum { CONTEXT_NAME_BYTES_MAX = 64 };

typedef struct client_server {
    const char *name, *host;
    const char *token, *ca_file; /* may be NULL */
} client_server;

/* 1 to CONTEXT_NAME_BYTES_MAX of A-Z, a-z, 0-9, '.', '_', '-' and ':'. */
bool context_name_is_valid(const char *name);

/* The name in a line "[NAME]", in place; NULL if it is no such line. */
char *context_heading(char *line);

/* Adds a server or replaces the one of this name, and makes it the one that is meant. Errors:
 * CLIENT_FAILURE. */
int contexts_put(const char *path, const client_server *server, didi_error *error);

/* Makes an existing one the one that is meant. */
int contexts_use(const char *path, const char *name, didi_error *error);
/* `is_current`: it is the one that is meant, and none is from now on. */
int contexts_remove(const char *path, const char *name, bool is_current, didi_error *error);
/* Removes the token alone. */
int contexts_log_out(const char *path, const char *name, didi_error *error);

/* Calls visit for each name and host, in the order of the file. Errors: CLIENT_FAILURE. */
int contexts_each(const char *path,
                  void (*visit)(void *context, const char *name, const char *host, bool has_token),
                  void *context, didi_error *error);
