/* SPDX-License-Identifier: Apache-2.0 */
/* Where the factors of a layer live. */
#include "src/base/base.h"
#include "src/layer/layer.h"

#include <assert.h>
#include <errno.h>

void *layer_allocate(const layer *self, size_t count, size_t size)
{
    assert(!self->spilled || self->scratch_fd >= 0);
    errno = ENOMEM;
    return self->spilled ? spill_allocate(self->scratch_fd, count, size)
                         : memory_aligned(count, size);
}

int layer_fail_allocation(const layer *self, didi_error *error)
{
    bool full = self->spilled && (errno == ENOSPC || errno == EDQUOT);
    return didi_fail(error, full ? DIDI_DISK_FULL : DIDI_NO_MEMORY, NULL,
                     "factors of a matrix of %zu x %zu%s", self->rows, self->columns,
                     full ? " do not fit the disk of the work directory" : "");
}
