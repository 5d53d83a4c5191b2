/* SPDX-License-Identifier: Apache-2.0 */
/* The interface's own state. */
#include "daemon/api/api.h"

#include "daemon/api/api_internal.h"
#include "src/base/base.h"

#include <stdlib.h>

int api_create(const config *settings, store *records, registry *models, scheduler *jobs,
               api **ret_api, didi_error *error)
{
    api *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    self->settings = settings;
    self->records = records;
    self->models = models;
    self->jobs = jobs;
    self->digests = api_digests_create();
    self->figures = api_figures_create();
    if (self->digests == NULL || self->figures == NULL) {
        api_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    }
    *ret_api = self;
    return DIDI_OK;
}

void api_free(api *self)
{
    if (self == NULL)
        return;
    api_digests_free(self->digests);
    api_figures_free(self->figures);
    free(self);
}
