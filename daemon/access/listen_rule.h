/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon may listen. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

typedef struct listen_facts {
    const char *listen; /* as the setting: places, comma-separated */
    bool tokens;        /* there is one */
    bool tls;           /* spoken where the place does not say */
    bool behind_proxy;  /* something before it does */
} listen_facts;

/* "unix:/path", 127.0.0.0/8, "[::1]" and "localhost", with or without a port. */
bool listen_is_local(const char *listen);

/* Without tokens this machine alone may reach the daemon; others need tokens, and TLS so that these
 * stay secret on their way. Errors: DIDI_INVALID with "listen" as subject and the reason. */
int listen_check(const listen_facts *facts, didi_error *error);
