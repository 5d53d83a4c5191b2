/* SPDX-License-Identifier: Apache-2.0 */
/* Reading members of JSON objects that a server sent: absent or of another type is never a crash.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The member at the end of a path of keys with dots between; NULL when absent. */
const json_t *record_at(const json_t *object, const char *path);

/* "" when absent, of another type, or holding a NUL. Lives as long as `object`. */
const char *record_text(const json_t *object, const char *path);

/* The index-th text of an array; "?" when there is none. */
const char *record_element(const json_t *array, size_t index);

/* NaN when absent or of another type. */
double record_number(const json_t *object, const char *path);

/* -1 when absent, of another type, or negative. */
int64_t record_integer(const json_t *object, const char *path);

bool record_true(const json_t *object, const char *path);

/* True if `text` has 1 to `bytes_max` characters of A-Z a-z 0-9 and `more`. */
bool record_is_word(const char *text, size_t bytes_max, const char *more);
