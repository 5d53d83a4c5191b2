/* SPDX-License-Identifier: Apache-2.0 */
/* Input: m - 1, n - 1 and the entries of a row in a byte each; then the columns of the entries, 16
 * bits each; then the bits of a mask. */
#include "src/package/picks.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* What was accepted takes of `masked` and adds to each row what it says. */
static void check_sum(const picks *found)
{
    uint64_t count = found->rows * found->columns;
    float *sum = calloc(count, sizeof *sum);
    didi_error error = {0};
    double wanted = (double)(found->rows * found->entries);
    double all = 0;
    check(sum != NULL);
    check(picks_add(found, 0, found->rows, sum, &error) == DIDI_OK);
    for (uint64_t i = 0; i < count; i++) {
        wanted += 2 * bits_at(found->mask, i);
        all += (double)sum[i];
    }
    check(all == wanted);
    free(sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    picks found = {.rows = (uint64_t)data[0] + 1,
                   .columns = (uint64_t)data[1] + 1,
                   .scale = 2,
                   .entries = data[2]};
    didi_error error = {0};
    uint64_t places = found.rows * found.entries;
    uint64_t count = found.rows * found.columns;
    data += 3;
    size -= 3;
    if (size / sizeof(uint16_t) < places)
        return 0;
    found.mask = malloc(size + 1);
    found.places = calloc(places + 1, sizeof *found.places);
    found.values = calloc(places + 1, sizeof *found.values);
    found.masked = calloc(count, sizeof *found.masked);
    check(found.mask != NULL && found.places != NULL && found.values != NULL &&
          found.masked != NULL);
    for (uint64_t i = 0; i < places; i++) {
        found.places[i] = (uint32_t)data[2 * i] | (uint32_t)data[2 * i + 1] << 8;
        found.values[i] = 1;
    }
    for (uint64_t i = 0; i < count; i++)
        found.masked[i] = 1;
    uint64_t bytes = size - places * sizeof(uint16_t);
    memcpy(found.mask, data + places * sizeof(uint16_t), bytes);
    if (places_check(found.places, found.rows, found.entries, found.columns, "tensor", &error) ==
            DIDI_OK &&
        bits_check(found.mask, bytes, count, "tensor", &error) == DIDI_OK)
        check_sum(&found);
    else
        check(error.status != DIDI_OK && error.message[0] != '\0');
    picks_clear(&found);
    return 0;
}
