/* SPDX-License-Identifier: Apache-2.0 */
/* Which of some words somebody may have meant. */
#pragma once

#include <stddef.h>

enum { NEAREST_BYTES_MAX = 64 }; /* longer words are near to none */

typedef struct nearest {
    const char *wanted;
    char found[NEAREST_BYTES_MAX + 1]; /* "" while no word was near */
    size_t distance;
} nearest;

/* `wanted` must outlive the object. */
nearest nearest_begin(const char *wanted);

/* Takes the candidate if it is nearer than those before: by the letters that are wrong, lacking,
 * too many or changed about (Damerau and Levenshtein), of which a third may be; or when it begins
 * with what was wanted, or ends in it behind a slash. */
void nearest_try(nearest *self, const char *candidate);

/* "; did you mean 'WORD'?" in `target` with `before` and `after` in place of the quotes, or "" if
 * no word was near. Returns target. */
enum { NEAREST_TEXT_BYTES = NEAREST_BYTES_MAX + 64 };
char *nearest_text(const nearest *self, const char *before, const char *after,
                   char target[NEAREST_TEXT_BYTES]);
