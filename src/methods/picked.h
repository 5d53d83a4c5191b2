/* SPDX-License-Identifier: Apache-2.0 */
/* Panels for methods whose experts pick: a mask over what is shared, signs of one magnitude, the
 * numbers of a few places. The last row of such a method streams from the inputs to the disk, and
 * what it leaves of a tensor is taken up after a crash. */
#pragma once

#include "src/methods/stored.h"

/* What is left of a tensor: in the shared file nothing (STORED_FACTORS), STORED_DELTA or
 * STORED_MASKED; in each expert nothing, STORED_DELTA (what the task vector has beyond a shared
 * delta) or what it picks. */
typedef struct picked_form {
    stored_form shared, expert;
    size_t entries; /* of each row, with STORED_PLACES */
} picked_form;

/* Who makes it. `fill` gets a panel as stored_shared_panels gives it, and for each task room for
 * bits, false before: those of its mask, of its signs (true is plus), or its places, `entries` of
 * each row. There `scale` times the task vector is served. */
typedef struct picked_user {
    void (*fill)(void *context, const method_panel *panel, bool *const *picked);
    void *context;
    const float *scale; /* T: of masks, signs, places; NULL: 1 */
} picked_user;

/* Measures energies and errors of what is served, stores it, and sets the tensor's summary. In the
 * row that is published. Errors: those of stored_shared_panels. */
int picked_store(stored *out, work *work, size_t tensor, const picked_form *form,
                 const picked_user *user, didi_error *error);
/* Takes it up again. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO. */
int picked_recall(work *work, size_t tensor, const picked_form *form, didi_error *error);
/* For the method's plan: memory, and what is stored of a tensor with its headers. */
uint64_t picked_memory(const work *work, size_t tensor);
stored_size picked_size(const work *work, size_t tensor, const picked_form *form);
