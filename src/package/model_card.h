/* SPDX-License-Identifier: Apache-2.0 */
/* README.md of a rebuilt model, and what adapters' have in common with it: what it was merged from,
 * how well, and how it is loaded. */
#pragma once

#include "src/package/side_files.h"

#include <jansson.h>
#include <stdio.h>

enum { MODEL_CARD_LICENSE_BYTES = 64 };

/* The licence that the front matter of the base's README.md names; "" where it names none in one
 * word, or there is no such file. Nothing is wrong then: a base needs none. */
void model_card_base_license(int base_fd, const file_bounds *links,
                             char ret_license[MODEL_CARD_LICENSE_BYTES]);

/* The YAML that hubs read, with its marks. `license` "": no word of one. `base` is the label. */
void model_card_front(FILE *out, const char *base, const char *license, const char *library);

/* Rows of a table: method, bytes of the package and of the task's own file, version of the format.
 */
void model_card_rows(FILE *out, const json_t *manifest, const char *task);

/* What a number in the manifest's `budget.requested` counts, in words. Static. */
const char *model_card_unit(const json_t *budget);

/* The card of a task, from the package's manifest, config.json of the model, which may be NULL,
 * and the base's licence or ""; no date is in it. The caller frees. NULL when out of memory. */
char *model_card_text(const json_t *manifest, const char *task, const json_t *config,
                      const side_files *files, const char *license);
