/* SPDX-License-Identifier: Apache-2.0 */
/* Several artifacts side by side, each on a connection of its own. */
#pragma once

#include "client/net/download.h"
#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

enum { DOWNLOAD_PARALLEL_DEFAULT = 4, DOWNLOAD_PARALLEL_MAX = 16 };

typedef struct download_batch {
    const download_file *files; /* each as for download_run; no two of one name */
    size_t count;
    size_t parallel; /* must be 1 .. DOWNLOAD_PARALLEL_MAX */
    int directory_fd;
    void *context;
    /* Some times a second, and once all is done: of how many files all is there, and of how many
     * bytes of them all. Called by the thread of download_all alone. */
    void (*observe)(void *context, size_t files, int64_t bytes);
} download_batch;

/* Brings them all; the outcome of each goes to ret_outcomes[0 .. count). When one fails, none is
 * begun any more, those under way end soon, and all that came stays for the next call. Errors:
 * those of download_run (the first that happened), of service_open; CLIENT_FAILURE (no thread). */
int download_all(const client_settings *settings, client_interrupt *interrupt,
                 const download_batch *batch, download_outcome *ret_outcomes, didi_error *error);
