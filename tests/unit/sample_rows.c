/* SPDX-License-Identifier: Apache-2.0 */
/* Short because both tests that draw rows want the same. */
#include "tests/unit/sample_rows.h"

#include "src/math/random.h"
#include "tests/unit/support.h"

#include <stdlib.h>

void sample_row(uint64_t seed, float *ret_values, size_t count)
{
    enum { DRAWS = 4 };
    float *more = support_allocate(count * sizeof *more);
    random_normal(seed, ret_values, count, 1);
    for (uint64_t turn = 1; turn < DRAWS; turn++) {
        random_normal(seed + (turn << 32), more, count, 1);
        for (size_t i = 0; i < count; i++)
            ret_values[i] += more[i];
    }
    free(more);
}
