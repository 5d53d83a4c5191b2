/* SPDX-License-Identifier: Apache-2.0 */
/* The retry table. Short because it is a table and a rule. */
#include "daemon/webhooks/retry.h"

#include "src/base/base.h"

#include <assert.h>

enum { HTTP_GONE = 410 };

/* Seconds from one attempt to the next. */
static const int64_t delays[RETRY_ATTEMPTS_MAX - 1] = {5,        5 * 60,    30 * 60,  2 * 3600,
                                                       5 * 3600, 10 * 3600, 24 * 3600};

retry_decision retry_decide(const retry_attempt *attempt, int64_t now_ms, double chance)
{
    retry_decision decision = {.verdict = RETRY_GIVEN_UP};
    assert(attempt->attempts > 0 && chance >= 0 && chance <= 1);
    if (attempt->http_status >= 200 && attempt->http_status < 300) {
        decision.verdict = RETRY_SUCCEEDED;
        return decision;
    }
    decision.is_gone = attempt->http_status == HTTP_GONE;
    decision.fails_too_long = attempt->failing_ms_max > 0 && attempt->failing_since_ms > 0 &&
                              now_ms - attempt->failing_since_ms >= attempt->failing_ms_max;
    if (decision.is_gone || attempt->once || attempt->attempts >= RETRY_ATTEMPTS_MAX)
        return decision;
    int64_t wait = attempt->retry_after_seconds;
    wait = wait > RETRY_AFTER_SECONDS_MAX ? RETRY_AFTER_SECONDS_MAX : wait;
    int64_t delay = delays[attempt->attempts - 1];
    delay = wait > delay ? wait : delay;
    decision.verdict = RETRY_AGAIN;
    decision.due_ms = now_ms + (int64_t)((double)delay * 1000 * (1 + RETRY_JITTER * chance));
    return decision;
}
