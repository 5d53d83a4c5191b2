/* SPDX-License-Identifier: Apache-2.0 */
/* What an attempt means, and when the next one is due. Pure: the time and the chance come in. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    RETRY_ATTEMPTS_MAX = 8, /* at once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 24 h */
    RETRY_AFTER_SECONDS_MAX = 24 * 3600, /* of a Retry-After that is obeyed */
};
#define RETRY_JITTER 0.2 /* a delay is longer by up to this part of it */

typedef struct retry_attempt {
    int http_status;             /* 0: no answer */
    int64_t retry_after_seconds; /* 0: none */
    unsigned attempts;           /* with this one; at least 1 */
    bool once;                   /* there is no second one */
    int64_t failing_since_ms;    /* of the endpoint; 0: not before this */
    int64_t failing_ms_max;      /* after which it is disabled; 0: never */
} retry_attempt;

typedef enum retry_verdict { RETRY_SUCCEEDED, RETRY_AGAIN, RETRY_GIVEN_UP } retry_verdict;

typedef struct retry_decision {
    retry_verdict verdict;
    int64_t due_ms;               /* of RETRY_AGAIN */
    bool is_gone, fails_too_long; /* why the endpoint is to be disabled */
} retry_decision;

/* `chance` is 0 .. 1. 2xx alone is success; 410 ends it, and disables. */
retry_decision retry_decide(const retry_attempt *attempt, int64_t now_ms, double chance);
