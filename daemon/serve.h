/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life: everything started in order, and stopped in the opposite one. */
#pragma once

#include "daemon/base/base.h"

/* Where settings come from: read again on SIGHUP into a fresh config, which is cleared after. */
typedef struct serve_source {
    int (*read)(const void *context, config *fresh, didi_error *error);
    const void *context;
} serve_source;

/* Serves until SIGTERM or SIGINT. Returns the process's exit code; errors go to the log. */
int serve(config *settings, const serve_source *source);
