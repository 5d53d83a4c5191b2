/* SPDX-License-Identifier: Apache-2.0 */
/* Counting failures by address. Short because it is a table and a window of time. */
#include "daemon/base/failures.h"

#include <stdio.h>
#include <string.h>

static bool is_over(const struct failures_row *row, int64_t now_ms)
{
    return now_ms - row->since_ms >= (int64_t)FAILURES_SECONDS * 1000;
}

static bool is_of(const struct failures_row *row, const char *address)
{
    return row->count > 0 && strncmp(row->address, address, sizeof row->address - 1) == 0;
}

int64_t failures_wait(const failures *self, const char *address, int64_t now_ms)
{
    for (int i = 0; i < FAILURES_ADDRESSES_MAX; i++) {
        const struct failures_row *row = &self->rows[i];
        if (is_of(row, address) && row->count >= FAILURES_MAX && !is_over(row, now_ms))
            return FAILURES_SECONDS - (now_ms - row->since_ms) / 1000;
    }
    return 0;
}

void failures_add(failures *self, const char *address, int64_t now_ms)
{
    struct failures_row *place = &self->rows[0];
    for (int i = 0; i < FAILURES_ADDRESSES_MAX; i++) {
        struct failures_row *row = &self->rows[i];
        if (is_of(row, address)) {
            place = row;
            break;
        }
        if (place->count > 0 && (row->count == 0 || row->since_ms < place->since_ms))
            place = row;
    }
    if (!is_of(place, address) || is_over(place, now_ms)) {
        (void)snprintf(place->address, sizeof place->address, "%s", address);
        place->since_ms = now_ms;
        place->count = 0;
    }
    place->count++;
}
