/* SPDX-License-Identifier: Apache-2.0 */
/* What names on the wire may look like. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Digits of the ids of jobs: Crockford's base 32. */
#define NAME_ID_DIGITS "0123456789abcdefghjkmnpqrstvwxyz"

/* Length of the component at `text`, [A-Za-z0-9._-] without a dot at the start; 0: none. */
size_t name_component(const char *text);

/* A relative model name: components of [A-Za-z0-9._-] joined by '/', none empty or starting with a
 * dot, at most LIMIT_MODEL_NAME_COMPONENTS; then, or not, '@' and a revision of the same form. At
 * most LIMIT_MODEL_NAME_BYTES in all. */
bool name_is_model(const char *text);

/* A task: one such component of at most LIMIT_TASK_NAME_BYTES. */
bool name_is_task(const char *text);

/* The id of a job: 26 digits in base 32 (0-9 and a-z without i, l, o, u). */
bool name_is_job(const char *text);

/* A label's key ([A-Za-z0-9] then [A-Za-z0-9._-]) and value (printable ASCII, may be empty). */
bool name_is_label_key(const char *text);
bool name_is_label_value(const char *text);

/* No control characters; `characters_max` counts code points of valid UTF-8. */
bool name_is_plain_text(const char *text, size_t characters_max);
