/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets as people type them. */
#pragma once

#include <jansson.h>

/* {"bytes": N}, {"bytes_ratio": X} or {"max_error": E} from "bytes=N" and so on; else what JSON
 * makes of the text, or a string. New reference; NULL when it is not UTF-8. */
json_t *budget_words_read(const char *text);
