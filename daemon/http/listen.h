/* SPDX-License-Identifier: Apache-2.0 */
/* The listening sockets: TCP with or without TLS, and Unix sockets. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

enum { HTTP_ADDRESS_BYTES = 160, HTTP_LISTENERS_MAX = 8 };

typedef struct http_listener {
    int fd;
    bool is_unix, tls;
    bool is_control;                  /* for local administration: its peers count apart */
    bool is_inherited;                /* from the service manager: its socket file stays */
    unsigned port;                    /* 0 for a Unix socket */
    char host[64];                    /* as written in URLs: "127.0.0.1", "[::1]" */
    char address[HTTP_ADDRESS_BYTES]; /* "127.0.0.1:7878", "https://..." or "unix:/path" */
} http_listener;

/* What listeners may be. */
typedef struct http_listen_rules {
    bool any_address; /* beyond loopback, in plain text too; with TLS that is allowed anyway */
    bool has_tls;     /* there is a certificate: "https://" can be asked for */
    bool tls;         /* without "http://" or "https://": TLS */
    bool control;     /* the listener is for local administration: only its user may connect */
} http_listen_rules;

/* Listens on each of the comma-separated places: "ADDRESS:PORT" with a numeric address or localhost
 * (port 0 picks a free one), with "http://" or "https://" before it if it is to differ from the
 * rules' `tls`; "unix:/path" (mode 0660; a socket nobody answers on is replaced); "systemd", which
 * stands for the sockets that the service manager opened (LISTEN_FDS). Errors: DIDI_INVALID (not
 * such an address, or not allowed), DIDI_CONFLICT (in use), DIDI_IO; none is open then. */
int http_listeners_open(const char *places, const http_listen_rules *rules,
                        http_listener ret_listeners[HTTP_LISTENERS_MAX], size_t *ret_count,
                        didi_error *error);

/* Closes, and removes the Unix socket's file. */
void http_listener_close(http_listener *listener);
