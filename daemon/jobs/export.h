/* SPDX-License-Identifier: Apache-2.0 */
/* Full models rebuilt from artifacts. */
#pragma once

#include "daemon/models/models.h"
#include "src/didi.h"

/* Makes the model as the directory "models/<task>" below wanted.output_fd, from the base that its
 * label names, with the configuration of the task's model where that is still found; replaces the
 * model if it is there. *ret_bytes: of all files; may be NULL. On any thread. Errors: those of
 * model_roots_open_model and didi_export_full. */
int export_model(const model_roots *roots, didi_export wanted, uint64_t *ret_bytes,
                 didi_error *error);
