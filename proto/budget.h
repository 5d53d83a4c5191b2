/* SPDX-License-Identifier: Apache-2.0 */
/* The budget of a job specification: a ratio of parameters, a size, or an object with one member.
 */
#pragma once

#include "proto/field.h"

/* How much of what. */
typedef struct specification_budget {
    double value; /* named sizes are resolved; 0 for none */
    int unit;     /* enumerator of src/base/words.h */
} specification_budget;

/* Such a member: a number, "S", "M", "L", {"bytes": N}, {"bytes_ratio": x} or {"max_error": e};
 * absent where its value is 0. */
extern const field_kind field_budget;

/* As people type them: {"bytes": N}, {"bytes_ratio": X} or {"max_error": E} from "bytes=N" and so
 * on; else what JSON makes of the text, or a string. New reference; NULL when it is not UTF-8. */
json_t *budget_words_read(const char *text);
