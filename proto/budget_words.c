/* SPDX-License-Identifier: Apache-2.0 */
/* From "bytes=N" to {"bytes": N}. */
#include "proto/budget_words.h"

#include "proto/choices.h"

#include <string.h>

json_t *budget_words_read(const char *text)
{
#define UNIT_NAME(id, name) name,
    static const char *const units[] = {BUDGET_CHOICES(UNIT_NAME)};
#undef UNIT_NAME
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    const char *mark = strchr(text, '=');
    size_t length = mark != NULL ? (size_t)(mark - text) : 0;
    for (size_t unit = BUDGET_BYTES; value == NULL && unit <= BUDGET_MAX_ERROR; unit++) {
        if (mark != NULL && length == strlen(units[unit]) &&
            strncmp(text, units[unit], length) == 0) {
            json_t *number = json_loads(mark + 1, JSON_DECODE_ANY, NULL);
            return json_pack("{s:o}", units[unit], number != NULL ? number : json_string(mark + 1));
        }
    }
    return value != NULL ? value : json_string(text);
}
