/* SPDX-License-Identifier: Apache-2.0 */
/* README.md of a rebuilt model: what it was merged from, how well, and how it is loaded. */
#pragma once

#include "src/package/side_files.h"

#include <jansson.h>

/* What a number in the manifest's `budget.requested` counts, in words. Static. */
const char *model_card_unit(const json_t *budget);

/* The card of a task, from the package's manifest and config.json of the model, which may be NULL;
 * no date is in it. The caller frees. NULL when out of memory. */
char *model_card_text(const json_t *manifest, const char *task, const json_t *config,
                      const side_files *files);
