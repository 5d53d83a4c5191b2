/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong tokens by address. Short because counting is done in base. */
#include "daemon/access/limiter.h"

bool limiter_attempt(failures *self, const char *address, int64_t now_ms, int *ret_seconds)
{
    char key[ADDRESS_OWNER_BYTES];
    address_owner(address, key);
    int64_t seconds = failures_wait(self, key, now_ms);
    if (seconds == 0)
        failures_add(self, key, now_ms);
    else
        *ret_seconds = (int)seconds;
    return seconds == 0;
}
