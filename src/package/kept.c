/* SPDX-License-Identifier: Apache-2.0 */
/* Names and types of the arrays in snapshots, by table. Short because the table is all. */
#include "src/package/kept.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    didi_dtype dtype;
} arrays[] = {
#define KEPT_ROW(id, name, dtype) {name, DIDI_DTYPE_##dtype},
    KEPT_ARRAY_TABLE(KEPT_ROW)
#undef KEPT_ROW
};

void kept_name(kept_array array, size_t index, char ret_name[KEPT_NAME_BYTES])
{
    (void)snprintf(ret_name, KEPT_NAME_BYTES, "%s.%zu", arrays[array].name, index);
}

didi_dtype kept_dtype(kept_array array)
{
    return arrays[array].dtype;
}

int kept_find(const snapshot *from, kept_array array, size_t index, uint64_t columns,
              uint64_t *ret_rows, const void **ret_data, didi_error *error)
{
    char name[KEPT_NAME_BYTES];
    kept_name(array, index, name);
    return snapshot_find(from, name, kept_dtype(array), columns, ret_rows, ret_data, error);
}

int kept_copy(const snapshot *from, kept_array array, double *values, size_t count,
              didi_error *error)
{
    const void *data = NULL;
    uint64_t rows = 0;
    int status = kept_find(from, array, 0, count, &rows, &data, error);
    if (status == DIDI_OK && rows != 1)
        status = didi_fail(error, DIDI_FORMAT, arrays[array].name, "layer state has %llu rows",
                           (unsigned long long)rows);
    if (status == DIDI_OK)
        memcpy(values, data, count * sizeof *values);
    return status;
}
