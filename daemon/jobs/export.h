/* SPDX-License-Identifier: Apache-2.0 */
/* Full models rebuilt from artifacts. */
#pragma once

#include "daemon/models/models.h"
#include "src/didi.h"

/* One task's model, as "models/<task>/model.safetensors" below output_fd. Nothing is taken. */
typedef struct export_order {
    int artifact_fd, output_fd;
    const model_roots *roots;
    const char *base, *task;
    bool verify_base; /* against the manifest's digests */
    int (*cancelled)(void *context);
    void *context;
} export_order;

/* Replaces the model if it is there. *ret_bytes: of the file; may be NULL. On any thread. Errors:
 * those of model_roots_open_model and didi_export_full. */
int export_model(const export_order *order, uint64_t *ret_bytes, didi_error *error);
