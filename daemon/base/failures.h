/* SPDX-License-Identifier: Apache-2.0 */
/* Who failed too often of late: callers name an address, and what it was that it failed at.
 * Bounded: when all places are taken, the one longest quiet goes. Zeroed, it knows nobody. Not
 * thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    FAILURES_ADDRESSES_MAX = 1024,
    FAILURES_MAX = 10,     /* of one address ... */
    FAILURES_SECONDS = 60, /* ... within this time; then it is refused for the rest of it */
    FAILURES_ADDRESS_BYTES = 128,
};

typedef struct failures {
    struct failures_row {
        char address[FAILURES_ADDRESS_BYTES];
        int64_t since_ms; /* when the first of them was */
        unsigned count;   /* 0: the place is free */
    } rows[FAILURES_ADDRESSES_MAX];
} failures;

/* Seconds that this address has to wait, 0: none. Times are of a clock that does not go back. */
int64_t failures_wait(const failures *self, const char *address, int64_t now_ms);

/* Notes a failure. */
void failures_add(failures *self, const char *address, int64_t now_ms);
