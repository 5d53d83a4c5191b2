/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for a token. */
#pragma once

#include "proto/states.h"
#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

typedef struct token_request {
    char *name;
    int scope;               /* a token_scope */
    int64_t expires_seconds; /* from now; 0: never */
} token_request;

/* Reads {"name": "...", "scope": "submit", "expires_seconds": 86400}, the last of which may be
 * absent. Errors as specification_parse. Clear *ret_request with token_request_clear. */
int token_request_parse(const char *text, size_t bytes, size_t bytes_max,
                        token_request *ret_request, didi_error *error);
void token_request_clear(token_request *request);

/* The same from texts of a command line; `expires` is a number and s, m, h, d or w, NULL: never.
 * Errors: DIDI_INVALID. */
int token_request_from_texts(const char *name, const char *scope, const char *expires,
                             token_request *ret_request, didi_error *error);

/* The body, compact; caller frees. NULL when out of memory. */
char *token_request_write(const token_request *request);
