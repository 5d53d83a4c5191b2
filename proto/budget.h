/* SPDX-License-Identifier: Apache-2.0 */
/* The budget of a job specification: a ratio of parameters, a size, or an object with one member.
 */
#pragma once

#include "proto/field.h"

/* Reads a number, "S", "M", "L", {"bytes": N}, {"bytes_ratio": x} or {"max_error": e} into
 * *ret_budget and *ret_unit (enumerators of src/base/words.h). Errors: DIDI_INVALID with `pointer`,
 * or the member's, as subject. */
int budget_read_value(json_t *value, const char *pointer, double *ret_budget, int *ret_unit,
                      didi_error *error);

/* What budget_read_value reads back as the same. New reference; NULL without memory. */
json_t *budget_write_value(double budget, int unit);

/* As people type them: {"bytes": N}, {"bytes_ratio": X} or {"max_error": E} from "bytes=N" and so
 * on; else what JSON makes of the text, or a string. New reference; NULL when it is not UTF-8. */
json_t *budget_words_read(const char *text);
