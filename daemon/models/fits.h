/* SPDX-License-Identifier: Apache-2.0 */
/* Which models would do as tasks of a base, from their headers, remembered by revision. Every
 * function is thread-safe. */
#pragma once

#include "daemon/models/roots.h"
#include "daemon/store/store.h"
#include "src/didi.h"

#include <stdbool.h>

typedef struct model_fits model_fits;

/* Keeps `roots` by reference. Errors: DIDI_NO_MEMORY. */
int model_fits_create(const model_roots *roots, model_fits **ret_fits, didi_error *error);
/* NULL is fine. */
void model_fits_free(model_fits *self);

typedef struct model_fit {
    bool fits;
    char *reason; /* why not; NULL where it fits */
    didi_fit figures;
} model_fit;

void model_fit_clear(model_fit *fit);

/* How a ready model stands to a ready base that is no adapter; *ret_read tells whether headers had
 * to be read. A model that cannot be opened now does not fit. The caller clears *ret_fit. Errors:
 * DIDI_NO_MEMORY. */
int model_fits_find(model_fits *self, const store_model *base, const store_model *model,
                    model_fit *ret_fit, bool *ret_read, didi_error *error);
