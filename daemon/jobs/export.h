/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks written out of artifacts: whole models and adapters. */
#pragma once

#include "daemon/models/models.h"
#include "proto/proto.h"
#include "src/didi.h"

typedef struct export_kind {
    export_format format;
    uint64_t max_rank; /* of an adapter, 0: as the package has it; of a router */
} export_kind;

/* Writes the task as the directory "FOLDER/<task>" below wanted.output_fd, from the base that its
 * label names, a model with the configuration of the task's where that is still found; replaces
 * what is there. *ret_bytes: of the files; may be NULL. On any thread. Errors: those of
 * model_roots_open_model, didi_export_full, didi_export_adapter and
 * didi_export_router. */
int export_task(const model_roots *roots, export_kind kind, didi_export wanted, uint64_t *ret_bytes,
                didi_error *error);
