/* SPDX-License-Identifier: Apache-2.0 */
/* The version, given by the build. */
#include "src/didi.h"

const char *didi_version(void)
{
    return DIDI_VERSION;
}
