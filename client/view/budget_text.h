/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets as people read them. */
#pragma once

#include "client/view/format.h"

#include <jansson.h>
#include <stdbool.h>

/* The budget of a specification: "1.24 models", "1.24 16-bit models" (output dtype auto), "0.3 of
 * the base's bytes", "63433 bytes", "error 0.1"; "-" for anything else. Returns target. */
char *budget_text_show(char target[FORMAT_BYTES_MAX], const json_t *specification);

/* What its events' ratios count: "parameters" or "bytes". Static. */
const char *budget_text_counted(const json_t *specification);

/* What is stored, from the budget of a result, in the unit of what was asked for. Returns target.
 */
char *budget_text_stored(char target[FORMAT_BYTES_MAX], const json_t *budget);

/* A value in a unit as plans name it ("parameters", "bytes", "bytes_ratio", "max_error"), for an
 * output dtype, in five digits; with `up` not below the value, so that it works when asked for.
 * Returns target. */
char *budget_text_value(char target[FORMAT_BYTES_MAX], const char *unit, const char *dtype,
                        double value, bool up);
