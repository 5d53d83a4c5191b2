/* SPDX-License-Identifier: Apache-2.0 */
/* What a finished merge of the same inputs left for this one. All of it is absent without
 * options.reuse_fd. */
#pragma once

#include "src/work/work.h"

#include <jansson.h>

struct reuse_source {
    json_t *document;     /* reuse.json: what the method left there is at its top */
    size_t *index;        /* of each layer: number of its snapshots there, or SIZE_MAX */
    char (*digests)[65];  /* of the input files, as taken then */
    const char **same;    /* what was the base's (compare.h); of the document */
    bool *same_place;     /* the very file, not a copy with its times: need not be read again */
    char fingerprint[65]; /* of that merge */
};

/* Reads what there is and compares the inputs; after the family is open and layers are sorted.
 * Errors: DIDI_MISMATCH, DIDI_CHANGED, DIDI_FORMAT, DIDI_NOT_FOUND, DIDI_INVALID. */
int work_reuse_open(work *self, didi_error *error);
void work_reuse_close(work *self);
/* True when that merge knew this layer: its number there. */
bool work_reuse_find(const work *self, size_t index, size_t *ret_old);
/* Links (or copies) a file of it into this merge's work directory. */
bool work_reuse_take(const work *self, const char *old_name, const char *name);
/* DIDI_CHANGED when an input's digest is not what it was. */
int work_reuse_check_digest(const work *self, size_t index, didi_error *error);
/* Leaves for later merges what they must know of this one; before its artifacts appear. `method`
 * (taken over) is what its method must know then. */
int work_reuse_write(const work *self, const char *fingerprint, json_t *method, didi_error *error);
