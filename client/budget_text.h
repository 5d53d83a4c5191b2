/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets as people type and read them. */
#pragma once

#include "client/format.h"

#include <jansson.h>
#include <stdbool.h>

/* {"bytes": N}, {"bytes_ratio": X} or {"max_error": E} from "bytes=N" and so on; else what JSON
 * makes of the text, or a string. New reference; NULL when it is not UTF-8. */
json_t *budget_text_read(const char *text);

/* The budget of a specification: "1.24", "S", "0.3 in bytes", "63433 bytes", "error 0.1"; "-" for
 * anything else. Returns target. */
char *budget_text_show(char target[FORMAT_BYTES_MAX], const json_t *budget);

/* A value in a unit as plans name it ("parameters", "bytes", "bytes_ratio", "max_error"), in five
 * digits; with `up` not below the value, so that it works when asked for. Returns target. */
char *budget_text_value(char target[FORMAT_BYTES_MAX], const char *unit, double value, bool up);
