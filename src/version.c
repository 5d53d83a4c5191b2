/* SPDX-License-Identifier: Apache-2.0 */
/* The version. Short because a new one compiles nothing else. */
#include "src/didi.h"

const char *didi_version(void)
{
    return DIDI_VERSION;
}
