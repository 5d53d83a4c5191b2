/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket: loopback TCP or a Unix socket, nothing else. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

enum { HTTP_ADDRESS_BYTES = 160 };

typedef struct http_listener {
    int fd;
    bool is_unix;
    unsigned port;                    /* 0 for a Unix socket */
    char host[64];                    /* as written in URLs: "127.0.0.1", "[::1]" */
    char address[HTTP_ADDRESS_BYTES]; /* "127.0.0.1:7878" or "unix:/path" */
} http_listener;

/* Listens on "ADDRESS:PORT" (127.0.0.0/8, [::1] or localhost; port 0 picks a free one) or
 * "unix:/path" (mode 0660; a socket nobody answers on is replaced). Errors: DIDI_INVALID (not such
 * an address), DIDI_CONFLICT (in use), DIDI_IO. Close with http_listener_close. */
int http_listener_open(const char *listen_text, http_listener *ret_listener, didi_error *error);

/* Closes, and removes the Unix socket's file. */
void http_listener_close(http_listener *listener);
