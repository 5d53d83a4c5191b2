/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of a foreground merge: the hidden one that it works in, beside the output, and
 * those it takes spectra and bases from and leaves them in. */
#pragma once

#include "src/base/base.h"

/* Descriptors are -1 where there is none. */
typedef struct places {
    char *parent, *name,
        *holder; /* the output's directory, its name, the hidden directory's path */
    int parent_fd, holder_fd, work_fd;
    int reuse_fd;
} places;

#define PLACES_NONE                                                                                \
    {                                                                                              \
        .parent_fd = -1, .holder_fd = -1, .work_fd = -1, .reuse_fd = -1                            \
    }

/* Makes the hidden directory beside `out`, which must be absent or an empty directory. Close even
 * after a failure. Errors: DIDI_CONFLICT (something is there), DIDI_NOT_FOUND, DIDI_IO,
 * DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int places_open(places *self, const char *out, didi_error *error);

/* Opens what another merge left in the directory `reuse`. Errors: DIDI_NOT_FOUND, DIDI_IO. */
int places_open_reuse(places *self, const char *reuse, didi_error *error);

/* Moves the work directory of a finished merge to `keep`, absent or empty before. Errors:
 * DIDI_CONFLICT (something is there), DIDI_INVALID (on another file system), DIDI_IO. */
int places_keep(const places *self, const char *keep, didi_error *error);

/* The artifacts in the hidden directory become the output, whole. Errors: those of file_rename. */
int places_publish(const places *self, didi_error *error);

/* Closes all and removes the hidden directory. */
void places_close(places *self);
