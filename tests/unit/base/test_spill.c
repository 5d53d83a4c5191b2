/* SPDX-License-Identifier: Apache-2.0 */
/* Memory on disk keeps its contents while the process lets go of it. */
#include "src/base/fault.h"
#include "src/base/spill.h"
#include "tests/unit/support.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = 160 << 20, RESIDENT_MAX = SPILL_TOUCHED_BYTES_MAX + SPILL_PIECE_BYTES };

/* Bytes of mapped files in the process. */
static size_t resident_bytes(void)
{
    size_t total = 0;
    size_t resident = 0;
    size_t shared = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu %zu", &total, &resident, &shared), 3);
    (void)fclose(file);
    return shared * (size_t)sysconf(_SC_PAGESIZE);
}

static void contents_stay_while_memory_goes(void **state)
{
    size_t before = resident_bytes();
    size_t peak = 0;
    char *memory = spill_allocate(support_directory(state), BYTES / 8, 8);
    assert_non_null(memory);
    for (size_t first = 0; first < BYTES; first += 1 << 20) {
        assert_int_equal(memory[first], 0);
        memset(memory + first, (int)(first >> 20), 1 << 20);
        spill_touched(1 << 20);
        size_t now = resident_bytes();
        peak = now > peak ? now : peak;
    }
    assert_true(peak < before + RESIDENT_MAX);
    for (size_t first = 0; first < BYTES; first += 4096) {
        assert_int_equal((unsigned char)memory[first + 77], (first >> 20) & 0xff);
        spill_touched(4096);
    }
    spill_free(memory);
    assert_true(resident_bytes() < before + (1 << 20));
}

static void copies_are_whole(void **state)
{
    enum { COUNT = 40 << 20 };
    int directory = support_directory(state);
    char *from = spill_allocate(directory, COUNT, 1);
    char *to = malloc(COUNT);
    assert_true(from != NULL && to != NULL);
    for (size_t i = 0; i < COUNT; i += 4093)
        from[i] = (char)i;
    spill_copy(to, from, COUNT);
    assert_memory_equal(to, from, COUNT);
    spill_free(to);
    spill_free(from);
    spill_free(NULL);
    to = malloc(1);
    spill_free(to); /* nothing is spilled any more */
}

static void failures_are_told(void **state)
{
    int directory = support_directory(state);
    assert_null(spill_allocate(directory, SIZE_MAX / 2, 8));
    assert_int_equal(errno, ENOMEM);
    assert_null(spill_allocate(-1, 1, 1));
    assert_int_equal(errno, EBADF);
    assert_null(spill_allocate(directory, (size_t)1 << 46, 1));
    assert_true(errno == ENOSPC || errno == EFBIG);
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_null(spill_allocate(directory, 1, 1));
    assert_int_equal(errno, ENOMEM);
    char *empty = spill_allocate(directory, 0, 8);
    assert_non_null(empty);
    spill_free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(contents_stay_while_memory_goes),
        support_test(copies_are_whole),
        support_test(failures_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
